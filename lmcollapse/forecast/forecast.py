"""What is left of a sweep, added up."""

from __future__ import annotations

import heapq
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmcollapse.config import Config
from lmcollapse.costs import costs, in_bytes, size_of
from lmcollapse.forecast.calibrate import TIME, calibrate, calibrate_chains, observe
from lmcollapse.forecast.ledger import LEAST_ROWS, Entry, Sizes, entries, tokens_in
from lmcollapse.forecast.rates import Observed, Rates
from lmcollapse.progress import span
from lmcollapse.records import read_metrics
from lmcollapse.steps import BEFORE
from lmcollapse.sweeps import Cell, Sweep
from lmcollapse.types import Progress, Silent, UserError

MEASURED_FACTOR, CALIBRATED_FACTOR = 1.3, 1.6
"""How far off a forecast may be either way, from runs that are there and from small ones."""
TOGETHER = 40.0
"""Seconds for the largest small runs of all conditions that differ in more than their policy; smaller ones, and what is
loaded before them, take about as long again."""
UNKNOWN = Sizes(LEAST_ROWS, LEAST_ROWS, LEAST_ROWS)
"""Tokens of a run of which nothing is known: what it shares with others shows with any number."""


@dataclass(frozen=True)
class Forecast:
    """What a sweep stands for, and what is left of it.

    runs, finished : runs, and those that nothing is left of.
    generations, left : models to fit once what runs have in common is made once, and those of them that are not there.
    runs_left : of each run that is not finished its steps that are left, with the seconds of each; a step that runs
        have in common stands with each of them, under one key.
    size : bytes of the directory in the end.
    factor : how far off seconds and size may be.
    measured : whether all costs are from runs of this sweep.
    took : seconds that it took to find out.
    unknown : why seconds and size cannot be told; None where they can.
    """

    conditions: Sequence[str]
    seeds: Sequence[int]
    runs: int
    finished: int
    generations: int
    left: int
    runs_left: Sequence[Sequence[tuple[str, float]]]
    size: float
    factor: float
    measured: bool
    took: float
    unknown: str | None = None

    def elapsed(self, workers: int = 1) -> float:
        """Seconds until the end with so many workers.

        Each takes the next run when it has finished one, and where another is making a step that it needs, it waits.
        """
        free, finished = [0.0] * workers, dict[str, float]()
        for run in self.runs_left:
            now = heapq.heappop(free)
            for key, seconds in run:
                now = finished[key] = max(now, finished[key]) if key in finished else now + seconds
            heapq.heappush(free, now)
        return max(free)


def forecast(sweep: Sweep, progress: Progress | None = None) -> Forecast:
    """What is left of a sweep, by what its own runs cost so far or else by small ones that are made now.

    Conditions that differ in their data policy alone cost the same for each token, and are calibrated once. Raises
    UserError where one of the configurations cannot work.
    """
    began = time.monotonic()
    progress = progress or Silent()
    sweep.check()
    steps: list[tuple[Cell, Entry]] = []
    costs_of: dict[str, tuple[float, float]] = {}
    measured, unknown = True, None
    groups = _alike(sweep.cells)
    for cells in groups:
        rates, sizes = _from_runs(cells)
        if rates is None:
            measured = False
            try:
                rates, sizes = _from_small_runs(cells[0].config, progress, len(groups))
            except UserError as error:  # of a run so small: the sweep was checked
                rates, sizes, unknown = Rates(), UNKNOWN, unknown or f"{cells[0].condition}: {error}"
        for cell in cells:
            found = [_chains(cell)] if cell.config.of_chains else list(entries(cell, sizes or UNKNOWN))
            steps += [(cell, entry) for entry in found]
            costs_of |= {entry.key: (rates.seconds(entry), rates.size(entry)) for entry in found}
    done = {entry.key for _, entry in steps if entry.done}
    kept = {entry.key for _, entry in steps if entry.kept}
    fits = {entry.key for _, entry in steps if entry.kind == "model"}
    chains = [cell for cell in sweep.cells if cell.config.of_chains]
    return Forecast(
        conditions=sweep.conditions,
        seeds=sorted({cell.seed for cell in sweep.cells}),
        runs=len(sweep.cells),
        finished=sum(cell.complete for cell in sweep.cells),
        generations=len(fits) + sum(cell.config.generations for cell in chains),
        left=len(fits - done) + sum(cell.config.generations - cell.done for cell in chains),
        runs_left=_in_order(sweep, steps, done, {key: seconds for key, (seconds, _) in costs_of.items()}),
        size=size_of(sweep.out) + sum(size for key, (_, size) in costs_of.items() if key in kept - done),
        factor=MEASURED_FACTOR if measured else CALIBRATED_FACTOR,
        measured=measured,
        took=time.monotonic() - began,
        unknown=unknown,
    )


