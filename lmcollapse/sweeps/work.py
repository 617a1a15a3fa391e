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

from lmcollapse import processes
from lmcollapse.files import regular, write_atomically
from lmcollapse.loop import run
from lmcollapse.progress import number, shown
from lmcollapse.records import holder
from lmcollapse.store import InUse
from lmcollapse.sweeps.mending import mend
from lmcollapse.sweeps.plan import ERRORS, Cell, Sweep
from lmcollapse.types import Advance, Emptied, Ended, Progress, Silent, UserError


@dataclass
class Outcome:
    """What came of the runs that this process took.

    failed : why, by name.
    elsewhere : runs that other processes hold.
    """

    made: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)


def work(
    sweep: Sweep, progress: Progress | None = None, cells: Sequence[Cell] | None = None, *, retry: bool = True
) -> Outcome:
    """Make every run that nobody else is making, or go on with it.

    One that ends early, as by a fit that diverges, is made. One that fails is reported and leaves the reason in
    `errors/`; the others go on, and no other process takes it up meanwhile. Processes that torchrun has started make
    each run together, and end together where one fails, since they may have come to different points of it.

    cells : only these.
    retry : take up runs, too, that had failed before this call, and those of which a finished step is damaged.
    """
    sweep.begin()
    told, outcome = OneOfMany(progress or Silent()), Outcome()
    if retry and cells is None:
        mend(sweep, told)
    cells = sweep.cells if cells is None else cells
    before = {cell.name: stamp(sweep.out, cell) for cell in cells} if retry else {}
    while True:
        left = [cell for cell in cells if stamp(sweep.out, cell) in (None, before.get(cell.name))]
        chosen = _next(left, outcome) if processes.is_first() else None
        name = processes.agree(chosen and chosen.name)
        if name is None:
            return outcome
        cell = next(cell for cell in cells if cell.name == name)
        told.name = cell.name
        try:
            run(cell.config, cell.path, told, cell.part)
        except InUse:
            if processes.count() > 1:
                raise
            outcome.elsewhere.append(cell.name)
            continue
        except Ended as error:
            told.say(f"{cell.name}: {error}")
            if processes.count() > 1 and isinstance(error, Emptied):
                raise  # the first process alone has met with it, and the others wait for what it makes
        except Exception as error:  # one run must not take the others with it
            outcome.failed[cell.name] = _noted(sweep.out, cell, error)
            told.say(f"{cell.name}: {outcome.failed[cell.name]}")
            if processes.count() > 1:
                raise
            continue
        outcome.made.append(cell.name)
        if processes.is_first():
            error_file(sweep.out, cell.path).unlink(missing_ok=True)
        outcome.elsewhere.clear()  # while this one was made, others may have been left


def _next(cells: Sequence[Cell], outcome: Outcome) -> Cell | None:
    """The run to take up: the first that is not complete, of a seed that nobody works on, if there is one.

    Runs of one seed wait for each other's generation 0.
    """
    passed = {*outcome.made, *outcome.failed, *outcome.elsewhere}
    left = [cell for cell in cells if cell.name not in passed and not cell.complete]
    held = {cell.name: cell.seed for cell in cells if any(holder(path) for path in (cell.path, *cell.runs))}
    if processes.count() > 1:  # the others cannot be told that a run is in use once they have begun it
        outcome.elsewhere += [cell.name for cell in left if cell.name in held]
        left = [cell for cell in left if cell.name not in held]
    return min(left, key=lambda cell: cell.seed in held.values(), default=None)


def error_file(out: Path, run: Path) -> Path:
    """Where it is written why a run failed: a line for a person, and a bug's traceback below it."""
    return out / ERRORS / f"{run.parent.name}-{run.name}.txt"


def failure(out: Path, run: Path) -> str | None:
    """Why a run failed when it was last made, in a line; None where it did not."""
    try:
        return regular(error_file(out, run)).read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    except OSError:
        return None


def stamp(out: Path, cell: Cell) -> int | None:
    """When a run failed last, by whatever clock the directory goes."""
    try:
        return error_file(out, cell.path).stat().st_mtime_ns
    except OSError:
        return None


def forget_failures(sweep: Sweep) -> None:
    """Let every run that failed be taken up again."""
    for cell in sweep.cells:
        error_file(sweep.out, cell.path).unlink(missing_ok=True)


def note_failure(out: Path, cell: Cell, reason: str, more: str = "") -> None:
    """Leave word of a run that failed."""
    if not processes.is_first():
        return
    file = error_file(out, cell.path)
    file.parent.mkdir(exist_ok=True)
    write_atomically(file, f"{reason}\n{more}".encode())


def _noted(out: Path, cell: Cell, error: Exception) -> str:
    """What went wrong, in a line; a bug's traceback is kept."""
    if isinstance(error, UserError):
        reason, more = str(error), ""
    else:
        reason = f"failed with {type(error).__name__}: {error} ({error_file(out, cell.path)})"
        more = "".join(traceback.format_exception(error))
    reason = " ".join(reason.split())
    note_failure(out, cell, reason, more)
    return reason


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

    def stage(self, label: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Advance]:
        """See `types.Progress`."""
        return self._progress.stage(f"{self.name} · {label}", total, unit)

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
