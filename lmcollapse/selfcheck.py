"""Is this copy right? The simple substrates against every closed form of `theory.py`, by the ordinary entry points.

Equalities are tested at a z that all rows together exceed by chance less than once in a thousand times; bounds from one
side; limits, which hold for large n or t only, within an allowance that is stated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from rich.table import Table

from lmcollapse import theory
from lmcollapse.chains import Trace, trajectories
from lmcollapse.config import parse
from lmcollapse.progress import bare_table
from lmcollapse.substrates.gaussian_mixture import GaussianMixture
from lmcollapse.types import Floats, Progress, Silent

FALSE_ALARMS = 1e-3
"""Probability that a right copy fails in any row."""

Kind = Literal["equals", "at most", "at least", "near"]


@dataclass(frozen=True)
class Check:
    """One row.

    measured, error : mean over chains and its standard error.
    expected : what theory says of the mean.
    kind : how the two compare; "near" within `allowance`, beside the standard error.
    z : (measured - expected) / error.
    limit : the z that a right copy does not go beyond.
    """

    name: str
    kind: Kind
    measured: float
    error: float
    expected: float
    limit: float
    allowance: float = 0.0

    @property
    def z(self) -> float:
        """(measured - expected) / error."""
        gap = self.measured - self.expected
        return gap / self.error if self.error else float(np.sign(gap) * np.inf) if gap else 0.0

    @property
    def passed(self) -> bool:
        """Whether theory and the chains agree."""
        if not np.isfinite(self.measured):
            return False
        room = self.limit * self.error + self.allowance * abs(self.expected)
        gap = self.measured - self.expected
        return {
            "equals": abs(gap) <= room,
            "near": abs(gap) <= room,
            "at most": gap <= room,
            "at least": gap >= -room,
        }[self.kind]


@dataclass(frozen=True)
class _Row:
    """A row before it is known how many there are. values : `(chains,)`."""

    name: str
    values: Floats
    expected: float
    kind: Kind = "equals"
    allowance: float = 0.0


@dataclass
class _Lab:
    """Runs chains, each configuration once."""

    done: dict[str, Trace] = field(default_factory=dict)

    def __call__(self, **given: Any) -> Trace:
        key = repr(sorted(given.items()))
        if key not in self.done:
            self.done[key] = trajectories(parse({"policy": "replace", **given}))
        return self.done[key]


def selfcheck(progress: Progress | None = None, groups: tuple[str, ...] = ()) -> list[Check]:
    """Run every check and return the rows.

    groups : names in `GROUPS`; all by default.
    """
    lab, rows = _Lab(), []
    chosen = groups or tuple(GROUPS)
    with (progress or Silent()).stage("selfcheck", total=len(chosen), unit="groups") as advance:
        for name in chosen:
            rows += [(name, row) for row in GROUPS[name](lab)]
            advance(1)
    from scipy import stats

    limit = float(stats.norm.isf(FALSE_ALARMS / 2 / len(rows)))
    return [
        Check(
            name=f"{group}: {row.name}",
            kind=row.kind,
            measured=float(row.values.mean()),
            error=float(row.values.std(ddof=1) / np.sqrt(len(row.values))) if len(row.values) > 1 else 0.0,
            expected=float(row.expected),
            limit=limit,
            allowance=row.allowance,
        )
        for group, row in rows
    ]


def _replace(lab: _Lab, ddof: int) -> Iterator[_Row]:
    n, t = 20, np.arange(1, 11)
    found = lab(substrate="gaussian", chains=20_000, rows=n, generations=10, ddof=ddof, seed=ddof).measures
    log_mean, log_variance = theory.replace_log_variance(t, n, ddof)
    expected = {
        "variance": theory.replace_variance(t, n, ddof),
        "mean_error": theory.replace_mean_error(t, n, ddof),
        "standard_deviation": theory.replace_deviation(t, n, ddof),
        "w2_squared": theory.replace_w2(t, n, ddof),
        "log_variance": log_mean,
    }
    for name, values in expected.items():
        for at in (1, 2, 5, 10):
            yield _Row(f"{name.replace('_', ' ')}, t = {at}", found[name][at - 1], values[at - 1])
    for at in (2, 10):
        spread = (found["log_variance"][at - 1] - log_mean[at - 1]) ** 2
        yield _Row(f"spread of log variance, t = {at}", spread, log_variance[at - 1])
    if not ddof:
        for at in (5, 10):
            both = found["variance"][at - 1] + found["mean_error"][at - 1]
            yield _Row(f"variance and mean error together, t = {at}", both, 1.0)


def _accumulate(lab: _Lab) -> Iterator[_Row]:
    n = 10
    found = lab(substrate="gaussian", chains=20_000, rows=n, generations=30, policy="accumulate").measures
    for at in (2, 5, 30):
        variance = theory.accumulate_variance(np.array([at]), n)[0]
        yield _Row(f"variance, t = {at}", found["variance"][at - 1], variance)
        yield _Row(f"mean error, t = {at}", found["mean_error"][at - 1], 1 - variance)
    late = lab(substrate="gaussian", chains=4000, rows=n, generations=300, policy="accumulate").measures["variance"][-1]
    yield _Row("variance stays at its limit, t = 300", late, theory.accumulate_limit(n), "near", 0.001)


def _subsample(lab: _Lab) -> Iterator[_Row]:
    n = 10
    found = lab(substrate="gaussian", chains=6000, rows=n, generations=20, policy="accumulate_subsample").measures
    for at in (1, 2, 5, 20):
        expected = theory.subsample_variance(np.array([at]), n)[0]
        yield _Row(f"variance, t = {at}", found["variance"][at - 1], expected)


def _fresh(lab: _Lab) -> Iterator[_Row]:
    n, share = 20, 0.25
    policy = {"kind": "fresh", "human_fraction": share}
    found = lab(substrate="gaussian", chains=20_000, rows=n, generations=40, policy=policy).measures
    for at in (1, 2, 5, 40):
        expected = theory.fresh_mean_error(np.array([at]), n, share)[0]
        yield _Row(f"mean error, t = {at}", found["mean_error"][at - 1], expected)
        yield _Row(f"variance, t = {at}", found["variance"][at - 1], 1 - expected)


def _dimensions(lab: _Lab) -> Iterator[_Row]:
    n, d = 20, 3
    found = lab(substrate="gaussian", chains=10_000, rows=n, generations=5, dimensions=d).measures
    for at in (1, 2, 3):
        yield _Row(f"determinant, t = {at}", found["determinant"][at - 1], theory.determinant(np.array([at]), n, d)[0])
    t = np.array([5])
    yield _Row("variance of a dimension, t = 5", found["variance"][4], theory.replace_variance(t, n)[0])
    yield _Row("mean error of a dimension, t = 5", found["mean_error"][4], theory.replace_mean_error(t, n)[0])


def _kde(lab: _Lab) -> Iterator[_Row]:
    n, bandwidth = 20, 0.3
    found = lab(substrate="kde", chains=20_000, rows=n, generations=20, bandwidth=bandwidth).measures
    for at in (1, 2, 5, 20):
        expected = theory.kde_sample_variance(np.array([at]), n, bandwidth)[0]
        yield _Row(f"variance of the rows, t = {at}", found["sample_variance"][at - 1], expected)


def _discrete(lab: _Lab) -> Iterator[_Row]:
    n, t = 50, np.array([1, 5, 20])
    given = {"substrate": "discrete", "distribution": "given", "probabilities": (0.1, 0.2, 0.3, 0.4), "rows": n}
    human = 1 - (np.array(given["probabilities"]) ** 2).sum()
    for policy, factors in (
        ("replace", theory.replace_variance(t, n)),
        ("accumulate", theory.accumulate_variance(t, n)),
    ):
        found = lab(**given, chains=20_000, generations=20, policy=policy).measures
        for at, factor in zip(t.tolist(), factors.tolist(), strict=True):
            yield _Row(f"heterozygosity, {policy}, t = {at}", found["heterozygosity"][at - 1], human * factor)
            yield _Row(f"rarest symbol, {policy}, t = {at}", found["rarest"][at - 1], 0.1)
    fixed = lab(**{**given, "rows": 10}, chains=4000, generations=250)
    ended = fixed.measures["support"][-1] == 1
    yield _Row("chains end with one symbol", ended.astype(float), 1.0, "near", 0.001)
    yield _Row("chains that end with the rarest", (fixed.measures["rarest"][-1] == 1).astype(float), 0.1)
    two = lab(substrate="discrete", symbols=2, rows=60, chains=4000, generations=1200)
    assert (two.collapsed_at >= 0).all(), "a chain has not been fixed in 1,200 generations"
    yield _Row("generations until one is left", two.collapsed_at + 1.0, theory.fixation_time(60, 2), "near", 0.03)


def _survival(lab: _Lab) -> Iterator[_Row]:
    for rare, n in ((0.001, 1000), (0.01, 100), (0.01, 1000)):
        probabilities = (rare, 1 - rare)
        found = lab(
            substrate="discrete",
            distribution="given",
            probabilities=probabilities,
            rows=n,
            chains=20_000,
            generations=10,
        ).measures["rarest_survives"]
        for k in (1, 2, 10):
            expected, name = theory.survival(rare, n, k), f"p = {rare}, n = {n}, {k} resamplings"
            yield _Row(f"{name}: bound", found[k - 1], expected, "at least")
            yield _Row(f"{name}: value", found[k - 1], expected, "near", 0.02)
    zipf = {"substrate": "discrete", "distribution": "zipf", "symbols": 500, "rows": 500}
    found = lab(**zipf, chains=2000, generations=10).measures["support"]
    human = parse({**zipf, "policy": "replace"}).build_substrate().human_probabilities  # type: ignore[attr-defined]
    for k in (1, 2, 10):
        expected = float(theory.survival(human, 500, k).sum())
        yield _Row(f"symbols left, zipf, {k} resamplings: bound", found[k - 1], expected, "at least")
        yield _Row(f"symbols left, zipf, {k} resamplings: value", found[k - 1], expected, "near", 0.01)


def _regression(lab: _Lab) -> Iterator[_Row]:
    rows, d = 20, 5
    given = {"substrate": "linear_regression", "rows": rows, "features": d, "generations": 10, "chains": 10_000}
    found = lab(**given).measures["excess_risk"]
    for at in (1, 3, 10):
        yield _Row(f"risk, replace, t = {at}", found[at - 1], theory.regression_risk(np.array([at]), rows, d, 1.0)[0])
    again = lab(**given, inputs="repeated", policy="accumulate").measures["excess_risk"]
    fresh = lab(**given, policy="accumulate").measures["excess_risk"]
    for at in (3, 10):
        growing = theory.regression_risk(np.array([at]), rows, d, 1.0, "accumulate")[0]
        yield _Row(f"risk, accumulate, same X, t = {at}", again[at - 1], growing)
        yield _Row(f"risk, accumulate, fresh X, t = {at}", fresh[at - 1], growing, "at most")
    bound = np.pi**2 / 6 * theory.regression_risk(np.array([1]), rows, d, 1.0)[0]
    yield _Row("risk, accumulate, same X, under pi^2/6 of the first", again[-1], bound, "at most")


def _mixture(lab: _Lab) -> Iterator[_Row]:
    mixture = GaussianMixture.model_validate({"chains": 1, "rows": 50})
    rng = np.random.default_rng(0)
    human = mixture.human_model()
    model = mixture.fit(mixture.statistic(mixture.human(rng, 1, 50)), None, rng)
    closed = float(mixture.measure(model)["l2_squared"][0])
    of_model, of_human = (mixture.sample(each, 400_000, rng, np.empty(0)) for each in (model, human))
    gaps = [mixture.density(rows, model)[0] - mixture.density(rows, human)[0] for rows in (of_model, of_human)]
    yield _Row("squared L2 distance, by Monte Carlo", gaps[0] - gaps[1], closed)
    yield _Row("squared L2 distance to itself", mixture.measure(human)["l2_squared"], 0.0, "near")


def _independence(lab: _Lab) -> Iterator[_Row]:
    n, chains, generations = 50, 1500, 400
    logs = lab(substrate="gaussian", rows=n, chains=chains, generations=generations, seed=2).measures["log_variance"]
    yield _Row("different chains", np.array([float(len(np.unique(logs[-1])))]), chains)
    mean, variance = theory.replace_log_variance(np.array([1.0]), n)
    together = (np.diff(logs, axis=0) - mean).mean(axis=1) * np.sqrt(chains / variance)
    yield _Row("spread of the mean of all chains, in that of one", together**2, 1.0)


GROUPS: dict[str, Callable[[_Lab], Iterator[_Row]]] = {
    "gaussian, replace": lambda lab: _replace(lab, 0),
    "gaussian, replace, unbiased": lambda lab: _replace(lab, 1),
    "gaussian, accumulate": _accumulate,
    "gaussian, accumulate_subsample": _subsample,
    "gaussian, fresh": _fresh,
    "gaussian, 3 dimensions": _dimensions,
    "kde": _kde,
    "discrete": _discrete,
    "discrete, survival": _survival,
    "linear_regression": _regression,
    "gaussian_mixture": _mixture,
    "independence": _independence,
}


def selfcheck_table(checks: list[Check]) -> Table:
    """The rows as a table for the terminal."""
    shown = bare_table()
    shown.add_column("check", overflow="fold")
    for heading in ("measured", "±", "", "theory", "z", ""):
        shown.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for check in checks:
        how = f"{check.kind} ({check.allowance:.1%})" if check.allowance else check.kind
        shown.add_row(
            check.name,
            f"{check.measured:.5g}",
            f"{check.error:.2g}",
            how,
            f"{check.expected:.5g}",
            f"{check.z:+.1f}",
            "ok" if check.passed else "FAILED",
        )
    return shown
