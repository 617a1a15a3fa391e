"""What the measures of the vocabulary tail share: a statistic of the sample, beside what mere resampling would give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
from pydantic import Field

from lmcollapse.metrics.drift import Drift
from lmcollapse.metrics.intervals import LEAST_BLOCKS, LEVEL, jackknife
from lmcollapse.metrics.sample import BLOCKS, Sample
from lmcollapse.metrics.scene import Reference
from lmcollapse.types import Floats, Ints, Reading

Count = Annotated[int, Field(ge=1)]

Statistic = Callable[[Ints, int], float]
"""`statistic(counts, words)`: of how often each human word type occurs in a text, and of all words of that text."""


def rare_types(human: Reference, rare_count: int) -> Ints:
    """The numbers of the word types that occur in the human training part, and at most `rare_count` times there."""
    return np.flatnonzero((human.counts >= 1) & (human.counts <= rare_count))


class Occurrences:
    """How often the human word types occur in the sample, in each of its blocks, and in each chain of neutral drift."""

    def __init__(self, written: Sample, human: Reference, drift: Drift | None) -> None:
        self.blocks = written.counts(human.types)
        self.used = np.bincount(written.row_block, np.diff(written.offsets), minlength=BLOCKS).astype(np.int64)
        self.drift = drift

    def read(self, name: str, statistic: Statistic, *, most: float = 1.0) -> list[Reading]:
        """`name`, with a block-jackknife interval, and where drift is known `name_drift` and `name_excess`.

        Each block is left out at its turn and the statistic taken at the size that remains: all of these are of about
        one size, and only how they differ counts. A jackknife is wide rather than narrow (Efron and Stein 1981, Annals
        of Statistics 9, 586-596), up to twice as wide for a share of types that nearly all occur. It has no width where
        no block alone has one of them, as where each type is in many.

        most : what the statistic can be; the least is 0.
        """
        whole, words = self.blocks.sum(axis=0, dtype=np.int64), int(self.used.sum())
        if not words:
            return undefined(name, "the sample has no word", self.drift)
        without = [
            statistic(whole - block, words - used) for block, used in zip(self.blocks, self.used.tolist(), strict=True)
        ]
        chains = None
        if self.drift is not None:
            chains = np.array([statistic(chain, int(chain.sum())) for chain in self.drift.counts])
        return beside_drift(name, statistic(whole, words), np.array(without), self.used, chains, most=most)


def beside_drift(
    name: str, value: float, without: Floats, used: Ints, chains: Floats | None, *, most: float = 1.0
) -> list[Reading]:
    """`name`; and where drift is known `name_drift` and `name_excess`, which is the model's or the decoder's doing.

    `name_drift` is the mean over the chains, between their quantiles at 2.5 and 97.5 %. `name_excess` is the value less
    that mean. Its interval adds up, as independent errors, the jackknife's, which is of this sample, and the chains'
    standard deviation, since the run is itself but one of the ways in which chance may go, and the error of their mean.
    Both contain the chance of the last sample, so that the interval is wide rather than narrow.

    value : the statistic of the sample.
    without : `(blocks,)`, without each block.
    used : `(blocks,)`, how many words are in each block.
    chains : `(chains,)`, in each chain of neutral drift.
    most : what the statistic can be; the least is 0, and the interval of the value is cut to that.
    """
    low, _ = jackknife(value, without, used)
    readings = [Reading(name, value, "", *jackknife(value, without, used, least=0, most=most))]
    if chains is None:
        return readings
    mean, excess = float(chains.mean()), value - float(chains.mean())
    few, many = np.quantile(chains, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    readings.append(Reading(f"{name}_drift", mean, low=few, high=many))
    if low is None or len(chains) < LEAST_BLOCKS:
        return [*readings, Reading(f"{name}_excess", excess)]
    half = float(np.hypot(value - low, _half_of_chains(chains)))
    return [*readings, Reading(f"{name}_excess", excess, low=excess - half, high=excess + half)]


def _half_of_chains(chains: Floats) -> float:
    """Half the 95 % prediction interval of one more chain."""
    from scipy import stats

    error = chains.std(ddof=1) * np.sqrt(1 + 1 / len(chains))
    return float(stats.t.ppf((1 + LEVEL) / 2, len(chains) - 1) * error)


def undefined(name: str, note: str, drift: Drift | None) -> list[Reading]:
    """The same readings where there is nothing to measure."""
    names = (name,) if drift is None else (name, f"{name}_drift", f"{name}_excess")
    return [Reading(each, None, note) for each in names]
