"""How a measure goes over the generations of one run, or of several that differ in their seed only, with intervals."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from lmcollapse.metrics.intervals import LEVEL
from lmcollapse.records import read_manifest
from lmcollapse.results import names, table
from lmcollapse.types import HUMAN, Floats, UserError

LEAST_SEEDS = 3
"""From so many runs on, what differs between seeds gives the intervals; fewer runs stand each for itself."""


class Estimate(NamedTuple):
    """A number and its 95 % interval, NaN where there is none."""

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan

    @property
    def known(self) -> bool:
        """Whether there are both, a value and an interval."""
        return not np.isnan(self).any()


def difference(a: Estimate, b: Estimate) -> Estimate:
    """a - b of two independent estimates, from their intervals (Zou and Donner 2008, Statist. Med. 27, 1693-1702).

    The distances to the ends add up as errors do: with normal intervals it is a - b +- 1.96 sqrt(se_a^2 + se_b^2).
    """
    gap = a.value - b.value
    down, up = np.hypot(a.value - a.low, b.high - b.value), np.hypot(a.high - a.value, b.value - b.low)
    return Estimate(gap, float(gap - down), float(gap + up))


def ratio(a: Estimate, b: Estimate) -> Estimate:
    """a / b of two independent estimates: the ratios r for which the interval of a - r b contains 0.

    Newcombe 2016, Statist. Methods Med. Res. 25, 1774-1778. There is none where b is not above 0; an end is infinite
    where b is too uncertain for it.
    """
    if not b.value > 0:
        return Estimate()

    def end(x: float, y: float, side: int) -> float:
        room = y * (2 * b.value - y)
        if room <= 0:
            return side * np.inf
        product = a.value * b.value
        return float((product + side * np.sqrt(max(0.0, product**2 - x * (2 * a.value - x) * room))) / room)

    bounds = (end(a.low, b.high, -1), end(a.high, b.low, 1)) if a.known and b.known else (np.nan, np.nan)
    return Estimate(a.value / b.value, *bounds)


def mean(values: Sequence[float]) -> Estimate:
    """The mean over seeds, with the t-interval; NaN where a seed has no value, since the others may flatter."""
    centre = float(np.mean(values))
    if len(values) < 2 or np.isnan(centre):
        return Estimate(centre)
    half = t_quantile(len(values) - 1) * float(np.std(values, ddof=1) / np.sqrt(len(values)))
    return Estimate(centre, centre - half, centre + half)


def slope(x: Sequence[float], y: Sequence[float]) -> Estimate:
    """The slope of the straight line of least squares, with the t-interval of its n - 2 degrees of freedom (n > 2)."""
    fit = stats.linregress(x, y)
    half = t_quantile(len(x) - 2) * fit.stderr
    return Estimate(float(fit.slope), float(fit.slope - half), float(fit.slope + half))


def share_of_sum(steps: Floats) -> Estimate:
    """Of what the steps of a walk add up to, the share of its second half, `(runs, steps)` in, by Fieller's interval.

    A middle step is left out. The errors of the two halves: over runs where there are several, else from how the steps
    scatter within each half, as if they were independent. With no end where the sum may as well be zero (Fieller 1954,
    J. R. Statist. Soc. B 16, 175-185).
    """
    runs, half = len(steps), steps.shape[1] // 2
    first, second = steps[:, :half], steps[:, -half:]
    sums = np.stack([second.sum(axis=1), first.sum(axis=1) + second.sum(axis=1)])
    part, whole = sums.mean(axis=1).tolist()
    if runs > 1:
        freedom, covariance = runs - 1, np.cov(sums) / runs
    else:
        freedom = 2 * half - 2
        scatter = half * (first.var() + second.var()) / freedom
        covariance = half * scatter * np.array([[1, 1], [1, 2]])
    within = t_quantile(freedom) ** 2 * covariance
    a, b, c = whole**2 - within[1, 1], whole * part - within[0, 1], part**2 - within[0, 0]
    if a <= 0:
        return Estimate(part / whole if whole else np.nan, -np.inf, np.inf)
    root = np.sqrt(max(0.0, b**2 - a * c))
    return Estimate(part / whole, float((b - root) / a), float((b + root) / a))


@cache
def t_quantile(freedom: int) -> float:
    """Student's t that a two-sided 95 % interval reaches out to."""
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom))


@dataclass(frozen=True)
class Trajectory:
    """One measure over the generations.

    runs : of each run, the estimate in each generation; in HUMAN (-1) that of held-out human text.
    """

    runs: tuple[Mapping[int, Estimate], ...]

    def at(self, generation: int) -> Estimate:
        """The estimate of a generation; of several runs, the mean with the t-interval over seeds.

        Human text keeps the mean of the runs' own intervals: they share it, and so their spread says nothing.
        """
        found = [run.get(generation, Estimate()) for run in self.runs]
        if len(found) == 1:
            return found[0]
        return shared(found) if generation == HUMAN else mean([estimate.value for estimate in found])

    def against(
        self, generation: int, reference: int, how: Callable[[Estimate, Estimate], Estimate] = difference
    ) -> Estimate:
        """The difference (or ratio) to another generation, seed by seed where there are several, or to human text."""
        if len(self.runs) == 1 or reference == HUMAN:
            return how(self.at(generation), self.at(reference))
        pairs = [(run.get(generation, Estimate()), run.get(reference, Estimate())) for run in self.runs]
        return mean([how(a, b).value for a, b in pairs])

    def log(self) -> Trajectory:
        """The logarithms; NaN where the number has none."""

        def log(number: float) -> float:
            return float(np.log(number)) if number > 0 else np.nan

        return Trajectory(tuple({g: Estimate(*map(log, e)) for g, e in run.items()} for run in self.runs))

    def values(self, generations: int) -> Floats:
        """`(runs, generations)`, the values of the first so many generations."""
        return np.array([[run.get(g, Estimate()).value for g in range(generations)] for run in self.runs])


