"""The substrate `gaussian_mixture`."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from lmcollapse.substrates.chain import ChainSubstrate
from lmcollapse.substrates.gaussian import EPSILON
from lmcollapse.types import Bools, Floats, Start, State, UserError

LLOYD = 10
"""Steps of k-means before the first expectation."""


class GaussianMixture(ChainSubstrate):
    """A mixture of Gaussians with full covariances, fitted by expectation maximisation.

    Human data are an even mixture of Gaussians of unit covariance, their means on a circle (in one
    dimension, a line).
    Model: `weights (chains, K)`, `means (chains, K, d)`, `covariances (chains, K, d, d)`. Generation 0 starts from
    k-means, each later one from the parameters before it. Shumailov et al. 2024, arXiv 2305.17493.
    """

    components: int = Field(2, gt=0)
    """Gaussians, of the human mixture and of each model; K."""
    dimensions: int = Field(2, gt=0)
    """Numbers in a row."""
    separation: float = Field(4.0, ge=0, le=1e6)
    """Distance of neighbouring human means, in deviations."""
    iterations: int = Field(100, gt=0)
    """Most steps of a fit."""
    tolerance: float = Field(1e-3, ge=0)
    """A fit ends when a step changes the mean log likelihood of a row by less."""
    floor: float = Field(1e-6, gt=0)
    """Added to the diagonals of covariances, which keeps them from being singular."""

    def check(self, start: Start) -> None:
        """Raise UserError for fewer rows than parameters can be told from."""
        super().check(start)
        least = self.components * (self.dimensions + 1)
        if self.rows < least:
            raise UserError(
                f"rows is {self.rows}: {self.components} components of {self.dimensions} dimensions need {least} rows "
                "(components times dimensions + 1) at least; raise rows or lower components"
            )

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return self.dimensions

    def human_model(self) -> State:
        """The mixture that human data come from, as the model of one chain."""
        count, width = self.components, self.dimensions
        means = np.zeros((count, width))
        if width == 1:
            means[:, 0] = self.separation * (np.arange(count) - (count - 1) / 2)
        elif count > 1:
            angles = 2 * np.pi * np.arange(count) / count
            radius = self.separation / (2 * np.sin(np.pi / count))
            means[:, 0], means[:, 1] = radius * np.cos(angles), radius * np.sin(angles)
        return {
            "weights": np.full((1, count), 1 / count),
            "means": means[None],
            "covariances": np.broadcast_to(np.eye(width), (1, count, width, width)).copy(),
        }

    def human(self, rng: np.random.Generator, chains: int, rows: int) -> Floats:
        """`(chains, rows, d)`."""
        model = {name: np.repeat(array, chains, axis=0) for name, array in self.human_model().items()}
        return _draw(model, rows, rng)

    def fit(self, statistic: State, previous: State | None, rng: np.random.Generator) -> State:
        """The model of each chain; those that have converged are left alone while others go on.

        Dempster, Laird and Rubin 1977, J. R. Statist. Soc. B 39, 1-38; stopped as scikit-learn's GaussianMixture is.
        """
        rows = statistic["rows"]
        if previous is None:
            model = self._maximised(rows, _nearest(rows, _seeds(rows, self.components, rng)))
        else:
            model = {name: array.copy() for name, array in previous.items()}
        active, before = np.arange(len(rows)), np.full(len(rows), -np.inf)
        for _ in range(self.iterations):
            some = rows[active]
            logs = _log_densities(some, {name: array[active] for name, array in model.items()})
            top = logs.max(axis=2, keepdims=True)
            shares = np.exp(logs - top)
            sums = shares.sum(axis=2, keepdims=True)
            likelihood = (np.log(sums) + top).mean(axis=(1, 2))
            better = self._maximised(some, shares / sums)
            for name, array in better.items():
                model[name][active] = array
            moving = np.abs(likelihood - before[active]) >= self.tolerance
            before[active] = likelihood
            active = active[moving]
            if not len(active):
                break
        return model

    def _maximised(self, rows: Floats, shares: Floats) -> State:
        """The parameters, given to which component each row belongs, `(chains, rows, K)`."""
        counts = shares.sum(axis=1) + 10 * np.finfo(np.float64).eps
        means = shares.transpose(0, 2, 1) @ rows / counts[..., None]
        covariances = np.empty((*means.shape, rows.shape[2]))
        for k in range(self.components):  # all at once would take K times the memory of the rows
            centred = rows - means[:, k, None]
            scatter = (shares[..., k, None] * centred).transpose(0, 2, 1) @ centred
            covariances[:, k] = scatter / counts[:, k, None, None]
        covariances += self.floor * np.eye(rows.shape[2])
        return {"weights": counts / counts.sum(axis=1, keepdims=True), "means": means, "covariances": covariances}

    def sample(self, model: State, rows: int, rng: np.random.Generator, human: Floats) -> Floats:
        """Draws from a component that is drawn by its weight."""
        return _draw(model, rows, rng)

    def density(self, rows: Floats, model: State) -> Floats:
        """`(chains, rows)` of the mixtures at `(chains, rows, d)`."""
        densities: Floats = np.exp(_log_densities(rows, model)).sum(axis=2)
        return densities

    def measure(self, model: State) -> dict[str, Floats]:
        """Distance to the human mixture, and how much of a mixture is left.

        `l2_squared` is the integral of the squared difference of the densities, `variance` the total variance of a
        dimension on average, `separation` the smallest distance of two means, `weight_entropy` in nats.
        """
        weights, means, covariances = model["weights"], model["means"], model["covariances"]
        centre = (weights[..., None] * means).sum(axis=1)
        between = (weights[..., None] * (means - centre[:, None]) ** 2).sum(axis=1)
        within = (weights[..., None] * np.diagonal(covariances, axis1=2, axis2=3)).sum(axis=1)
        distances = np.linalg.norm(means[:, :, None] - means[:, None], axis=-1)
        distances[:, np.arange(self.components), np.arange(self.components)] = np.inf
        found = {
            "l2_squared": self._l2_squared(model),
            "variance": (between + within).mean(axis=1),
            "weight_entropy": -(weights * np.log(weights)).sum(axis=1),
        }
        return found if self.components == 1 else found | {"separation": distances.min(axis=(1, 2))}

    def _l2_squared(self, model: State) -> Floats:
        """Products of Gaussians have closed integrals: N(m_i - m_j; 0, S_i + S_j)."""
        human = self.human_model()
        squared: Floats = overlap(model, model) + overlap(human, human) - 2 * overlap(model, human)
        return squared.clip(min=0)

    def truth(self) -> dict[str, float]:
        """Of the human mixture."""
        return {name: float(value[0]) for name, value in self.measure(self.human_model()).items()}

    def collapsed(self, model: State) -> Bools:
        """Whether a component has less than a row, or no width but the floor in some direction."""
        least = np.linalg.eigvalsh(model["covariances"])[..., 0].min(axis=1)
        gone: Bools = (model["weights"].min(axis=1) < 1 / self.rows) | (least < 2 * self.floor)
        return gone


def overlap(first: State, second: State) -> Floats:
    """`(chains,)` the integrals of the product of two mixtures' densities; either may have one chain for all."""
    gaps = first["means"][:, :, None] - second["means"][:, None]
    covariances = first["covariances"][:, :, None] + second["covariances"][:, None]
    root = _root(covariances)
    solved = np.linalg.solve(root, gaps[..., None])[..., 0]
    logs = -0.5 * (solved**2).sum(axis=-1) - _log_volume(root)
    products = first["weights"][:, :, None] * second["weights"][:, None] * np.exp(logs)
    total: Floats = products.sum(axis=(1, 2))
    return total


