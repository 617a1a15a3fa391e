"""The measure `distinct_n`."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from lmcollapse.metrics.intervals import jackknife
from lmcollapse.metrics.sample import LONGEST, Sample
from lmcollapse.metrics.scene import Reference
from lmcollapse.types import Floats, Ints, Reading

Order = Annotated[int, Field(ge=1, le=LONGEST)]


def distinct_n(
    written: Sample, human: Reference | None = None, *, orders: tuple[Order, ...] = (1, 2, 3, 4)
) -> list[Reading]:
    """Distinct word n-grams over all n-grams: `distinct_n`, and `distinct_n_human` over human word types alone.

    distinct-n = distinct n-grams / n-grams (Li et al. 2016, arXiv 1510.03055); no n-gram spans two rows. The share
    falls as a text grows, so it is comparable at one number of words only. `distinct_n_human` has only those n-grams
    above the line whose words all occur in the human training part: words that a weak model invents keep distinct-n
    up and are no diversity. Intervals by block jackknife.

    orders : the n of the n-grams, at most 4.
    """
    readings = []
    for order in orders:
        readings.append(_distinct(f"distinct_{order}", written, order, None))
        if human is not None:
            readings.append(_distinct(f"distinct_{order}_human", written, order, human.types))
    return readings


def _distinct(name: str, written: Sample, order: int, types: int | None) -> Reading:
    table = written.table(order)
    size, size_without = table.size
    if not size:
        return Reading(name, None, f"no row has {order} words")
    counted = np.ones(len(table.total)) if types is None else _of_types(written, order, types)

    def distinct(occurrences: Ints, gram: Ints) -> Floats:
        return (occurrences > 0) * counted[gram]

    whole, without = table.sums(distinct)
    low, high = jackknife(whole / size, without / np.maximum(size_without, 1), size - size_without, least=0, most=1)
    return Reading(name, whole / size, low=low, high=high)


def _of_types(written: Sample, order: int, types: int) -> Floats:
    """`(distinct,)` 1 for each n-gram whose words are all numbered below `types`, 0 for the others."""
    grams = written.grams(order)
    begins = np.flatnonzero(grams >= 0)
    known = np.all([written.words[begins + k] < types for k in range(order)], axis=0)
    of_types = np.zeros(int(grams.max(initial=-1)) + 1)
    of_types[grams[begins]] = known
    return of_types
