"""What a reproduction found, asked by condition, and what it says of a claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import pandas as pd

from lmcollapse.trajectories import Estimate, Trajectory, estimates, mean
from lmcollapse.types import Floats, UserError

Verdict = Literal["holds", "does not hold", "undecided"]


@dataclass(frozen=True)
class Finding:
    """A claim and what the runs say of it.

    claim : in words that can be right or wrong.
    verdict : on which side of what the claim says the whole 95 % interval lies; undecided where it is on both.
    statistic : what was compared, in words; its value and interval over seeds are `low` to `high`.
    published : what the paper reports.
    """

    claim: str
    verdict: Verdict
    statistic: str
    value: float
    low: float
    high: float
    published: str


@dataclass(frozen=True)
class Condition:
    """The runs of one condition, one a seed.

    seeds : in the order of the runs in each trajectory.
    last : the last generation that all of them have.
    asked : the measures that were looked at so far, in any condition.
    """

    name: str
    seeds: tuple[int, ...]
    last: int
    measures: Mapping[str, Trajectory]
    asked: set[str]

    def __getitem__(self, measure: str) -> Trajectory:
        """Over the generations."""
        if measure not in self.measures:
            raise UserError(f"the runs of '{self.name}' have no measure '{measure}'; run them with it")
        self.asked.add(measure)
        return self.measures[measure]


class Evidence:
    """The tidy table of a reproduction's runs, by condition; of seeds that all conditions have: they are pairs."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table
        self.asked: set[str] = set()
        scalars = table[table["at"].isna()] if "at" in table else table
        seeds = [set(rows["seed"]) for _, rows in scalars.groupby("condition")]
        self.seeds = sorted(set.intersection(*seeds)) if seeds else []
        groups = scalars[scalars["seed"].isin(self.seeds)].groupby("condition", sort=False)
        self._conditions = {str(name): _condition(str(name), rows, self.asked) for name, rows in groups}

    def __getitem__(self, name: str) -> Condition:
        """A condition by name; UserError where no run of it has a finished generation."""
        if name not in self._conditions:
            raise UserError(
                f"there are no runs of '{name}' yet (there are: {', '.join(self._conditions) or 'none'}); go on with "
                "the reproduction"
            )
        return self._conditions[name]


def _condition(name: str, rows: pd.DataFrame, asked: set[str]) -> Condition:
    runs = [run for _, run in rows.groupby("seed", sort=True)]
    by_run = [estimates(run) for run in runs]
    names = dict.fromkeys(measure for run in by_run for measure in run)
    return Condition(
        name=name,
        seeds=tuple(int(run["seed"].iloc[0]) for run in runs),
        last=min(int(run["generation"].max()) for run in runs),
        measures={measure: Trajectory(tuple(run.get(measure, {}) for run in by_run)) for measure in names},
        asked=asked,
    )


def by_seed(trajectory: Trajectory, generation: int) -> Floats:
    """`(runs,)` the value in a generation."""
    return trajectory.values(generation + 1)[:, generation]


def change(trajectory: Trajectory, last: int, first: int = 0) -> Estimate:
    """Last less first, seed by seed."""
    return mean((by_seed(trajectory, last) - by_seed(trajectory, first)).tolist())


def last_known(trajectory: Trajectory, last: int) -> int:
    """The last generation, up to one, in which every run has a value; 0 where there is none."""
    known = ~np.isnan(trajectory.values(last + 1)).any(axis=0)
    return int(np.flatnonzero(known).max(initial=0))


def factor(trajectory: Trajectory, last: int, first: int = 0) -> Estimate:
    """Last over first, seed by seed; the geometric mean, with the interval of the logarithms."""
    logs = mean(np.log(by_seed(trajectory, last) / by_seed(trajectory, first)).tolist())
    return Estimate(*np.exp(logs).tolist())


def against(one: Trajectory, other: Trajectory, generation: int) -> Estimate:
    """One condition less another in a generation, of the runs with the same seed, which share all random numbers."""
    return mean((by_seed(one, generation) - by_seed(other, generation)).tolist())


def average(trajectory: Trajectory, wanted: Floats, generations: Sequence[int]) -> Estimate:
    """The mean over generations of what was measured less what was expected, with the interval over seeds."""
    gaps = trajectory.values(max(generations) + 1)[:, list(generations)] - wanted[list(generations)]
    return mean(gaps.mean(axis=1).tolist())


def least_step(trajectory: Trajectory, last: int) -> tuple[Estimate, int]:
    """Of the steps from one generation to the next, the smallest mean, with its interval; and where it ends."""
    steps = [(change(trajectory, generation, generation - 1), generation) for generation in range(1, last + 1)]
    return min(steps, key=lambda step: step[0].value)


def above(statistic: Estimate, limit: float) -> Verdict:
    """Holds where the whole interval lies above the limit."""
    return "holds" if statistic.low > limit else "does not hold" if statistic.high < limit else "undecided"


def below(statistic: Estimate, limit: float) -> Verdict:
    """Holds where the whole interval lies below the limit."""
    return "holds" if statistic.high < limit else "does not hold" if statistic.low > limit else "undecided"


def within(statistic: Estimate, limit: float) -> Verdict:
    """Holds where the whole interval is nearer to zero than the limit, and does not where all of it is further away."""
    if -limit < statistic.low and statistic.high < limit:
        return "holds"
    return "does not hold" if statistic.low > limit or statistic.high < -limit else "undecided"


class Test(Protocol):
    """On which side of a limit an estimate lies: `above`, `below` or `within`."""

    __name__: str

    def __call__(self, statistic: Estimate, limit: float) -> Verdict: ...  # noqa: D102


def finding(
    claim: str,
    statistic: Estimate,
    test: Test,
    limit: float,
    what: str,
    published: str = "",
) -> Finding:
    """A claim that holds where `test` says that the statistic is beyond the limit."""
    words = test.__name__
    shown = f"{what} (holds {words} {'±' if words == 'within' else ''}{limit:.3g})"
    return Finding(claim, test(statistic, limit), shown, *statistic, published)


def rises_every_generation(claim: str, trajectory: Trajectory, last: int, what: str, published: str = "") -> Finding:
    """Each generation is above the one before: holds if all intervals say so, does not if one of them denies it."""
    steps = [change(trajectory, generation, generation - 1) for generation in range(1, last + 1)]
    verdicts = [above(step, 0) for step in steps]
    least, where = least_step(trajectory, last)
    verdict: Verdict = "holds" if set(verdicts) == {"holds"} else "undecided"
    if "does not hold" in verdicts:
        verdict = "does not hold"
    shown = f"{what}: the smallest of {last} steps, to generation {where} (holds where all are above 0)"
    return Finding(claim, verdict, shown, *least, published)
