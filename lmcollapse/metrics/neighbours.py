"""The measure `neighbours`."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from lmcollapse.metrics.intervals import LEVEL
from lmcollapse.metrics.scene import Pictures
from lmcollapse.types import Bools, Floats, Reading

NAMES = ("image_precision", "image_recall", "image_density", "image_coverage")


def neighbours(pictures: Pictures, *, neighbours: Annotated[int, Field(gt=0)] = 5) -> list[Reading]:
    """Which part of the human images the written ones reach, and the other way round, by nearest neighbours in pixels.

    Around each image of one side lies the ball that reaches to its k-th neighbour among the others of that side.

    image_precision : share of the written images that lie in the ball of some human image.
    image_recall : share of the human images that lie in the ball of some written image (both Kynkäänniemi et al. 2019,
        arXiv 1904.06991).
    image_density : human balls that a written image lies in, over k, on average; above 1 where they crowd together.
    image_coverage : share of the human images whose ball holds a written one (both Naeem et al. 2020, arXiv
        2002.09797); for another human sample of k = 5 it is 1 - 1/2^5 in expectation.

    Intervals of the shares by Wilson, with the balls held fixed.

    neighbours : k.
    """
    written, human = pictures.written, pictures.human
    if min(len(written), len(human)) <= neighbours:
        return [Reading(name, None, f"more than {neighbours} images are needed") for name in NAMES]
    around_human, around_written = _radii(human, neighbours), _radii(written, neighbours)
    inside, precise = np.zeros(len(written), np.int64), np.zeros(len(written), bool)
    recalled, covered = np.zeros(len(human), bool), np.zeros(len(human), bool)
    for first in range(0, len(human), 1000):
        some = slice(first, first + 1000)
        distances = _distances(human[some], written)
        within = distances <= around_human[some, None]
        inside += within.sum(axis=0)
        covered[some] = distances.min(axis=1) <= around_human[some]
        recalled[some] = (distances <= around_written).any(axis=1)
    precise = inside > 0
    precision, recall, coverage = (
        _share(name, hits)
        for name, hits in zip((NAMES[0], NAMES[1], NAMES[3]), (precise, recalled, covered), strict=True)
    )
    return [precision, recall, Reading(NAMES[2], float(inside.mean() / neighbours)), coverage]


def _distances(some: Floats, others: Floats) -> Floats:
    """`(some, others)` Euclidean."""
    from scipy.spatial.distance import cdist

    found: Floats = cdist(some, others)
    return found


def _radii(images: Floats, neighbours: int) -> Floats:
    """`(images,)` distance to the k-th nearest other image."""
    radii = np.empty(len(images))
    for first in range(0, len(images), 1000):
        some = slice(first, first + 1000)
        radii[some] = np.partition(_distances(images[some], images), neighbours, axis=1)[:, neighbours]
    return radii


def _share(name: str, hits: Bools) -> Reading:
    """With Wilson's interval (1927, J. Am. Stat. Assoc. 22, 209-212)."""
    from scipy import stats

    interval = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(LEVEL, "wilson")
    return Reading(name, float(hits.mean()), "", float(interval.low), float(interval.high))
