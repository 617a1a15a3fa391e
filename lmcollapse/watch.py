"""A live view of the runs below a directory. Reads only and takes no lock, so it never disturbs a run."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lmcollapse.costs import costs
from lmcollapse.progress import bare_table, literal, measures_table, number, printable, span
from lmcollapse.records import ENDINGS, MANIFEST, METRICS, holder, runs_below
from lmcollapse.status import RunStatus, headings, status_of
from lmcollapse.sweeps import failure, known_runs
from lmcollapse.types import UserError

PATIENCE = 5.0
"""Seconds without anybody at work after which the view ends: between two runs a process holds none."""
BARS = "▁▂▃▄▅▆▇█"
CURVE = 16
"""Generations that a curve shows, the last ones."""
WIDE = 110
"""Columns from which all three measures of a run are shown."""
ORDER = ("running", "failed", "stopped", *ENDINGS, "finished")
"""States as the view lists them: what is looked for first."""
OVER = (*ENDINGS, "finished")
"""Those of runs that nothing is left to do for."""


@dataclass(frozen=True)
class Watched:
    """A run, who holds it, and why it failed, if it did.

    seconds : of each finished generation, as far as they were looked up.
    """

    path: Path
    status: RunStatus
    holder: str | None
    reason: str | None
    seconds: tuple[float, ...]

    @property
    def state(self) -> str:
        """One of ORDER."""
        if self.reason is not None and self.holder is None:
            return "failed"
        word = self.status.state.partition(":")[0]
        return word if word in ORDER else "failed"  # a damaged run says what is wrong with it


@dataclass(frozen=True)
class View:
    """What there is to see at one moment.

    waiting : runs of the sweep that have not begun.
    """

    directory: Path
    runs: tuple[Watched, ...]
    waiting: int

    @property
    def done(self) -> tuple[int, int]:
        """Generations, of how many in the end; runs that have not begun count as much as the others."""
        known = [run.status.generations for run in self.runs if run.status.generations]
        to_come = self.waiting + len(self.runs) - len(known)
        ended = [run for run in self.runs if run.state in OVER]
        finished = sum(run.status.done for run in self.runs)
        cut = sum(run.status.generations - run.status.done for run in ended)
        return finished, sum(known) - cut + round(to_come * sum(known) / len(known) if known else 0)

    @property
    def at_work(self) -> int:
        """Runs that somebody holds."""
        return sum(run.holder is not None for run in self.runs)

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return not self.waiting and all(run.state in OVER for run in self.runs)

    @property
    def left(self) -> float | None:
        """Seconds until all is done at the pace so far, by as many as are at work now; None where nobody can tell."""
        pace = [second for run in self.runs for second in run.seconds]
        if not pace or not self.at_work:
            return None
        usual = sum(pace) / len(pace)
        own = sum(
            (run.status.generations - run.status.done) * (sum(run.seconds) / len(run.seconds) if run.seconds else usual)
            for run in self.runs
            if run.state in ("running", "stopped")
        )
        done, total = self.done
        begun = sum(
            run.status.generations - run.status.done for run in self.runs if run.state in ("running", "stopped")
        )
        return (own + max(0, total - done - begun) * usual) / self.at_work


class Watch:
    """Looks at a directory again and again; what has not changed is not read again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._statuses: dict[Path, tuple[tuple[object, ...], RunStatus]] = {}
        self._seconds: dict[Path, tuple[int, tuple[float, ...]]] = {}

    def look(self) -> View:
        """What there is now. UserError where there is no run, and nothing that is to become one."""
        if not self.directory.is_dir():
            raise UserError(f"{self.directory} is no directory; give a run, or a directory of runs")
        paths = runs_below(self.directory)
        to_come = [
            path
            for run in known_runs(self.directory)
            if (path := self.directory / run["path"]) not in paths and not any(path in one.parents for one in paths)
        ]
        if not paths and not to_come:
            raise UserError(f"{self.directory} holds no run; `lmcollapse run CONFIG.yaml` makes one")
        found = [self._watched(path) for path in paths]
        if not any(run.seconds for run in found):
            found = [self._timed(run) if run.status.done else run for run in found]
        for path in to_come:
            if (reason := failure(self.directory, path)) is not None:
                status = RunStatus(str(path.relative_to(self.directory)), "?", 0, "failed", ())
                found.append(Watched(path, status, None, reason, ()))
        ordered = tuple(sorted(found, key=lambda run: ORDER.index(run.state)))
        return View(self.directory, ordered, len(to_come) + len(paths) - len(found))

    def _watched(self, path: Path) -> Watched:
        name = str(path.relative_to(self.directory)) if path != self.directory else str(path)
        held = holder(path)
        # whoever holds a run is at a step that its files do not tell of
        unchanged = None if held else (_stamp(path / METRICS), _stamp(path / MANIFEST))
        known = self._statuses.get(path)
        if unchanged is None or known is None or known[0] != unchanged:
            known = (unchanged or (), status_of(path, name))
            self._statuses[path] = known
        reason = failure(
            path.absolute().parents[1], path
        )  # the folder of a sweep, above those of a condition and a seed
        run = Watched(path, known[1], held, reason, ())
        return self._timed(run) if run.state == "running" else run

    def _timed(self, run: Watched) -> Watched:
        """The run with the seconds of its generations, which are summed up when there is a new one."""
        known = self._seconds.get(run.path)
        if known is None or known[0] != run.status.done:
            known = run.status.done, tuple(seconds for seconds, _ in costs(run.path))
            self._seconds[run.path] = known
        return Watched(run.path, run.status, run.holder, run.reason, known[1])


