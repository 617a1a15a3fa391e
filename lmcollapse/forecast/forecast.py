"""What is left of a sweep, added up."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmcollapse.config import Config
from lmcollapse.costs import costs, in_bytes, size_of
from lmcollapse.forecast.calibrate import calibrate, calibrate_chains, observe
from lmcollapse.forecast.ledger import Entry, Sizes, entries, rows_in
from lmcollapse.forecast.rates import Observed, Rates
from lmcollapse.progress import span
from lmcollapse.store import read_metrics
from lmcollapse.substrates.chain import ChainSubstrate
from lmcollapse.sweeps import Cell, Sweep
from lmcollapse.types import Progress, Silent

MEASURED_FACTOR, CALIBRATED_FACTOR = 1.3, 1.6
"""How far off a forecast may be either way, from runs that are there and from small ones."""


@dataclass(frozen=True)
class Forecast:
    """What a sweep stands for, and what is left of it.

    runs, finished : runs, and those that nothing is left of.
    generations, left : models to fit once what runs have in common is made once, and those of them that are not there.
    seconds : of work that is left, in one process after the other.
    longest : of them the seconds of the run that takes longest, which no number of workers makes shorter.
    size : bytes of the directory in the end.
    factor : how far off seconds and size may be.
    measured : whether all costs are from runs of this sweep.
    took : seconds that it took to find out.
    """

    conditions: Sequence[str]
    seeds: Sequence[int]
    runs: int
    finished: int
    generations: int
    left: int
    seconds: float
    longest: float
    size: float
    factor: float
    measured: bool
    took: float

    def elapsed(self, workers: int) -> float:
        """Seconds until the end with so many workers."""
        return max(self.seconds / workers, self.longest)


def forecast(sweep: Sweep, progress: Progress | None = None) -> Forecast:
    """What is left of a sweep, by what its own runs cost so far or else by small ones that are made now.

    Conditions that differ in their data policy alone cost the same for each row, and are calibrated once. Raises
    UserError where one of the configurations cannot work.
    """
    began = time.monotonic()
    progress = progress or Silent()
    sweep.check()
    left: dict[str, tuple[float, float]] = {}
    steps: list[tuple[Cell, Entry]] = []
    measured = True
    for cells in _alike(sweep.cells):
        rates, sizes = _from_runs(cells)
        if rates is None:
            measured = False
            rates, sizes = _from_small_runs(cells[0].config, progress)
        for cell in cells:
            found = list(entries(cell, sizes)) if sizes else [_chains(cell)]
            steps += [(cell, entry) for entry in found]
            left |= {entry.key: (rates.seconds(entry), rates.size(entry)) for entry in found}
    done = {entry.key for _, entry in steps if entry.done}
    kept = {entry.key for _, entry in steps if entry.kept}
    to_come = {key: cost for key, cost in left.items() if key not in done}
    fits = {entry.key for _, entry in steps if entry.kind == "model"}
    chains = [cell for cell in sweep.cells if _of_chains(cell.config)]
    return Forecast(
        conditions=sweep.conditions,
        seeds=sorted({cell.seed for cell in sweep.cells}),
        runs=len(sweep.cells),
        finished=sum(cell.complete for cell in sweep.cells),
        generations=len(fits) + sum(cell.config.generations for cell in chains),
        left=len(fits - done) + sum(cell.config.generations - cell.done for cell in chains),
        seconds=sum(seconds for seconds, _ in to_come.values()),
        longest=max(_each(steps, to_come).values(), default=0.0),
        size=size_of(sweep.out) + sum(size for key, (_, size) in to_come.items() if key in kept),
        factor=MEASURED_FACTOR if measured else CALIBRATED_FACTOR,
        measured=measured,
        took=time.monotonic() - began,
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
        if not _of_chains(cell.config):
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
            if _of_chains(cell.config):
                known = costs(run)
                total: Any = (sum(part) for part in zip(*known, strict=True))
                rates.observed.append(Observed("generations", len(known), len(known), len(known), *total))
                continue
            sizes = sizes or rows_in(run)
            rows = 0.0 if sizes is None else sizes.human
            for name in ("human", "base", "rows", "reference"):
                rates.see(run / name, name, rows, rows, rows)
            observe(rates, run, done)
    return (rates if rates.observed else None), sizes


def _from_small_runs(config: Config, progress: Progress) -> tuple[Rates, Sizes | None]:
    return (calibrate_chains(config, progress), None) if _of_chains(config) else calibrate(config, progress)


def _chains(cell: Cell) -> Entry:
    """What is left of a run of chains, as one step."""
    left = cell.config.generations - cell.done
    return Entry(str(cell.path), "", "generations", 0, left, left, left, done=left == 0, kept=True)


def _each(steps: Sequence[tuple[Cell, Entry]], to_come: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Seconds that are left of each run, with what it shares."""
    totals: dict[str, float] = {}
    for cell, entry in steps:
        totals[cell.name] = totals.get(cell.name, 0.0) + to_come.get(entry.key, (0.0, 0.0))[0]
    return totals


def _of_chains(config: Config) -> bool:
    return isinstance(config.build_substrate(), ChainSubstrate)
