"""A Gaussian on its own samples (Shumailov et al. 2024): fewer samples, sooner the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import digamma

from lmcollapse.reproductions.evidence import Evidence, Finding, above, against, below, by_seed, change, finding, within
from lmcollapse.reproductions.panels import Panel, Published
from lmcollapse.reproductions.papers import NATURE as PAPER
from lmcollapse.trajectories import mean
from lmcollapse.types import Floats

__all__ = ["PAPER", "PICTURES", "SMALL", "claims", "panels"]

PICTURES = ("densities",)
SMALL = "As in the paper, with many chains in the place of one: means over chains can be held to theory."
NEAR = 0.15
"""Nats; a log variance is an average over thousands of chains."""
EARLY = 99
"""A hundred fits. Later the mean over chains of the squared error is that of a few that went far."""
SIZES = {"n = 100": 100, "n = 500": 500, "n = 1000": 1000, "n = 10000": 10000}


def log_variance(n: int, fits: int) -> Floats:
    """E[ln variance] after 1, 2, … fits with the unbiased variance: t (psi((n - 1)/2) - ln((n - 1)/2))."""
    return np.arange(1, fits + 1) * float(digamma((n - 1) / 2) - np.log((n - 1) / 2))


def claims(found: Evidence) -> Iterator[Finding]:
    """What the paper says of a single Gaussian."""
    smallest = found["n = 100"]
    logs = smallest["log_variance"]
    yield finding(
        "With 100 samples the fitted distribution has all but lost its variance in the end",
        change(logs, smallest.last),
        below,
        float(np.log(0.1)),
        f"log variance, generation {smallest.last} less generation 0, mean over chains",
        "variance goes to 0 almost surely, for every n",
    )
    for few, many in zip(list(SIZES)[:-1], list(SIZES)[1:], strict=True):
        one, other = found[few], found[many]
        last = min(one.last, other.last)
        yield finding(
            f"It is slower with {many} than with {few}",
            against(other["log_variance"], one["log_variance"], last),
            above,
            0.0,
            f"log variance in generation {last}, {many} less {few}",
            "larger n, slower collapse",
        )
    for name, n in SIZES.items():
        trajectory, last = found[name]["log_variance"], found[name].last
        wanted = float(log_variance(n, last + 1)[last])
        gaps = [value - wanted for value in by_seed(trajectory, last)]
        yield finding(
            f"The log variance falls as theory says, {name}",
            mean(gaps),
            within,
            NEAR,
            f"log variance in generation {last} less its exact expectation {wanted:.3g}",
            "exact: t (psi((n-1)/2) - ln((n-1)/2))",
        )
        yield finding(
            f"The estimated mean walks away, {name}",
            change(found[name]["mean_error"], EARLY),
            above,
            0.0,
            f"squared error of the mean, generation {EARLY} less generation 0",
            "grows as t/n",
        )


def panels(found: Evidence) -> Sequence[Panel | Published]:
    """Log variance and distance over the generations, with exact expectations."""
    names = tuple(SIZES)
    theory = {name: log_variance(n, found[name].last + 1).tolist() for name, n in SIZES.items()}
    return [
        Panel("What is left of the variance", "log_variance", "log variance", names, theory, long=True),
        Panel("The estimated mean walks away", "mean_error", "squared error of the mean", names, steep=True, long=True),
        Panel("Distance to human data", "w2_squared", "squared Wasserstein-2", names, steep=True, long=True),
    ]
