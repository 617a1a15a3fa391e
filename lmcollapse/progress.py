"""Progress on the terminal: a live view where there is one, plain lines (one a stage) where output is a file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from lmcollapse.types import Advance

SHOWN = {
    "perplexity": "perplexity",
    "bits_per_byte": "bits/byte",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "tail_coverage": "tail coverage",
}
"""The measures that a person following a run sees, and their headings; all are in `metrics.jsonl`."""

SHOWN_OF_IMAGES = {
    "negative_elbo": "negative ELBO",
    "pixel_variance": "variance",
    "pixel_frechet": "Fréchet",
    "image_precision": "precision",
    "image_recall": "recall",
}
"""Likewise where images are written."""

HUGE = 1e15
"""Numbers from here on are shown by their power of ten."""
QUIET = 20.0
"""Seconds between two lines of a long stage where output is no terminal."""


class Terminal:
    """Progress for a person: `with Terminal() as progress: run(config, out, progress)`."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.live = self.console.is_terminal
        self.table: dict[int, dict[str, float | None]] = {}
        self._where = ""
        self._generations = 0
        self._began: dict[int, float] = {}
        self._took: list[float] = []
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=self.console,
        )
        self._view = Live(console=self.console, get_renderable=self._render, refresh_per_second=4, transient=True)

    def __enter__(self) -> Terminal:
        if self.live:
            self._view.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self._view.stop()
        if self.table:
            self.console.print(measures_table(self.table))

    @contextmanager
    def stage(self, label: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        """One piece of work; see `types.Progress`."""
        label = f"{self._where}{label}"
        task = self._bars.add_task(label, total=total, rate="", figures="")
        began = said = time.monotonic()
        done, last = 0, ""

        def state() -> str:
            took = time.monotonic() - began
            if not unit:
                return f"{took:.0f} s"
            left = f", {span((total - done) * took / done)} left" if total and 0 < done < total else ""
            return f"{done:,} {unit}, {rate_of(done, took)} {unit}/s, {took:.0f} s{left}{last}"

        def advance(units: int = 1, **figures: float) -> None:
            nonlocal done, last, said
            done += units
            shown = " ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items())
            last = f", {shown}" if shown else last
            rate = f"{rate_of(done, time.monotonic() - began)} {unit}/s" if unit else ""
            self._bars.update(task, advance=units, rate=rate, figures=shown)
            if not self.live and time.monotonic() - said > QUIET:
                said = time.monotonic()
                self._print(f"{label}: {state()} …")

        try:
            yield advance
        finally:
            self._bars.remove_task(task)
        if not self.live:
            self._print(f"{label}: {state()}")

    def started(self, generation: int, generations: int) -> None:
        """What follows belongs to this generation, out of so many."""
        self._where, self._generations = f"generation {generation} of 0-{generations - 1} · ", generations
        self._began[generation] = time.monotonic()

    def finished(self, generation: int, readings: Mapping[str, float | None]) -> None:
        """A generation is complete, these are its measures."""
        self.table[generation] = dict(readings)
        took = time.monotonic() - self._began[generation]
        if took > 1:  # a generation that was on disk already says nothing about how long one takes
            self._took.append(took)
        if not self.live:
            figures = " · ".join(f"{heading} {number(readings.get(key))}" for key, heading in shown(readings).items())
            self._print(f"generation {generation}: {figures}{self._left(' · ')}")

    def say(self, line: str) -> None:
        """One line for the user."""
        self._print(line)

    def _left(self, before: str) -> str:
        rest = self._generations - len(self.table)
        return f"{before}about {span(rest * sum(self._took) / len(self._took))} left" if rest and self._took else ""

    def _print(self, line: str) -> None:
        self.console.print(literal(line), soft_wrap=True)

    def _render(self) -> Group:
        parts = [measures_table(self.table)] if self.table else []
        return Group(*parts, self._bars, self._left(""))


def bare_table(**more: Any) -> Table:
    """An empty table without lines, as all commands print theirs; `more` as rich has it."""
    return Table(box=None, pad_edge=False, header_style="bold", **more)


def measures_table(table: Mapping[int, Mapping[str, float | None]]) -> Table:
    """The measures a generation, as a table for the terminal."""
    columns = shown(next(iter(table.values()), {}))
    drawn = bare_table()
    drawn.add_column("generation", justify="right")
    for heading in columns.values():
        drawn.add_column(heading, justify="right")
    for generation, readings in sorted(table.items()):
        drawn.add_row(str(generation), *(number(readings.get(key)) for key in columns))
    return drawn


def shown(readings: Mapping[str, float | None]) -> dict[str, str]:
    """The measures that a person sees, and their headings: those of text, or the first ones that a substrate has."""
    if not readings or SHOWN.keys() & readings.keys():
        return SHOWN
    if SHOWN_OF_IMAGES.keys() <= readings.keys():
        return SHOWN_OF_IMAGES
    ends = ("generation", "collapsed", "_low", "_high", "_p5", "_p50", "_p95")
    names = [name for name in readings if not name.endswith(ends)]
    collapsed = {"collapsed": "collapsed"} if "collapsed" in readings else {}
    return {name: name.replace("_", " ") for name in names[:5]} | collapsed


def rate_of(done: int, seconds: float) -> str:
    """So many a second; of slow work not 0."""
    rate = done / max(seconds, 1e-9)
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def number(value: float | None) -> str:
    """A measure as a person reads it; a dash where it is not defined."""
    if value is None:
        return "–"
    if abs(value) >= HUGE:
        return f"{value:.4g}"
    if abs(value) >= 10:
        return f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.2g}" if 0 < abs(value) < 0.001 else f"{value:.3f}"


def printable(text: str) -> str:
    """Text from elsewhere without the control characters that could steer a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def literal(text: str) -> str:
    """Text from elsewhere for rich: shown as it stands, with nothing taken for markup and nothing that steers."""
    return escape(printable(text))


def span(seconds: float) -> str:
    """A length of time as a person reads it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
