"""95 % intervals for what is estimated from a sample."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lmcollapse.types import Floats, Ints

LEVEL = 0.95
NORMAL = 1.959964
"""Standard errors that such an interval of a normal estimate reaches out to."""
LEAST_BLOCKS = 5
"""Intervals from fewer blocks than this would be little more than a guess."""
RESAMPLES = 1000
MANY = 10_000
"""Documents above which a mean is as good as normal, and drawing them a thousand times a waste."""

Interval = tuple[float | None, float | None]
NONE: Interval = (None, None)


def jackknife(
    value: float, without: Floats, used: Ints | Floats | None = None, *, least: float = -np.inf, most: float = np.inf
) -> Interval:
    """Block jackknife: from the values that a statistic takes when one block of rows is left out.

    value +- t * sqrt((b - 1) / b * sum (without - mean)^2), with the t of b - 1 degrees of freedom (Tukey 1958; Miller
    1974, Biometrika 61, 1-15). Nothing is drawn twice, so a statistic that duplicates would bias (distinct-n,
    entropies, repeats) is not biased here: all `without` are of one size, and only how they differ counts.

    value : the statistic of the whole.
    without : `(blocks,)`, the statistic without each block.
    used : `(blocks,)`, how much is in each block; empty ones are left aside.
    least, most : what the statistic can be; the interval is cut to that.
    """
    kept = without if used is None else without[used > 0]
    if len(kept) < LEAST_BLOCKS or not np.isfinite(kept).all():
        return NONE
    from scipy import stats

    error = np.sqrt((len(kept) - 1) * np.mean((kept - kept.mean()) ** 2))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(kept) - 1) * error)
    return float(max(least, value - half)), float(min(most, value + half))


def block_means(means: Floats) -> Interval:
    """From the means of blocks that are nearly independent: mean +- t * standard error."""
    if len(means) < LEAST_BLOCKS or not np.isfinite(means).all():
        return NONE
    from scipy import stats

    half = float(stats.t.ppf((1 + LEVEL) / 2, len(means) - 1) * stats.sem(means))
    return float(means.mean()) - half, float(means.mean()) + half


def bootstrap(columns: Floats, statistic: Callable[[Floats], Floats]) -> Interval:
    """Percentile bootstrap over documents of a statistic of sums over documents.

    Documents are drawn with replacement, with the same seed always (Efron and Tibshirani 1993, chapter 13).

    columns : `(documents, k)` what is summed.
    statistic : `(resamples, k)` sums to `(resamples,)` values.
    """
    documents = len(columns)
    if documents < LEAST_BLOCKS or not np.isfinite(columns).all():
        return NONE
    rng = np.random.default_rng(0)
    sums = np.empty((RESAMPLES, columns.shape[1]))
    for i in range(RESAMPLES):
        times = np.bincount(rng.integers(0, documents, documents), minlength=documents)
        # no matrix product: that would use threads, whose number may change the last digit
        sums[i] = np.einsum("d,dk->k", times, columns)
    low, high = np.quantile(statistic(sums), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def bootstrap_ratio(numerators: Floats, denominators: Floats | Ints) -> Interval:
    """Interval of sum(numerators) / sum(denominators) over documents, both `(documents,)`, each denominator above 0.

    By percentile bootstrap; for more documents than `MANY` its limit, r +- 1.96 sqrt(sum (n - r d)^2) / sum d. With
    denominators of 1 it is the interval of a mean.
    """
    if len(numerators) <= MANY:
        return bootstrap(np.column_stack([numerators, denominators]), lambda sums: sums[:, 0] / sums[:, 1])
    if not np.isfinite(numerators).all():
        return NONE
    ratio = float(numerators.sum() / denominators.sum())
    half = NORMAL * float(np.sqrt(((numerators - ratio * denominators) ** 2).sum()) / denominators.sum())
    return ratio - half, ratio + half
