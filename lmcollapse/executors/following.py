"""All runs of a sweep as one piece of work, followed from what is on disk while others make them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmcollapse.files import regular
from lmcollapse.progress import number, shown
from lmcollapse.records import METRICS, ending, holder, read_manifest, read_metrics
from lmcollapse.sweeps import Cell, Outcome, Sweep, failure
from lmcollapse.types import Advance, Progress, UserError


class Following:
    """What has become of the runs of a sweep since `look` was called last."""

    def __init__(self, sweep: Sweep, progress: Progress, advance: Advance) -> None:
        self.outcome = Outcome()
        self._sweep, self._progress, self._advance = sweep, progress, advance
        self._sizes: dict[Path, tuple[int, int]] = {}
        self._left = [cell for cell in sweep.cells if not cell.complete]
        self._finished = len(sweep.cells) - len(self._left)
        self._seen = {cell.name: self._generations(cell) for cell in self._left}

    @property
    def left(self) -> list[Cell]:
        """The runs that are not finished and have not failed."""
        return [cell for cell in self._left if cell.name not in self.outcome.failed]

    def look(self) -> None:
        """Tell what is new: generations, runs that are finished, runs that have failed."""
        for cell in self.left:
            done = self._generations(cell)
            if done == self._seen[cell.name] and done < cell.config.generations:
                self._note_failure(cell)
                continue
            self._advance(done - self._seen[cell.name])
            self._seen[cell.name] = done
            if cell.complete:
                self._left.remove(cell)
                self._finished += 1
                self.outcome.made.append(cell.name)
                self._progress.say(f"{cell.name}: {_last(cell)} ({self._finished} of {len(self._sweep.cells)} runs)")

    def end(self, why: str) -> Outcome:
        """What came of it, once nobody is at work any more; `why` is said of runs that nobody has made."""
        self.look()
        for cell in self._left:
            if cell.complete:  # it ended before its last generation
                self.outcome.made.append(cell.name)
                self._progress.say(f"{cell.name}: {_ending(cell)}")
            elif cell.name in self.outcome.failed:
                continue
            elif any(holder(run) for run in cell.runs):
                self.outcome.elsewhere.append(cell.name)
            else:
                self.outcome.failed[cell.name] = why
        return self.outcome

    def _note_failure(self, cell: Cell) -> None:
        reason = failure(self._sweep.out, cell.path)
        if reason is not None:
            self.outcome.failed[cell.name] = reason
            self._progress.say(f"{cell.name}: {reason}")

    def _generations(self, cell: Cell) -> int:
        """As `Cell.done`; files are read when they have changed."""
        counts = []
        for run in cell.runs:
            file = run / METRICS
            try:
                about = file.stat().st_mtime_ns
                if self._sizes.get(file, (0, 0))[0] != about:
                    self._sizes[file] = about, regular(file).read_bytes().count(b"\n")
            except OSError:
                self._sizes[file] = 0, 0
            counts.append(self._sizes[file][1])
        return min(counts)


@contextmanager
def following(sweep: Sweep, progress: Progress) -> Iterator[Following]:
    """Follow a sweep, with one bar for all of its generations."""
    label = f"{len(sweep.cells)} runs"
    total = sum(cell.config.generations - cell.done for cell in sweep.cells if not cell.complete)
    with progress.stage(label, total=total, unit="generations") as advance:
        yield Following(sweep, progress, advance)


def _last(cell: Cell) -> str:
    """The last measures of a run, in words."""
    try:
        table = read_metrics(cell.runs[0])
    except UserError as error:
        return str(error)
    readings = table[-1] if table else {}
    figures = ", ".join(f"{heading} {number(readings.get(key))}" for key, heading in shown(readings).items())
    return f"{figures} in generation {len(table) - 1}"


def _ending(cell: Cell) -> str:
    """How and where a run ended before its last generation, in words."""
    manifests = [manifest for run in cell.runs if (manifest := read_manifest(run)) is not None]
    ended = next((found for manifest in manifests if (found := ending(manifest))), None)
    return f"{ended[0]} in generation {ended[1]}, {ended[2]}" if ended else "ended"
