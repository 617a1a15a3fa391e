"""The measure `pixel_variance`."""

from __future__ import annotations

import numpy as np

from lmcollapse.metrics.intervals import jackknife
from lmcollapse.metrics.sample import BLOCKS
from lmcollapse.metrics.scene import Pictures
from lmcollapse.types import Floats, Reading


def pixel_variance(pictures: Pictures) -> list[Reading]:
    """Total variance of the written images over that of human ones, `pixel_variance`: 1 for human images, 0 for copies
    of a single one.

    The variance of each pixel over the images, summed; half of it is the mean squared distance of two images. The
    interval by block jackknife over the images of both sides.
    """
    written, human = pictures.written.astype(np.float64), pictures.human.astype(np.float64)
    if len(written) < 2 * BLOCKS or not total_variance(human) > 0:
        return [Reading("pixel_variance", None, f"{2 * BLOCKS} images that differ are needed")]
    value = total_variance(written) / total_variance(human)
    without = np.array(
        [total_variance(_without(written, block)) / total_variance(_without(human, block)) for block in range(BLOCKS)]
    )
    return [Reading("pixel_variance", value, "", *jackknife(value, without, least=0))]


def total_variance(images: Floats) -> float:
    """Unbiased, summed over the values of `(images, values)`."""
    return float(images.var(axis=0, ddof=1).sum())


def _without(images: Floats, block: int) -> Floats:
    kept: Floats = images[np.arange(len(images)) % BLOCKS != block]
    return kept
