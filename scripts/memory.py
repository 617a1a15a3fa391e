"""Run an experiment on a corpus several times as large as the memory that it may use.

`python scripts/memory.py --megabytes 3000 --limit 1000` writes that much human text, puts itself under a limit of that
many MiB, which the kernel enforces, and then mixes, trains on, writes, measures and verifies as a user would, with the
ordinary commands. It takes the right to make a control group, or a limit that is already there:
`systemd-run --user --scope -p MemoryMax=1000M -p MemorySwapMax=0 python scripts/memory.py --megabytes 3000`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
import psutil
import yaml
from rich.console import Console
from rich.table import Table

from lmcollapse.files import write_json

TYPES = 50_000
"""Words that the human text has, the k-th in proportion to 1 / k."""
WORDS = 1_000_000
"""Of one file of it; documents have 200."""
GROUPS = Path("/sys/fs/cgroup")
CONFIGURATION = {
    "policy": "accumulate",
    "generations": 2,
    "start": "previous",
    "model": {"name": "scratch", "layers": 2, "width": 64, "heads": 2, "vocabulary": 32_000},
    "train": {"steps": 50, "batch_size": 16, "block_size": 256},
    "sampling": {"tokens": 20_000},
    "measures": {"words": 10_000},
    "compute": {"device": "cpu"},
}


def write_text(folder: Path, megabytes: int) -> None:
    """Files of human text, and one of another text to hold out."""
    draw = np.random.default_rng(0)
    syllables = [f"{consonant}{vowel}" for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    stems = ["".join(drawn) for drawn in draw.permutation(list(product(syllables, repeat=3)))[: TYPES // 5]]
    words = draw.permutation([f"{stem}{end}" for stem in stems for end in ("", "ed", "ing", "s", "ly")])
    shares = 1 / np.arange(1, TYPES + 1)
    shares /= shares.sum()

    def text(count: int) -> str:
        drawn = words[draw.choice(TYPES, count, p=shares)].reshape(-1, 200)
        return "\n\n".join(" ".join(document) for document in drawn)

    (folder / "human").mkdir()
    written = 0
    while written < megabytes * 1e6:
        file = folder / "human" / f"part_{len(list((folder / 'human').iterdir())):03d}.txt"
        written += file.write_text(text(WORDS), encoding="utf-8")
    (folder / "heldout.txt").write_text(text(20_000), encoding="utf-8")


def limit_in_force() -> float:
    """MiB that the control group of this process may use; infinite without a limit."""
    group = next((line for line in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in line), None)
    if group is not None:
        file = GROUPS / "memory" / group.split(":")[2].lstrip("/") / "memory.limit_in_bytes"
    else:
        unified = Path("/proc/self/cgroup").read_text().splitlines()[-1].split(":")[2].lstrip("/")
        file = GROUPS / unified / "memory.max"
    found = file.read_text().strip() if file.is_file() else "max"
    return float("inf") if found == "max" or int(found) > 2**60 else int(found) / 2**20


def put_under(limit: int) -> None:
    """Move this process into a control group of its own. Raises OSError where it may not."""
    first = (GROUPS / "memory").is_dir()
    group = (GROUPS / "memory" if first else GROUPS) / "lmcollapse-memory"
    group.mkdir(exist_ok=True)
    (group / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(limit * 2**20))
    (group / "cgroup.procs").write_text("0")


def watched(words: list[str]) -> dict[str, float]:
    """A command, its exit status, seconds, and the most that it held in memory of its own, in MiB."""
    began, most = time.monotonic(), 0.0
    # the C library gives back what is free, which costs a little time, in the place of keeping up to 256 MiB of it
    environment = {"MALLOC_TRIM_THRESHOLD_": "131072", **os.environ}
    command = [sys.executable, "-m", "lmcollapse", *words]
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    while process.poll() is None:
        try:
            most = max(most, (process.memory_info().rss - process.memory_info().shared) / 2**20)
        except psutil.Error:
            break
        time.sleep(0.2)
    return {"status": process.wait(), "seconds": time.monotonic() - began, "held": most}


def main() -> None:
    """Run and print; status 1 where a command failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=3000, help="of human text (3000)")
    parser.add_argument("--limit", type=int, help="MiB; by default the limit that this process is under already")
    parser.add_argument("--folder", type=Path, help="where to put text and run; by default a temporary one")
    parser.add_argument("--record", type=Path, help="a JSON file for all that was measured")
    given = parser.parse_args()
    if given.limit is not None:
        try:
            put_under(given.limit)
        except OSError as error:
            parser.error(f"--limit: this user may not make a control group ({error}); see the command in --help")
    limit = limit_in_force()
    if limit == float("inf"):
        parser.error("there is no limit on memory: give --limit, or see the command in --help")
    if given.megabytes * 1e6 < 2 * limit * 2**20:
        parser.error(
            f"--megabytes is {given.megabytes}, less than twice the limit of {limit:.0f} MiB: that shows nothing"
        )
    folder = given.folder or Path(tempfile.mkdtemp(prefix="lmcollapse-memory-"))
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "human").exists():
        write_text(folder, given.megabytes)
    corpus = {
        "kind": "files",
        "path": str(folder / "human"),
        "heldout": str(folder / "heldout.txt"),
        "document": "paragraph",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump({**CONFIGURATION, "corpus": corpus}), encoding="utf-8")
    run = str(folder / "run")
    commands = {
        "run": ["run", str(folder / "config.yaml"), "--out", run],
        "measure": ["measure", f"{run}/human/train.parquet", "--reference", run, "--words", "100000"],
        "verify": ["verify", run],
        "export": ["export", run, "--out", str(folder / "export")],
    }
    record, shown = {}, Table("command", "status", "seconds", "most memory of its own, MiB", box=None)
    for name, words in commands.items():
        record[name] = found = watched(words)
        shown.add_row(name, f"{found['status']:.0f}", f"{found['seconds']:.0f}", f"{found['held']:.0f}")
    size = sum(file.stat().st_size for file in (folder / "human").iterdir()) / 1e6
    Console(highlight=False).print(shown)
    print(f"{size:,.0f} MB of text under a limit of {limit:,.0f} MiB: {size * 1e6 / limit / 2**20:.1f} times as much")
    if given.record:
        write_json(given.record, {"megabytes": size, "limit": limit, "commands": record})
    if given.folder is None:
        shutil.rmtree(folder)
    sys.exit(any(found["status"] for found in record.values()))


if __name__ == "__main__":
    main()
