"""The runs of a sweep, made one after another by this process; others may do the same at the same time.

There is no queue and no master: a run directory is held by whoever makes it, and each process takes the next one that
nobody holds. A second terminal, a worker on another core and a job on another machine that sees the same directory all
do the same.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmcollapse import processes
from lmcollapse.files import write_atomically
from lmcollapse.loop import run
from lmcollapse.progress import number, shown
from lmcollapse.store import InUse, holder
from lmcollapse.sweeps.plan import Cell, Sweep
from lmcollapse.types import Diverged, Progress, Silent, UserError

ERRORS = "errors"
"""The folder, in that of a sweep, of what went wrong with a run."""


@dataclass
class Outcome:
    """What came of the runs that this process took.

    failed : why, by name.
    elsewhere : runs that other processes hold.
    """

    made: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)


def work(sweep: Sweep, progress: Progress | None = None, cells: Sequence[Cell] | None = None) -> Outcome:
    """Make every run that nobody else is making, or go on with it.

    One that fails is reported and leaves its traceback in `errors/`; the others go on. Processes that torchrun has
    started make each run together.

    cells : only these.
    """
    sweep.begin()
    told, outcome = OneOfMany(progress or Silent()), Outcome()
    while True:
        cell = processes.agree(_next(sweep.cells if cells is None else cells, outcome))
        if cell is None:
            return outcome
        told.name = cell.name
        try:
            run(cell.config, cell.path, told, cell.part)
        except InUse:
            outcome.elsewhere.append(cell.name)
            continue
        except Diverged as error:
            told.say(f"{cell.name}: {error}")
        except Exception as error:  # one run must not take the others with it
            outcome.failed[cell.name] = _noted(sweep.out, cell, error)
            told.say(f"{cell.name}: {outcome.failed[cell.name]}")
            continue
        outcome.made.append(cell.name)
        outcome.elsewhere.clear()  # while this one was made, others may have been left


def _next(cells: Sequence[Cell], outcome: Outcome) -> Cell | None:
    """The run to take up: the first that is not complete, of a seed that nobody works on, if there is one.

    Runs of one seed wait for each other's generation 0.
    """
    passed = {*outcome.made, *outcome.failed, *outcome.elsewhere}
    left = [cell for cell in cells if cell.name not in passed and not cell.complete]
    held = {cell.seed for cell in cells if any(holder(path) for path in (cell.path, *cell.runs))} if left else set()
    return min(left, key=lambda cell: cell.seed in held, default=None)


def _noted(out: Path, cell: Cell, error: Exception) -> str:
    """What went wrong in a line; a bug's traceback is kept."""
    if isinstance(error, UserError):
        return str(error)
    folder = out / ERRORS
    folder.mkdir(exist_ok=True)
    file = folder / f"{cell.path.parent.name}-{cell.path.name}.txt"
    write_atomically(file, "".join(traceback.format_exception(error)).encode())
    return f"failed with {type(error).__name__}: {error} ({file})"


class OneOfMany:
    """Progress of one run among many: its last generation is told, and the stages say which run they are of.

    What several runs say in the same words is said once.

    measure : the one that is told; by default those that a person following a run sees.
    """

    def __init__(self, progress: Progress, measure: str | None = None) -> None:
        self.name = ""
        self._progress, self._measure = progress, measure
        self._last = 0
        self._said: set[str] = set()

    def say(self, line: str) -> None:
        """See `types.Progress`."""
        if line not in self._said:
            self._said.add(line)
            self._progress.say(line)

    def stage(self, label: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Any]:
        """See `types.Progress`."""
        stage: AbstractContextManager[Any] = self._progress.stage(f"{self.name} · {label}", total, unit)
        return stage

    def started(self, generation: int, generations: int) -> None:
        """See `types.Progress`."""
        self._last = generations - 1
        self._progress.started(generation, generations)

    def finished(self, generation: int, readings: Mapping[str, float | None]) -> None:
        """See `types.Progress`."""
        if generation != self._last:
            return
        headings = {self._measure: self._measure} if self._measure else shown(readings)
        figures = ", ".join(f"{heading} {number(readings.get(key))}" for key, heading in headings.items())
        self.say(f"{self.name}: {figures} in generation {generation}")
