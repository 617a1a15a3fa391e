"""Densities of models that are mixtures of normal distributions: one normal, a few of them, or one a row (kernels)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lmcollapse.types import Floats, State

REACH = 3.5
"""Deviations on either side of its mean in which a normal distribution is drawn."""
FAR = 3.0
"""How much wider than the truth a figure becomes at most, for models that have spread or wandered off."""


@dataclass(frozen=True)
class Normals:
    """A mixture of normal distributions in d dimensions.

    weights : `(K,)`.
    means : `(K, d)`.
    covariances : `(K, d, d)`.
    """

    weights: Floats
    means: Floats
    covariances: Floats

    @classmethod
    def of(cls, substrate: str, model: State) -> Normals:
        """The first chain's model."""
        if substrate == "gaussian":
            return cls(np.ones(1), model["mean"][:1], model["covariance"][:1])
        if substrate == "gaussian_mixture":
            return cls(model["weights"][0], model["means"][0], model["covariances"][0])
        assert substrate == "kde", substrate
        rows = model["rows"][0]
        kernel = np.diag(model["bandwidth"][0] ** 2)
        return cls(np.full(len(rows), 1 / len(rows)), rows, np.broadcast_to(kernel, (len(rows), *kernel.shape)))

    @classmethod
    def standard(cls, dimensions: int) -> Normals:
        """The standard normal distribution."""
        return cls(np.ones(1), np.zeros((1, dimensions)), np.eye(dimensions)[None])

    @property
    def deviations(self) -> Floats:
        """`(K, d)` along each axis."""
        found: Floats = np.sqrt(np.diagonal(self.covariances, axis1=1, axis2=2))
        return found

    def extent(self) -> tuple[Floats, Floats]:
        """`(d,)` the lowest and the highest place along each axis where there is something to see."""
        reach = REACH * self.deviations
        return (self.means - reach).min(axis=0), (self.means + reach).max(axis=0)

    def blurred(self, width: float) -> Normals:
        """As seen through a normal distribution of that deviation, so that what is narrower than a pixel is seen."""
        return Normals(self.weights, self.means, self.covariances + width**2 * np.eye(self.means.shape[1]))

    def density(self, places: Floats) -> Floats:
        """`(places,)` from `(places, d)`."""
        found = np.zeros(len(places))
        root = np.linalg.cholesky(self.covariances)
        dimensions = self.means.shape[1]
        for weight, mean, factor in zip(self.weights, self.means, root, strict=True):
            standard = np.linalg.solve(factor, (places - mean).T)
            height = weight / np.prod(np.diag(factor)) / (2 * np.pi) ** (dimensions / 2)
            found += height * np.exp(-0.5 * (standard**2).sum(axis=0))
        return found


def window(truth: Normals, models: Iterable[Normals]) -> tuple[Floats, Floats]:
    """`(d,)` the lowest and the highest place along each axis that a figure shows."""
    ends = [normals.extent() for normals in (truth, *models)]
    low, high = (np.array(end) for end in zip(*ends, strict=True))
    middle, half = (low[0] + high[0]) / 2, FAR * (high[0] - low[0]) / 2
    return np.maximum(low.min(axis=0), middle - half), np.minimum(high.max(axis=0), middle + half)