def _root(covariances: Floats) -> Floats:
    """`(…, d, d)` lower triangular R with R R^T = covariance.

    One that is singular to the last digit, since the floor is lost beside its scale, gets the least width that can be
    told from none.
    """
    try:
        return np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError:
        found = np.empty_like(covariances)
        for place in np.ndindex(covariances.shape[:-2]):
            found[place] = _root_of_one(covariances[place])
        return found


def _root_of_one(covariance: Floats) -> Floats:
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        values = values.clip(min=max(EPSILON * values[-1], np.finfo(np.float64).tiny))
        upper = np.linalg.qr((vectors * np.sqrt(values)).T)[1]
        triangular: Floats = upper.T * np.sign(np.diagonal(upper))
        return triangular


def _log_densities(rows: Floats, model: State) -> Floats:
    """`(chains, rows, K)` log of weight times density."""
    root = _root(model["covariances"])
    inverse = np.linalg.inv(root)
    logs = np.empty((*rows.shape[:2], root.shape[1]))
    for k in range(root.shape[1]):
        whitened = (rows - model["means"][:, k, None]) @ inverse[:, k].transpose(0, 2, 1)
        logs[..., k] = -0.5 * np.einsum("crd,crd->cr", whitened, whitened)
    constant = np.log(model["weights"]) - _log_volume(root)
    return logs + constant[:, None]


def _log_volume(root: Floats) -> Floats:
    """Logarithm of the constant of a Gaussian density, with `root` of its covariance."""
    diagonal = np.diagonal(root, axis1=-2, axis2=-1)
    volume: Floats = np.log(diagonal).sum(axis=-1) + 0.5 * root.shape[-1] * np.log(2 * np.pi)
    return volume


def _draw(model: State, rows: int, rng: np.random.Generator) -> Floats:
    means, root = model["means"], _root(model["covariances"])
    chains, _, width = means.shape
    ends = np.cumsum(model["weights"], axis=1)[:, :-1]
    component = (rng.random((chains, rows))[..., None] > ends[:, None]).sum(axis=-1)
    values = rng.standard_normal((chains, rows, width))
    here = np.arange(chains)[:, None]
    values = (root[here, component] @ values[..., None])[..., 0]
    drawn: Floats = values + means[here, component]
    return drawn


def _seeds(rows: Floats, count: int, rng: np.random.Generator) -> Floats:
    """`(chains, K, d)` rows far from each other (k-means++; Arthur and Vassilvitskii 2007), moved by k-means."""
    here = np.arange(len(rows))
    seeds = rows[here, rng.integers(0, rows.shape[1], len(rows))][:, None]
    while seeds.shape[1] < count:
        nearest = ((rows[:, :, None] - seeds[:, None]) ** 2).sum(axis=-1).min(axis=-1)
        ends = np.cumsum(nearest, axis=1)
        chosen = (rng.random(len(rows))[:, None] * ends[:, -1:] > ends).sum(axis=1)
        seeds = np.concatenate([seeds, rows[here, chosen.clip(max=rows.shape[1] - 1)][:, None]], axis=1)
    for _ in range(LLOYD):
        members = _nearest(rows, seeds)
        counts = members.sum(axis=1)[..., None]
        seeds = np.where(counts > 0, members.transpose(0, 2, 1) @ rows / counts.clip(min=1), seeds)
    return seeds


def _nearest(rows: Floats, centres: Floats) -> Floats:
    """`(chains, rows, K)` 1 for the nearest centre, else 0."""
    distances = ((rows[:, :, None] - centres[:, None]) ** 2).sum(axis=-1)
    nearest: Floats = (distances.argmin(axis=-1)[..., None] == np.arange(centres.shape[1])).astype(float)
    return nearest
