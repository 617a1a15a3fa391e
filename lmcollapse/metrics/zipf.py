"""The measure `zipf`."""

from __future__ import annotations

import numpy as np

from lmcollapse.metrics.intervals import jackknife
from lmcollapse.metrics.sample import BLOCKS, Sample, Table
from lmcollapse.types import Floats, Ints, Reading


def zipf(written: Sample) -> list[Reading]:
    """Exponent of Zipf's law, by maximum likelihood: `zipf_exponent`.

    The law is p(r) = r^-a / sum_{k=1..K} k^-a for the K word types of the sample in the order of their occurrences,
    r = 1 the most frequent (Zipf 1949, Human Behavior and the Principle of Least Effort). The likelihood is
    largest where the mean of ln r under the law is that of the words of the sample. About 1 in human text; it rises as
    a vocabulary concentrates.

    Ranks come from the same occurrences as the frequencies, so that chance counts as order: even where all types are
    equally likely the exponent is above 0 (Piantadosi 2014, Psychonomic Bulletin & Review 21, 1112-1130). It compares
    at one number of words only. Intervals by block jackknife, ranked anew without each block.
    """
    table = written.table(1)
    if len(table.total) < 2:
        note = "the sample has no word" if not len(table.total) else "the sample has one word type only"
        return [Reading("zipf_exponent", None, note)]
    words, words_without = table.size
    value = _exponent(table.total)
    without = np.array([_without(table, block) for block in range(BLOCKS)])
    low, high = jackknife(value, without, words - words_without)
    return [Reading("zipf_exponent", value, low=low, high=high)]


def _without(table: Table, block: int) -> float:
    inside = table.block == block
    left = table.total.copy()
    left[table.gram[inside]] -= table.count[inside]
    return _exponent(left)


def _exponent(occurrences: Ints) -> float:
    """NaN where there are fewer than two types."""
    from scipy import optimize

    ranked = np.sort(occurrences[occurrences > 0])[::-1]
    if len(ranked) < 2:
        return float("nan")
    log_rank = np.log(np.arange(1, len(ranked) + 1))
    observed = float(ranked @ log_rank / ranked.sum())

    def surplus(exponent: float) -> float:
        weights: Floats = np.exp(-exponent * log_rank)
        return float(weights @ log_rank / weights.sum()) - observed

    if surplus(0.0) <= 0:  # all types are equally frequent, up to rounding
        return 0.0
    largest = 2.0
    while surplus(largest) > 0:
        largest *= 2
    return float(optimize.brentq(surplus, 0.0, largest, xtol=1e-10))