def shared(estimates: Sequence[Estimate]) -> Estimate:
    """Of estimates that are as good as one and the same: their mean, and the means of their ends."""
    return Estimate(*(float(np.mean(column)) for column in zip(*estimates, strict=True)))


@dataclass(frozen=True)
class Subject:
    """What is judged: a run, or the runs of one condition with different seeds.

    name : of the run, or of all of them.
    words : size of the human training part that was asked for, NaN where it was not.
    last : the last generation that all of its runs have.
    """

    name: str
    condition: str
    words: float
    seeds: int
    last: int
    measures: Mapping[str, Trajectory]

    def measure(self, name: str) -> Trajectory:
        """The measure of that name; without any estimate where no run has it."""
        return self.measures.get(name, Trajectory(tuple({} for _ in range(self.seeds))))


def subjects(found: pd.DataFrame, words: Mapping[str, float] | None = None) -> list[Subject]:
    """The runs of a tidy table (`results.table`), those of one condition and size taken together if they are 3 or more.

    Runs are taken together only if each has a seed of its own.

    words : size of the human training part by run.
    """
    sized = found.assign(words=found["run"].map(words or {}).astype(float))
    together = []
    for _, part in sized.groupby(["condition", "words"], sort=False, dropna=False):
        runs = [run for _, run in part.groupby("run", sort=False)]
        alike = len(runs) >= LEAST_SEEDS and len({run["seed"].iloc[0] for run in runs}) == len(runs)
        together += [_subject(group) for group in ([runs] if alike else [[run] for run in runs])]
    return together


def _subject(runs: Sequence[pd.DataFrame]) -> Subject:
    by_run = [estimates(run) for run in runs]
    return Subject(
        name=", ".join(run["run"].iloc[0] for run in runs),
        condition=runs[0]["condition"].iloc[0],
        words=runs[0]["words"].iloc[0],
        seeds=len(runs),
        last=min(int(run["generation"].max()) for run in runs),
        measures={name: Trajectory(tuple(run.get(name, {}) for run in by_run)) for name in by_run[0]},
    )


def estimates(run: pd.DataFrame) -> dict[str, dict[int, Estimate]]:
    """The rows of one run in a tidy table as estimates, by measure and generation."""
    found: dict[str, dict[int, Estimate]] = {}
    columns = (run[name].tolist() for name in ("measure", "generation", "value", "low", "high"))
    for measure, generation, *estimate in zip(*columns, strict=True):
        found.setdefault(str(measure), {})[int(generation)] = Estimate(*estimate)
    return found


def over_seeds(found: pd.DataFrame) -> pd.DataFrame:
    """The runs of each condition taken together: mean over seeds, and its 95 % interval (t over seeds).

    Columns: `condition`, `generation`, `measure`, `value`, `low`, `high`, `seeds` (runs that have this generation). The
    value is NaN where one of the runs has none; human text keeps the mean of the runs' own intervals, which share it.

    found : a tidy table as `results.table` gives it.

    Raises UserError for runs of one condition with the same seed.
    """
    keys = ["condition", "generation", "measure"]
    refuse_twins(found)
    rows = []
    for (condition, generation, measure), part in found.groupby(keys, sort=False):
        columns = (part[name].tolist() for name in ("value", "low", "high"))
        runs = [Estimate(*estimate) for estimate in zip(*columns, strict=True)]
        estimate = shared(runs) if generation == HUMAN else mean([run.value for run in runs])
        rows.append((condition, generation, measure, *estimate, len(runs)))
    return pd.DataFrame(rows, columns=[*keys, *Estimate._fields, "seeds"])


def refuse_twins(found: pd.DataFrame) -> None:
    """UserError for runs of one condition with the same seed: they are no sample of seeds."""
    twice = found[found.duplicated(["condition", "generation", "measure", "seed"])]
    if len(twice):
        raise UserError(
            f"several runs of condition '{twice['condition'].iloc[0]}' have the seed {twice['seed'].iloc[0]}; "
            "give runs that differ in nothing but their seed"
        )


def families(runs: Sequence[Path]) -> list[list[Subject]]:
    """Run directories as subjects, those together whose configurations differ in seed and size of human text only.

    Raises UserError as `results.table` does.
    """
    found = table(runs)
    paths = list(dict.fromkeys(run.resolve() for run in runs))
    members: dict[str, dict[str, float]] = {}
    for name, path in zip(names(paths), paths, strict=True):
        config = dict((read_manifest(path) or {})["config"])
        corpus = dict(config.get("corpus") or {})
        size = corpus.pop("train_words", None)
        rest: dict[str, Any] = {**config, "corpus": corpus, "seed": None, "generations": None}
        members.setdefault(json.dumps(rest, sort_keys=True), {})[name] = np.nan if size is None else float(size)
    return [subjects(found[found["run"].isin(list(sizes))], sizes) for sizes in members.values()]
