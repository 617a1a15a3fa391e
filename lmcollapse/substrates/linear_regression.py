"""The substrate `linear_regression`."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from lmcollapse.substrates.chain import ChainSubstrate
from lmcollapse.types import Bools, Floats, Start, State, UserError


class LinearRegression(ChainSubstrate):
    """Least squares on labels that the previous generation's model has given, with noise.

    Human labels are x . w + noise, with standard normal x and w of length 1. Rows are (x, y). Model:
    `weights (chains, features)`. Dohmatob, Feng and Kempe 2024, arXiv 2402.07712; Gerstgrasser et al. 2024,
    arXiv 2404.01413.
    """

    features: int = Field(10, gt=0)
    """Numbers in x; d in the literature."""
    noise: float = Field(1.0, ge=0, le=1e100)
    """Standard deviation of the labels about x . w; sigma in the literature."""
    inputs: Literal["fresh", "repeated"] = "fresh"
    """Each generation labels new x, or those of the chain's human rows again."""

    def check(self, start: Start) -> None:
        """Raise UserError for a regression whose risk has no mean."""
        super().check(start)
        least = self.features + 2
        if self.rows < least:
            raise UserError(
                f"rows is {self.rows} and features is {self.features}: the mean of the risk exists from {least} rows "
                "(features + 2) on; raise rows or lower features"
            )

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return self.features + 1

    @property
    def target(self) -> Floats:
        """`(features,)` the weights of human labels."""
        return np.full(self.features, self.features**-0.5)

    def human(self, rng: np.random.Generator, chains: int, rows: int) -> Floats:
        """`(chains, rows, features + 1)`."""
        return self._labelled(rng, rng.standard_normal((chains, rows, self.features)), self.target[None])

    def statistic(self, values: Floats) -> State:
        """X'X and X'y."""
        x, y = values[..., :-1], values[..., -1:]
        turned = x.transpose(0, 2, 1)
        return {"xx": turned @ x, "xy": (turned @ y)[..., 0]}

    def merge(self, first: State, second: State) -> State:
        """Both add up."""
        return {name: first[name] + second[name] for name in first}

    def fit(self, statistic: State, previous: State | None, rng: np.random.Generator) -> State:
        """Ordinary least squares; NaN for a chain whose X'X is singular."""
        try:
            weights = np.linalg.solve(statistic["xx"], statistic["xy"][..., None])[..., 0]
        except np.linalg.LinAlgError:
            weights = np.full(statistic["xy"].shape, np.nan)
            for chain in np.flatnonzero(np.linalg.matrix_rank(statistic["xx"], hermitian=True) == self.features):
                weights[chain] = np.linalg.solve(statistic["xx"][chain], statistic["xy"][chain])
        return {"weights": weights}

    def sample(self, model: State, rows: int, rng: np.random.Generator, human: Floats) -> Floats:
        """New labels, of new x or of those of the human rows."""
        chains = len(model["weights"])
        if self.inputs == "repeated":
            x = human[..., :-1]
            assert x.shape[1] == rows, (x.shape, rows)
        else:
            x = rng.standard_normal((chains, rows, self.features))
        return self._labelled(rng, x, model["weights"])

    def _labelled(self, rng: np.random.Generator, x: Floats, weights: Floats) -> Floats:
        y = np.einsum("crf,cf->cr", x, np.broadcast_to(weights, (len(x), self.features)))
        y += self.noise * rng.standard_normal(y.shape)
        return np.concatenate([x, y[..., None]], axis=-1)

    def measure(self, model: State) -> dict[str, Floats]:
        """The risk above that of the noise on standard normal x, which is |w - target|^2, and |w|."""
        weights = model["weights"]
        return {
            "excess_risk": ((weights - self.target) ** 2).sum(axis=1),
            "norm": np.sqrt((weights**2).sum(axis=1)),
        }

    def truth(self) -> dict[str, float]:
        """Of the weights of human labels."""
        return {"excess_risk": 0.0, "norm": 1.0}

    def collapsed(self, model: State) -> Bools:
        """Whether the weights are no numbers."""
        lost: Bools = np.isnan(model["weights"].sum(axis=1))
        return lost