def watch(directory: Path, console: Console, *, every: float = 1.0, once: bool = False) -> None:
    """Show the runs below a directory until all are done, or nobody is at work on them any more.

    every : seconds between two looks.
    once : show them one time; so it is, too, where the console is no terminal.

    Raises UserError where there is no run.
    """
    watching = Watch(directory)
    view = watching.look()
    if once or not console.is_terminal:
        console.print(drawn(view, console.width))
        return
    last_seen = time.monotonic()
    gone = None
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            live.update(drawn(view, console.width, console.height), refresh=True)
            if view.at_work:
                last_seen = time.monotonic()
            if view.over or time.monotonic() - last_seen > PATIENCE:
                break
            time.sleep(every)
            try:
                view = watching.look()
            except UserError as error:  # moved away or deleted meanwhile; what was last seen stays on the screen
                gone = str(error)
                break
    if gone is not None:
        console.print(gone, markup=False)
    elif not view.over:
        console.print("Nobody is at work here any more; the command that made the runs goes on with them.")


def drawn(view: View, width: int, height: int | None = None) -> Group:
    """A view for a terminal of so many columns and, if it is to fit, rows."""
    one = view.runs[0] if len(view.runs) == 1 and not view.waiting else None
    parts: list[RenderableType] = [*_heading(view, width)]
    if one is not None and one.status.readings and one.state != "failed":
        rows = dict(enumerate(one.status.readings))
        kept = list(rows)[-max(1, height - 7) :] if height else list(rows)
        parts += ["", measures_table({generation: rows[generation] for generation in kept})]
    else:
        most = max(1, height - 7) if height else len(view.runs)
        parts += ["", _runs(view.runs[:most], width)]
        hidden = Counter(run.state for run in view.runs[most:])
        if hidden:
            words = ", ".join(f"{count} {state}" for state, count in hidden.items())
            parts.append(f"… and {sum(hidden.values())} more: {words}")
    return Group(*parts)


def _heading(view: View, width: int) -> list[RenderableType]:
    states = Counter(run.state for run in view.runs)
    done, total = view.done
    if len(view.runs) == 1 and not view.waiting:
        (run,) = view.runs
        words = [run.status.condition, run.reason or run.status.state]
        if run.holder:
            words.append(run.holder)
        if run.seconds:
            words.append(f"{span(sum(run.seconds) / len(run.seconds))} a generation")
    else:
        words = [f"{len(view.runs) + view.waiting} runs"]
        words += [f"{states[state]} {state}" for state in ORDER if states[state]]
        words += [f"{view.waiting} waiting"] if view.waiting else []
    if (left := view.left) is not None and not view.over:
        words.append(f"about {span(left)} left")
    bar = Table.grid(padding=(0, 1))
    shown = ProgressBar(total=max(total, 1), completed=done, width=min(40, width // 2))
    bar.add_row(shown, f"{done}/{total} generations")
    title = Text(printable(str(view.directory)), "bold", no_wrap=True, overflow="ellipsis")
    return [title, literal(" · ".join(words)), bar]


def _runs(runs: Sequence[Watched], width: int) -> Table:
    measures = next((names for run in runs if (names := headings(run.status.last))), ())
    table = bare_table()
    table.add_column("run", overflow="fold", max_width=width // 3)
    table.add_column("done", no_wrap=True, justify="right")
    table.add_column("state", overflow="fold", max_width=width // 3)
    shown = measures if width >= WIDE else measures[:1]
    for place, (_, heading) in enumerate(shown):
        if place == 0:
            table.add_column(heading, no_wrap=True, min_width=len(heading))
        table.add_column("" if place == 0 else heading, no_wrap=True, justify="right")
    for run in runs:
        status = run.status
        cells = [literal(status.name), f"{status.done}/{status.generations or '?'}"]
        cells.append(literal(run.reason if run.state == "failed" and run.reason else _state(run)))
        for place, (key, _) in enumerate(shown):
            if place == 0:
                cells.append(curve(status.readings, key))
            cells.append(number(status.last.get(key)) if status.last else "")
        table.add_row(*cells)
    return table


def _state(run: Watched) -> str:
    """How far a run is, and by whom it is made."""
    if run.state == "running" and run.holder:
        return f"{run.status.state.removeprefix('running: ')}, {run.holder}"
    return run.status.state


def curve(readings: Sequence[Mapping[str, float | None]], measure: str, most: int = CURVE) -> str:
    """A measure from the first generation to the last, at most so many evenly taken, as a line of bars; on a
    logarithmic axis where it grows tenfold."""
    last = len(readings) - 1
    taken = range(last + 1) if last < most else [round(i * last / (most - 1)) for i in range(most)]
    values = [readings[i].get(measure) for i in taken]
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return ""
    logarithmic = min(known) > 0 and max(known) > 10 * min(known)
    low, high = (math.log(end) if logarithmic else end for end in (min(known), max(known)))
    signs = []
    for value in values:
        if value is None or not math.isfinite(value):
            signs.append(" ")
            continue
        share = ((math.log(value) if logarithmic else value) - low) / (high - low) if high > low else 0.0
        signs.append(BARS[min(int(share * len(BARS)), len(BARS) - 1)])
    return "".join(signs)


def _stamp(file: Path) -> tuple[int, int]:
    try:
        about = file.stat()
    except OSError:
        return 0, 0
    return about.st_mtime_ns, about.st_size
