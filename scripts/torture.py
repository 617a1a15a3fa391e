"""Kill runs with SIGKILL at random moments, resume them, and compare every byte with an uninterrupted run.

`python scripts/torture.py --minutes 10` kills as often as ten minutes allow. Most runs are forked from this process,
which has imported everything and started nothing; every fifth is the ordinary command. `--record FILE` adds the counts
to those of earlier calls, so that a record grows over machines and days.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
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
from collections.abc import Callable, Mapping
from contextlib import suppress
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
        "corpus": {"kind": "files"},
        "model": {"name": "scratch", "layers": 2, "width": 32, "heads": 2, "vocabulary": 300},
        "train": {"block_size": 32, "epochs": 2, "batch_size": 16, "checkpoint_minutes": 0.01},
        "sampling": {"temperature": 0.9, "tokens": 4000},
        "compute": {"device": "cpu"},
    },
    "n-grams": {
        "substrate": "ngram",
        "generations": 3,
        "policy": "accumulate",
        "corpus": {"kind": "files"},
    },
    "Gaussians": {"substrate": "gaussian", "generations": 2000, "chains": 500, "rows": 100},
}
"""Small runs of each kind; a text is written for those that read one."""
WORDS = 2000
"""Of the human text."""
REAL = 0.2
"""Share of the starts that go through the command line."""
KILLS = 8
"""Of each run, about; moments are drawn without memory, so that a stretch is hit as often as it is long."""
LEAST = 0.1
"""Seconds between the first two kills, on average: a run that is over sooner would hardly start in between."""
GROWTH = 1.15
"""Of that average with every kill: a run comes to its end although some step takes longer than the first pauses."""


@dataclass
class Count:
    """What has happened so far.

    at : kills by the step that was being made.
    """

    kills: int = 0
    through_the_command: int = 0
    runs: int = 0
    different: list[str] = field(default_factory=list)
    at: Counter[str] = field(default_factory=Counter)


def main() -> None:
    """Torture, and exit with status 1 where a byte differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (5); every case once in any event")
    parser.add_argument("--seed", type=int, default=None, help="of the moments; by default the clock's")
    parser.add_argument("--cases", default=",".join(CASES), help=f"some of {', '.join(CASES)}")
    parser.add_argument("--record", type=Path, help="a JSON file to which the counts are added")
    given = parser.parse_args()
    unknown = set(given.cases.split(",")) - set(CASES)
    if unknown:
        parser.error(f"unknown case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    moments = random.Random(time.time_ns() if given.seed is None else given.seed)
    counts = {name: Count() for name in given.cases.split(",")}
    with tempfile.TemporaryDirectory(prefix="lmcollapse-torture-") as folder:
        for name in counts:
            warm_up(Path(folder), name)
        end = time.monotonic() + 60 * given.minutes
        for number in itertools.count():
            for name, count in counts.items():
                if number == 0 or time.monotonic() < end:
                    torture(Path(folder) / f"{number}", name, count, moments, end)
            if time.monotonic() > end:
                break
    for name, count in counts.items():
        say(name, count)
    if given.record:
        add_to_record(given.record, counts)
    sys.exit(any(count.different for count in counts.values()))


def torture(folder: Path, name: str, count: Count, moments: random.Random, end: float) -> None:
    """One configuration with a new seed: uninterrupted once, then killed until it has come through all the same."""
    file = configuration(folder, name, moments.randrange(10**6))
    began = time.monotonic()
    assert wait(fork(lambda: run(load(file), folder / "whole"))) == 0, f"{name}: the uninterrupted run failed"
    takes = time.monotonic() - began
    out, starts, pause = folder / "killed", 0, max(LEAST, takes / KILLS)
    while True:
        real = moments.random() < REAL
        process = command(file, out) if real else fork(lambda: run(load(file), out))
        starts += 1
        if real:
            wait_for_the_run(process, out)
        # when time is up, a run that was killed is left to come through
        over = starts > 1 and time.monotonic() > end
        status = wait(process, None if over else moments.expovariate(1 / pause))
        if status == 0:
            break
        assert status == -signal.SIGKILL, f"{name}: ended with {status} in {out}"
        pause *= GROWTH
        count.kills += 1
        count.through_the_command += real
        count.at[where(out)] += 1
    count.runs += 1
    count.different += [f"{name}, {file}: {each}" for each in different_files(folder / "whole", out)]
    if not count.different:
        shutil.rmtree(folder)


def configuration(folder: Path, name: str, seed: int) -> Path:
    """The configuration of a case in a file, with a text for it in another one."""
    folder.mkdir(parents=True)
    given = {**CASES[name], "seed": seed}
    if "corpus" in given:
        draw = random.Random(0)
        words = [f"{stem}{draw.choice(('', 'ed', 'ing', 's'))}" for stem in map(str, range(100, 400))]
        sizes = [1 / rank for rank in range(1, len(words) + 1)]
        text = "\n\n".join(" ".join(draw.choices(words, sizes, k=40)) for _ in range(WORDS // 40))
        (folder / "human.txt").write_text(text, encoding="utf-8")
        given["corpus"] = {**given["corpus"], "path": str(folder / "human.txt"), "heldout_fraction": 0.3}
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(given), encoding="utf-8")
    return file


def warm_up(folder: Path, name: str) -> None:
    """Import here what a run imports, so that no child has to: a child says what that is.

    Nothing is run here, since a process that computes with several threads cannot be forked any more.
    """
    file, names = configuration(folder / "warm_up", name, 0), folder / "modules.txt"

    def listing() -> None:
        run(load(file), folder / "warm_up" / "run")
        names.write_text("\n".join(sys.modules), encoding="utf-8")

    assert wait(fork(listing)) == 0, f"{name}: a run that nobody disturbed failed"
    for module in names.read_text(encoding="utf-8").split("\n"):
        with suppress(Exception):  # some modules are not to be imported by their names
            importlib.import_module(module)
    shutil.rmtree(folder / "warm_up")


def where(out: Path) -> str:
    """The step that a killed run was at, as its directory tells."""
    if not (out / LOCK).exists():
        return "start"
    words = status_of(out, "killed").state.partition(": ")[2].replace("before generation 0", "start").split(", ")
    return words[-1] if len(words) > 1 else words[0].partition(" ")[0] or "end"


def fork(work: Callable[[], object]) -> int:
    """The number of a child of this process that does some work."""
    child = os.fork()
    if child:
        return child
    try:
        with Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), 1)
        work()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)


def command(file: Path, out: Path) -> int:
    """The same by the command line."""
    words = [sys.executable, "-m", "lmcollapse", "run", str(file), "--out", str(out), "--no-figures"]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid


def wait_for_the_run(process: int, out: Path) -> None:
    """Until a command has started and holds its run directory, or has ended."""
    lock = out / LOCK
    while os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if lock.exists() and str(process) in lock.read_text(encoding="utf-8"):
            return
        time.sleep(0.01)


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
