"""How long a rare symbol survives (Suresh et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lmcollapse.reproductions.evidence import Evidence, Finding, above, average, finding, within
from lmcollapse.reproductions.panels import Panel, Published
from lmcollapse.reproductions.papers import SURESH as PAPER
from lmcollapse.theory import survival
from lmcollapse.trajectories import mean
from lmcollapse.types import Floats

__all__ = ["PAPER", "PICTURES", "SMALL", "claims", "panels"]

PICTURES = ()
SMALL = (
    "As in the paper, as far as its sizes are public. Counts of 5,000 draws of a rare symbol stand for Poisson ones."
)
POISSON = {"mean 1": (2e-4, 5_000), "mean 10": (2e-3, 5_000)}
"""So many draws of so rare a symbol that its counts are as good as Poisson distributed."""
BINOMIAL = {"p = 0.001, n = 10000": (0.001, 10_000), "p = 0.01, n = 100": (0.01, 100)}
ZIPF = {"zipf a = 1": (1.0, 2.7), "zipf a = 2": (2.0, 5.0)}
SYMBOLS, DRAWS = 1000, 1000
NEAR = 0.02


def expected(p: float, n: int, generations: int) -> Floats:
    """Probability that the symbol still occurs in each generation, the first of which is one resampling away."""
    return np.array([survival(p, n, generation + 1) for generation in range(generations)])


def support(exponent: float, shift: float, generations: int) -> Floats:
    """The sum of that over all symbols of a Zipf distribution: a bound from below of how many are left."""
    weights = (np.arange(1, SYMBOLS + 1) + shift) ** -exponent
    p = weights / weights.sum()
    return np.array([survival(p, DRAWS, generation + 1).sum() for generation in range(generations)])


def claims(found: Evidence) -> Iterator[Finding]:
    """Survival against 1 - exp(-n p g_k), exact for Poisson counts and a bound from below for others."""
    for name, (p, n) in POISSON.items():
        runs = found[name]
        yield finding(
            f"Poisson counts, {name}: a rare symbol survives exactly as often as theory says",
            average(runs["rarest_survives"], expected(p, n, runs.last + 1), range(runs.last + 1)),
            within,
            NEAR,
            f"share of chains with the symbol less 1 - exp(-n p g_k), mean over {runs.last + 1} generations",
            "exact",
        )
    for name, (p, n) in BINOMIAL.items():
        runs = found[name]
        yield finding(
            f"Bernoulli, {name}: it survives at least as often",
            average(runs["rarest_survives"], expected(p, n, runs.last + 1), range(runs.last + 1)),
            above,
            -NEAR,
            f"share of chains with the symbol less 1 - exp(-n p g_k), mean over {runs.last + 1} generations",
            "a bound from below",
        )
    for name, (exponent, shift) in ZIPF.items():
        runs = found[name]
        wanted = support(exponent, shift, runs.last + 1)
        yield finding(
            f"{name}: at least as many symbols are left as theory says",
            average(runs["support"], wanted, range(runs.last + 1)),
            above,
            0.0,
            f"symbols left less the sum of the bounds, mean over {runs.last + 1} generations",
            "a bound from below",
        )
        tail = runs["support"].values(runs.last + 1)[:, -1] / wanted[-1] - 1
        yield finding(
            f"{name}: and hardly more",
            mean(tail.tolist()),
            within,
            0.1,
            f"symbols left in generation {runs.last} over the bound, less 1",
            "a good approximation where symbols are rare",
        )


def panels(found: Evidence) -> Sequence[Panel | Published]:
    """Survival of one symbol, and how many are left of a Zipf distribution, with theory dashed."""
    last = max(found[name].last for name in (*POISSON, *BINOMIAL, *ZIPF)) + 1
    return [
        Panel(
            "Rare symbol, Poisson counts",
            "rarest_survives",
            "still there",
            tuple(POISSON),
            {name: expected(*pair, last).tolist() for name, pair in POISSON.items()},
            long=True,
        ),
        Panel(
            "Rare symbol, Bernoulli",
            "rarest_survives",
            "still there",
            tuple(BINOMIAL),
            {name: expected(*pair, last).tolist() for name, pair in BINOMIAL.items()},
            long=True,
        ),
        Panel(
            "Symbols of a Zipf distribution",
            "support",
            "symbols left",
            tuple(ZIPF),
            {name: support(*pair, last).tolist() for name, pair in ZIPF.items()},
            steep=True,
            long=True,
        ),
    ]
