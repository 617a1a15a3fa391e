"""The substrate `gaussian`."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from lmcollapse.substrates.chain import ChainSubstrate
from lmcollapse.types import Bools, Floats, Start, State, UserError

EPSILON = np.finfo(np.float64).eps


class Gaussian(ChainSubstrate):
    """A Gaussian of any dimension; human data are standard normal.

    The fit is affine equivariant, so that any other Gaussian behaves alike in units of its own deviation. Model:
    `mean (chains, d)`, `covariance (chains, d, d)`. Shumailov et al. 2024, arXiv 2305.17493.
    """

    dimensions: int = Field(1, gt=0)
    """Numbers in a row."""
    ddof: Literal[0, 1] = 0
    """0 for the covariance of maximum likelihood, which divides by n; 1 for the unbiased one, by n - 1."""

    def check(self, start: Start) -> None:
        """Raise UserError for a fit that would be singular from the start."""
        super().check(start)
        least = self.dimensions + 1
        if self.rows < least:
            raise UserError(
                f"rows is {self.rows} and dimensions is {self.dimensions}: a covariance that is not singular needs "
                f"{least} rows at least; raise rows"
            )

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return self.dimensions

    def human(self, rng: np.random.Generator, chains: int, rows: int) -> Floats:
        """`(chains, rows, d)` standard normal."""
        return rng.standard_normal((chains, rows, self.dimensions))

    def statistic(self, values: Floats) -> State:
        """`count`, `mean` and `scatter` about it."""
        chains, rows, width = values.shape
        mean = values.mean(axis=1)
        centred = values - mean[:, None]
        if width == 1:  # einsum is several times faster on vectors
            flat = centred[..., 0]
            scatter = np.einsum("cr,cr->c", flat, flat)[:, None, None]
        else:
            scatter = centred.transpose(0, 2, 1) @ centred
        return {"count": np.full(chains, float(rows)), "mean": mean, "scatter": scatter}

    def merge(self, first: State, second: State) -> State:
        """Of the rows of both (Chan, Golub and LeVeque 1983, Am. Statist. 37, 242-247)."""
        count = first["count"] + second["count"]
        gap = second["mean"] - first["mean"]
        share = (second["count"] / count)[:, None]
        between = (first["count"] * second["count"] / count)[:, None, None] * gap[:, :, None] * gap[:, None]
        scatter = first["scatter"] + second["scatter"] + between
        return {"count": count, "mean": first["mean"] + share * gap, "scatter": scatter}

    def fit(self, statistic: State, previous: State | None, rng: np.random.Generator) -> State:
        """Mean and covariance."""
        covariance = statistic["scatter"] / (statistic["count"] - self.ddof)[:, None, None]
        return {"mean": statistic["mean"], "covariance": covariance}

    def sample(self, model: State, rows: int, rng: np.random.Generator, human: Floats) -> Floats:
        """Normal draws."""
        mean, covariance = model["mean"], model["covariance"]
        values = rng.standard_normal((len(mean), rows, self.dimensions))
        if self.dimensions == 1:
            values *= np.sqrt(covariance)
        else:
            values = values @ root(covariance).transpose(0, 2, 1)
        values += mean[:, None]
        return values

    def measure(self, model: State) -> dict[str, Floats]:
        """Squared error of the mean, variance, deviation and log variance, each the average over dimensions.

        `w2_squared` is the squared Wasserstein-2 distance to the standard normal, summed over dimensions.
        """
        mean, covariance = model["mean"], model["covariance"]
        with np.errstate(divide="ignore"):
            if self.dimensions == 1:
                variances = covariance[:, 0]
            else:
                variances = np.linalg.eigvalsh(covariance).clip(min=0)
            deviations, logs = np.sqrt(variances), np.log(variances)
        error = (mean**2).sum(axis=1)
        found = {
            "mean_error": error / self.dimensions,
            "variance": variances.mean(axis=1),
            "standard_deviation": deviations.mean(axis=1),
            "log_variance": logs.mean(axis=1),
            "w2_squared": error + ((deviations - 1) ** 2).sum(axis=1),
        }
        return found if self.dimensions == 1 else found | {"determinant": variances.prod(axis=1)}

    def truth(self) -> dict[str, float]:
        """Of the standard normal."""
        found = {"mean_error": 0.0, "variance": 1.0, "standard_deviation": 1.0, "log_variance": 0.0, "w2_squared": 0.0}
        return found if self.dimensions == 1 else found | {"determinant": 1.0}

    def collapsed(self, model: State) -> Bools:
        """Whether its samples can no longer be told apart in some direction."""
        return singular(model["mean"], model["covariance"])


def root(covariance: Floats) -> Floats:
    """`(…, d, d)` R with R R^T = covariance; also of a singular one."""
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        scaled: Floats = vectors * np.sqrt(values.clip(min=0))[..., None, :]
        return scaled


def singular(mean: Floats, covariance: Floats) -> Bools:
    """Whether a covariance has lost a direction, or is too small beside its mean for numbers to differ."""
    width = mean.shape[-1]
    values = covariance[..., 0] if width == 1 else np.linalg.eigvalsh(covariance)
    scale = (EPSILON * np.abs(mean).max(axis=-1)) ** 2
    lost: Bools = values[..., 0] <= np.maximum(scale, width * EPSILON * values[..., -1] * (width > 1))
    return lost
