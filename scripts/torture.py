"""Kill runs with SIGKILL at random moments, resume them, and compare every byte with an uninterrupted run.

`python scripts/torture.py --minutes 10` kills as often as ten minutes allow. Most runs are forked from this process,
which has imported everything and started nothing; every tenth is the ordinary command. `--record FILE` adds the counts
to those of earlier calls, so that a record grows over machines and days.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lmcollapse.config import load
from lmcollapse.files import write_json
from lmcollapse.loop import run
from lmcollapse.records import LOCK
from lmcollapse.status import status_of
from lmcollapse.verify.same import different_files

CASES: Mapping[str, Mapping[str, Any]] = {
    "language model": {
        "start": "previous",
        "generations": 2,
        "policy": {"kind": "mix", "human_fraction": 0.5},
        "corpus": {"kind": "docs", "train_words": 2000, "heldout_words": 800},
        "model": {"name": "scratch", "layers": 2, "width": 32, "heads": 2, "vocabulary": 300},
        "train": {"block_size": 32, "epochs": 2, "batch_size": 16, "checkpoint_minutes": 0.01},
        "sampling": {"temperature": 0.9, "tokens": 4000},
        "compute": {"device": "cpu"},
    },
    "n-grams": {
        "substrate": "ngram",
        "generations": 3,
        "policy": "accumulate",
        "corpus": {"kind": "docs", "train_words": 2000, "heldout_words": 800},
    },
    "Gaussians": {"substrate": "gaussian", "generations": 300, "chains": 50, "rows": 50},
}
"""Small runs of each kind."""
REAL = 0.1
"""Share of the starts that go through the command line."""
SLOWEST = 1.15
"""Moments are drawn up to so many times what a run takes, so that some starts come through."""


@dataclass
class Count:
    """What has happened so far.

    at : kills by the step that was being made.
    """

    kills: int = 0
    through_the_command: int = 0
    runs: int = 0
    resumed: int = 0
    different: list[str] = field(default_factory=list)
    at: Counter[str] = field(default_factory=Counter)


def main() -> None:
    """Torture, and exit with status 1 where a byte differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (5)")
    parser.add_argument("--seed", type=int, default=None, help="of the moments; by default the clock's")
    parser.add_argument("--cases", default=",".join(CASES), help=f"some of {', '.join(CASES)}")
    parser.add_argument("--record", type=Path, help="a JSON file to which the counts are added")
    given = parser.parse_args()
    unknown = set(given.cases.split(",")) - set(CASES)
    if unknown:
        parser.error(f"unknown case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    moments = random.Random(time.time_ns() if given.seed is None else given.seed)
    end = time.monotonic() + 60 * given.minutes
    counts = {name: Count() for name in given.cases.split(",")}
    with tempfile.TemporaryDirectory(prefix="lmcollapse-torture-") as folder:
        number = 0
        while time.monotonic() < end:
            number += 1
            for name, count in counts.items():
                if time.monotonic() < end:
                    torture(Path(folder) / f"{number}", name, count, moments, end)
    for name, count in counts.items():
        say(name, count)
    if given.record:
        add_to_record(given.record, counts)
    sys.exit(any(count.different for count in counts.values()))


def torture(folder: Path, name: str, count: Count, moments: random.Random, end: float) -> None:
    """One configuration with a new seed: uninterrupted once, then killed until it has come through all the same."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump({**CASES[name], "seed": moments.randrange(10**6)}), encoding="utf-8")
    began = time.monotonic()
    assert wait(fork(file, folder / "whole")) == 0, f"{name}: the uninterrupted run failed"
    takes = time.monotonic() - began
    out, starts = folder / "killed", 0
    while True:
        real = moments.random() < REAL
        process = command(file, out) if real else fork(file, out)
        starts += 1
        # now and then the moment lies after the end; when time is up, it always does
        moment = moments.uniform(0, SLOWEST * takes) + (3.0 if real else 0.0)
        status = wait(process, None if time.monotonic() > end else moment)
        if status == 0:
            break
        assert status == -signal.SIGKILL, f"{name}: ended with {status} in {out}"
        count.kills += 1
        count.through_the_command += real
        count.at[where(out)] += 1
    count.runs += 1
    count.resumed += starts > 1
    count.different += [f"{name}, {file}: {each}" for each in different_files(folder / "whole", out)]
    if not count.different:
        shutil.rmtree(folder)


def where(out: Path) -> str:
    """The step that a killed run was at, as its directory tells."""
    if not (out / LOCK).exists():
        return "start"
    words = status_of(out, "killed").state.partition(": ")[2].split(", ")
    return words[-1] if len(words) > 1 else words[0].partition(" ")[0] or "end"


def fork(file: Path, out: Path) -> int:
    """A run in a child of this process, its number."""
    child = os.fork()
    if child:
        return child
    try:
        with Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), 1)
        run(load(file), out)
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)


def command(file: Path, out: Path) -> int:
    """The same by the command line."""
    words = [sys.executable, "-m", "lmcollapse", "run", str(file), "--out", str(out), "--no-figures"]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid


def wait(process: int, seconds: float | None = None) -> int:
    """The exit status of a child, which is killed after so many seconds."""
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        found, status = os.waitpid(process, os.WNOHANG if end is not None else 0)
        if found:
            return os.waitstatus_to_exitcode(status)
        if end is not None and time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
            end = None
        time.sleep(0.002)


def say(name: str, count: Count) -> None:
    """A line a case, and a line a difference."""
    at = ", ".join(f"{step} {times}" for step, times in count.at.most_common())
    print(
        f"{name}: {count.kills} kills survived, {count.through_the_command} of them through the command line; "
        f"{count.runs} runs, {len(count.different)} differences; killed at: {at or 'nothing'}"
    )
    for each in count.different:
        print(f"  {each}")


def add_to_record(file: Path, counts: Mapping[str, Count]) -> None:
    """Counts of all calls together, by case."""
    record = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for name, count in counts.items():
        before = record.setdefault(name, {"kills": 0, "through_the_command": 0, "runs": 0, "different": 0, "at": {}})
        before["kills"] += count.kills
        before["through_the_command"] += count.through_the_command
        before["runs"] += count.runs
        before["different"] += len(count.different)
        before["at"] = dict(sorted((Counter(before["at"]) + count.at).items()))
    write_json(file, record)


if __name__ == "__main__":
    main()
