"""The measure `entropy`."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from lmcollapse.metrics.intervals import jackknife
from lmcollapse.metrics.sample import LONGEST, Sample
from lmcollapse.types import Floats, Ints, Reading

Order = Annotated[int, Field(ge=1, le=LONGEST)]


def entropy(written: Sample, *, orders: tuple[Order, ...] = (1, 2, 3)) -> list[Reading]:
    """Shannon entropy of the frequencies of word n-grams, in bits: `entropy_n`.

    With c_i occurrences of the K different n-grams, N in all: (ln N - sum c_i ln c_i / N + (K - 1) / (2 N)) / ln 2. The
    last term is the Miller-Madow correction: frequencies in a sample are less even than those of their source (Miller
    1955, Information Theory in Psychology, 95-100). It is enough where most n-grams occur several times; where most
    occur once, as long ones do, the entropy of any sample of N is close to log2 N and far below its source's. So it
    compares at one number of words only. No n-gram spans two rows. Intervals by block jackknife.

    orders : the n of the n-grams, at most 4.
    """
    return [_entropy(written, order) for order in orders]


def _entropy(written: Sample, order: int) -> Reading:
    name = f"entropy_{order}"
    table = written.table(order)
    size, size_without = table.size
    if not size:
        return Reading(name, None, f"no row has {order} words" if order > 1 else "the sample has no word")
    logs, logs_without = table.sums(_times_log)
    distinct, distinct_without = table.sums(lambda occurrences, _: (occurrences > 0).astype(float))
    without = _bits(np.maximum(1, size_without), logs_without, distinct_without)
    value = float(_bits(np.array([size]), np.array([logs]), np.array([distinct]))[0])
    low, high = jackknife(value, without, size - size_without)
    return Reading(name, value, low=low, high=high)


def _times_log(occurrences: Ints, _: Ints) -> Floats:
    return occurrences.astype(float) * np.log(np.maximum(occurrences, 1))


def _bits(size: Ints, logs: Floats, distinct: Floats) -> Floats:
    nats: Floats = np.log(size) - logs / size + (distinct - 1) / (2 * size)
    return np.maximum(nats, 0.0) / math.log(2)  # rounding alone can bring it below 0
