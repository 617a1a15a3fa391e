"""A run of very many generations: does a generation cost more the later it comes, in time, memory or anything else?

`python scripts/soak.py` makes 200 generations of a small language model under `replace`, so that every generation has
the same work to do, and fits a line to what each one takes. `--record FILE` keeps what was measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from rich.console import Console
from rich.table import Table
from scipy import stats

from lmcollapse.config import load
from lmcollapse.files import files_in, write_json
from lmcollapse.loop import run
from lmcollapse.manifest import hardware, versions
from lmcollapse.store import Part
from lmcollapse.types import Silent

CASES: Mapping[str, Mapping[str, Any]] = {
    "language model": {
        "start": "previous",
        "corpus": {"kind": "docs", "train_words": 2000, "heldout_words": 800},
        "model": {"name": "scratch", "layers": 2, "width": 32, "heads": 2, "vocabulary": 300},
        "train": {"block_size": 32, "epochs": 1, "batch_size": 16},
        "compute": {"device": "cpu"},
    },
    "n-grams": {"substrate": "ngram", "corpus": {"kind": "docs", "train_words": 2000, "heldout_words": 800}},
}
FIRST = 10
"""Generations that are left out of the line: buffers grow to their size, files come into the cache."""
UNITS = {
    "seconds": "s of processor",
    "memory": "MiB resident",
    "descriptors": "open files",
    "threads": "threads",
    "disk": "kB written",
}


class Watching(Silent):
    """Notes what this process has and has taken at the end of each generation."""

    def __init__(self, out: Path) -> None:
        self.rows: list[dict[str, float]] = []
        self._out = out
        self._process = psutil.Process()
        self._last = time.process_time()

    def finished(self, generation: int, readings: Mapping[str, float | None]) -> None:
        """One row a generation."""
        now = time.process_time()
        folder = self._out / f"generation_{generation:03d}"
        self.rows.append(
            {
                "generation": generation,
                "seconds": now - self._last,
                "memory": self._process.memory_info().rss / 2**20,
                "descriptors": self._process.num_fds(),
                "threads": self._process.num_threads(),
                "disk": sum(file.stat().st_size for file in files_in(folder)) / 1e3,
            }
        )
        self._last = time.process_time()  # looking costs nothing of the next one


def soak(name: str, generations: int, folder: Path) -> list[dict[str, float]]:
    """The rows of one run."""
    file, out = folder / "config.yaml", folder / "run"
    folder.mkdir()
    file.write_text(yaml.safe_dump({**CASES[name], "generations": generations}), encoding="utf-8")
    watching = Watching(out)
    run(load(file), out, watching, Part(keep_models="first_last"))
    return watching.rows


def growth(values: Sequence[float]) -> dict[str, float]:
    """A line through what all generations but the first few took: its middle, and what it gains from end to end.

    gain, low, high : in units of the middle, with a 95 % interval by Student's t, as if generations were independent.
    """
    later = np.asarray(values[FIRST:])
    line = stats.linregress(np.arange(len(later)), later)
    middle, steps = float(later.mean()), len(later) - 1
    half = float(stats.t.ppf(0.975, len(later) - 2) * np.nan_to_num(line.stderr))  # of what never changes: none
    gain, half = (float(each) * steps / middle for each in (line.slope, half))
    return {"middle": middle, "gain": gain, "low": gain - half, "high": gain + half}


def main() -> None:
    """Run and print; status 1 where something surely grows by more than a tenth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=200, help="of each run (200)")
    parser.add_argument("--cases", default=",".join(CASES), help=f"some of {', '.join(CASES)}")
    parser.add_argument("--record", type=Path, help="a JSON file for all that was measured")
    given = parser.parse_args()
    if unknown := set(given.cases.split(",")) - set(CASES):
        parser.error(f"unknown case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    if given.generations < FIRST + 3:
        parser.error(f"--generations is {given.generations}; it takes {FIRST + 3} to fit a line to the later ones")
    record: dict[str, Any] = {"hardware": hardware(), "versions": versions(), "cases": {}}
    shown = Table("run", "a generation takes", "", "from first to last", "95 %", box=None)
    with tempfile.TemporaryDirectory(prefix="lmcollapse-soak-") as folder:
        for name in given.cases.split(","):
            rows = soak(name, given.generations, Path(folder) / name.replace(" ", "_"))
            found = {what: growth([row[what] for row in rows]) for what in UNITS}
            record["cases"][name] = {"growth": found, "rows": rows}
            for what, of in found.items():
                between = f"{of['low']:+.1%} to {of['high']:+.1%}"
                shown.add_row(name, f"{of['middle']:.4g}", UNITS[what], f"{of['gain']:+.1%}", between)
    Console(highlight=False).print(shown)
    if given.record:
        write_json(given.record, json.loads(json.dumps(record, default=str)))
    sys.exit(any(of["low"] > 0.1 for case in record["cases"].values() for of in case["growth"].values()))


if __name__ == "__main__":
    main()
