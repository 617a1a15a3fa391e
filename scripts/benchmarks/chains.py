"""Chains of one-dimensional Gaussians, against the usual loop over chains and generations in NumPy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.racing import Row, Settings, Side, race
from lmcollapse.chains import trajectories
from lmcollapse.config import Config, parse


def configuration(chains: int, generations: int, rows: int) -> Config:
    """Replace, with the variance of maximum likelihood."""
    return parse(
        {
            "substrate": "gaussian",
            "chains": chains,
            "generations": generations,
            "rows": rows,
            "policy": "replace",
        }
    )


def ours(chains: int, generations: int, rows: int) -> float:
    """The mean variance of the last generation."""
    return float(trajectories(configuration(chains, generations, rows)).measures["variance"][-1].mean())


def one_by_one(chains: int, generations: int, rows: int) -> float:
    """The same as one would write it: draw, fit, note, chain by chain."""
    rng = np.random.default_rng(0)
    variances = np.empty((generations, chains))
    for chain in range(chains):
        mean, deviation = 0.0, 1.0
        for generation in range(generations):
            sample = rng.normal(mean, deviation, rows)
            mean, deviation = sample.mean(), sample.std()
            variances[generation, chain] = deviation**2
    return float(variances[-1].mean())


def loop(rows: int) -> Callable[[Settings], Iterator[Row]]:
    """1,000 chains of 100 generations; the loop runs a tenth of the chains, scaled up, unless `--full`."""

    def run(settings: Settings) -> Iterator[Row]:
        chains, generations = max(10, round(1000 * settings.size)), 100
        share = 1.0 if settings.full else 0.1
        sides = [
            Side("ours", lambda: ours(chains, generations, rows)),
            Side("loop in NumPy", lambda: one_by_one(round(chains * share), generations, rows), share=share),
        ]
        yield from race(f"{chains} chains, n = {rows}", sides, settings.rounds)

    return run


def long(settings: Settings) -> Iterator[Row]:
    """100 chains x 1,000 generations x n = 1,000, without and with a loop beside it for a share of the chains."""
    generations = max(10, round(1000 * settings.size))
    share = 0.1
    sides = [
        Side("ours", lambda: ours(100, generations, 1000)),
        Side("loop in NumPy", lambda: one_by_one(10, generations, 1000), share=share),
    ]
    yield from race("100 chains, n = 1000", sides, settings.rounds)
    began = time.perf_counter()
    np.random.default_rng(0).standard_normal(100_000 * generations)
    yield Row("100 chains, n = 1000", "drawing alone, one thread", time.perf_counter() - began, "s", None)


CASES = {"n-10": loop(10), "n-100": loop(100), "long": long}
