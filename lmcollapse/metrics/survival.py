"""The measure `survival`."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import AfterValidator

from lmcollapse.metrics.drift import Drift
from lmcollapse.metrics.sample import Sample
from lmcollapse.metrics.scene import Reference
from lmcollapse.metrics.tail import Count, Occurrences, Statistic, undefined
from lmcollapse.types import Ints, Reading, UserError


def _ascending(bounds: tuple[int, ...]) -> tuple[int, ...]:
    if not bounds or bounds[0] < 1 or any(low >= high for low, high in pairwise(bounds)):
        raise UserError(f"bounds are {list(bounds)}; give at least one, from 1 on, each larger than the one before")
    return bounds


Bounds = Annotated[tuple[Count, ...], AfterValidator(_ascending)]


def survival(
    written: Sample, human: Reference, drift: Drift | None = None, *, bounds: Bounds = (1, 2, 5, 17, 65)
) -> list[Reading]:
    """The share of the human word types that are still in use, by how often they occur in the human training part.

    `survival_1` is that of the types that occur once there, `survival_2_4` of those that occur two to four times, and
    so on; `survival_65_up` of the most frequent. In use are those that occur in the sample at least once, so that even
    human text of that size does not reach 1. Intervals by block jackknife.

    bounds : the fewest occurrences of each band, ascending; the last band has no upper bound.
    """
    _ascending(bounds)
    occurrences = Occurrences(written, human, drift)
    readings = []
    for low, high in pairwise((*bounds, None)):
        assert low is not None
        name = _name(low, high)
        band = np.flatnonzero((human.counts >= low) & (human.counts < (high or np.inf)))
        if len(band):
            readings += occurrences.read(name, _share_of(band))
        else:
            readings += undefined(name, "no word occurs so often in the human training part", drift)
    return readings


def _name(low: int, high: int | None) -> str:
    if high is None:
        return f"survival_{low}_up"
    return f"survival_{low}" if high == low + 1 else f"survival_{low}_{high - 1}"


def _share_of(band: Ints) -> Statistic:
    return lambda counts, words: float(np.mean(counts[band] > 0))