def described(sweep: Sweep, found: Forecast, workers: int = 1) -> list[str]:
    """The plan and the forecast, in lines for a person."""
    seeds = ", ".join(map(str, found.seeds))
    lines = [
        f"{len(found.conditions)} conditions: {'; '.join(found.conditions)}",
        f"seeds {seeds}: {found.runs} runs in {sweep.out}, {found.finished} of them finished",
        f"{found.generations:,} generations to fit, what runs share counted once; {found.left:,} of them left",
    ]
    if found.finished == found.runs:
        return [*lines, f"nothing is left to do; {in_bytes(found.size)} on disk"]
    if found.unknown is not None:
        return [*lines, f"how long and how large: small runs cannot tell ({found.unknown})"]
    how = f"with {workers} workers" if workers > 1 else "one run after the other"
    source = "the runs that are there" if found.measured else f"small runs, which took {span(found.took)}"
    return [
        *lines,
        f"about {span(found.elapsed(workers))} left {how}, about {in_bytes(found.size)} on disk in the end",
        f"by {source}; expect to be off by a factor of up to {found.factor:g} either way",
    ]


def _alike(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The runs in groups of which each step costs the same for each row."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        given = cell.config.model_dump(mode="json", exclude={"seed"})
        if not cell.config.of_chains:
            given = {key: value for key, value in given.items() if key not in ("policy", "generations", "population")}
        groups.setdefault(repr(given), []).append(cell)
    return list(groups.values())


def _from_runs(cells: Sequence[Cell]) -> tuple[Rates | None, Sizes | None]:
    """What the finished generations of runs that are there tell; None where there are none."""
    rates, sizes = Rates(), None
    for cell in cells:
        for run in cell.runs:
            done = len(read_metrics(run))
            if not done:
                continue
            if cell.config.of_chains:
                known = costs(run)
                total: Any = (sum(part) for part in zip(*known, strict=True))
                rates.observed.append(Observed("generations", len(known), len(known), len(known), *total))
                continue
            sizes = sizes or tokens_in(run)
            human = 0.0 if sizes is None else sizes.human
            for name in BEFORE:
                rates.see(run / name, name, human, human, human)
            observe(rates, run, done)
    return (rates if rates.observed else None), sizes


def _from_small_runs(config: Config, progress: Progress, groups: int) -> tuple[Rates, Sizes | None]:
    if config.of_chains:
        return calibrate_chains(config, progress), None
    return calibrate(config, progress, min(TIME, TOGETHER / groups))


def _chains(cell: Cell) -> Entry:
    """What is left of a run of chains, as one step."""
    left = cell.config.generations - cell.done
    return Entry(str(cell.path), "", "generations", 0, left, left, left, done=left == 0, kept=True)


def _in_order(
    sweep: Sweep, steps: Sequence[tuple[Cell, Entry]], done: Collection[str], seconds: Mapping[str, float]
) -> list[list[tuple[str, float]]]:
    """What is left of each run, in about the order in which processes take them up: first one of each seed."""
    left: dict[str, list[tuple[str, float]]] = {cell.name: [] for cell in sweep.cells if not cell.complete}
    for cell, entry in steps:
        if cell.name in left and entry.key not in done:
            left[cell.name].append((entry.key, seconds[entry.key]))
    place = {cell.name: sweep.conditions.index(cell.condition) for cell in sweep.cells}
    return [left[name] for name in sorted(left, key=lambda name: place[name])]
