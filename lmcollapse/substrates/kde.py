"""The substrate `kde`."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from lmcollapse.substrates.chain import ChainSubstrate
from lmcollapse.substrates.gaussian import EPSILON
from lmcollapse.types import Bools, Floats, Start, State, UserError


class KDE(ChainSubstrate):
    """A kernel density estimate with a Gaussian kernel; human data are standard normal.

    A model holds the rows that it was fitted to: `rows (chains, n, d)` and `bandwidth (chains, d)`. It smooths what it
    reads, so that its variance can grow where that of a Gaussian shrinks.
    """

    dimensions: int = Field(1, gt=0)
    """Numbers in a row."""
    bandwidth: Annotated[float, Field(gt=0, le=1e100)] | Literal["scott", "silverman"] = "scott"
    """Deviation of the kernel: a number, or estimated anew by each fit from the deviation of its rows."""

    def check(self, start: Start) -> None:
        """Raise UserError for rows that have no deviation."""
        super().check(start)
        if self.rows < 2:
            raise UserError(f"rows is {self.rows}: a bandwidth needs 2 rows at least; raise rows")

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return self.dimensions

    def human(self, rng: np.random.Generator, chains: int, rows: int) -> Floats:
        """`(chains, rows, d)` standard normal."""
        return rng.standard_normal((chains, rows, self.dimensions))

    def fit(self, statistic: State, previous: State | None, rng: np.random.Generator) -> State:
        """The rows, and the bandwidth of each dimension.

        Scott 1992, Multivariate Density Estimation: n^(-1/(d+4)) deviations; Silverman 1986: (n (d+2) / 4)^(-1/(d+4)).
        """
        rows = statistic["rows"]
        chains, count, width = rows.shape
        if isinstance(self.bandwidth, str):
            base = count if self.bandwidth == "scott" else count * (width + 2) / 4
            bandwidth = base ** (-1 / (width + 4)) * rows.std(axis=1, ddof=1)
        else:
            bandwidth = np.full((chains, width), self.bandwidth)
        return {"rows": rows, "bandwidth": bandwidth}

    def sample(self, model: State, rows: int, rng: np.random.Generator, human: Floats) -> Floats:
        """A row of the model, drawn with replacement, and a draw from the kernel around it."""
        there = model["rows"]
        chains, count, width = there.shape
        centres = np.take_along_axis(there, rng.integers(0, count, (chains, rows))[..., None], axis=1)
        values = rng.standard_normal((chains, rows, width))
        values *= model["bandwidth"][:, None]
        values += centres
        return values

    def measure(self, model: State) -> dict[str, Floats]:
        """Squared error of the mean, variance of the rows and of the density, bandwidth: averages over dimensions."""
        rows, bandwidth = model["rows"], model["bandwidth"]
        variances = rows.var(axis=1)
        return {
            "mean_error": (rows.mean(axis=1) ** 2).mean(axis=1),
            "sample_variance": variances.mean(axis=1),
            "variance": (variances + bandwidth**2).mean(axis=1),
            "bandwidth": bandwidth.mean(axis=1),
        }

    def truth(self) -> dict[str, float]:
        """Of the standard normal."""
        return {"mean_error": 0.0, "sample_variance": 1.0, "variance": 1.0}

    def collapsed(self, model: State) -> Bools:
        """Whether its rows can no longer be told apart in some dimension."""
        rows = model["rows"]
        gone: Bools = (rows.std(axis=1) <= 2 * EPSILON * np.abs(rows).max(axis=1)).any(axis=1)
        return gone
