"""The measure `pixel_frechet`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lmcollapse.metrics.intervals import jackknife
from lmcollapse.metrics.sample import BLOCKS
from lmcollapse.metrics.scene import Pictures
from lmcollapse.processes import one_thread
from lmcollapse.types import Floats, Reading

BLOCKED = 2_000
"""The interval takes twenty more distances; of more images than this it is left out."""


def pixel_frechet(pictures: Pictures) -> list[Reading]:
    """Fréchet distance of written and human images, each side seen as a Gaussian of its pixels: `pixel_frechet`.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of means and unbiased covariances (Dowson and Landau 1982, J.
    Multivariate Anal. 12, 450-455), pixels from 0 to 1: the distance of Heusel et al. 2017 without a network, so that
    it needs none that was trained on other images. It is too large in a sample, so that human images are not at 0 and
    only values of one number of images compare. The interval by block jackknife over the images of both sides, up to
    2,000 of them.
    """
    written, human = pictures.written.astype(np.float64), pictures.human.astype(np.float64)
    if len(written) < 2 * BLOCKS:
        return [Reading("pixel_frechet", None, f"{2 * BLOCKS} images are needed")]
    with one_thread():
        value = distance(written, human)
        if len(written) > BLOCKED:
            return [Reading("pixel_frechet", value)]
        blocks = np.arange(len(written)) % BLOCKS, np.arange(len(human)) % BLOCKS
        without = np.array([distance(written[blocks[0] != b], human[blocks[1] != b]) for b in range(BLOCKS)])
    return [Reading("pixel_frechet", value, "", *jackknife(value, without, least=0))]


def distance(one: Floats, other: Floats) -> float:
    """Of `(images, values)` and `(others, values)`.

    With S = A'A, where A are the centred images over the root of their number less one, the trace of (S1 S2)^(1/2) is
    the sum of the singular values of A1 A2'; triangular factors of both keep that small where there are many images.
    """
    (mean, factor), (other_mean, other_factor) = _factor(one), _factor(other)
    common = np.linalg.svd(factor @ other_factor.T, compute_uv=False).sum()
    spread = np.sum(factor**2) + np.sum(other_factor**2) - 2 * common
    return float(np.sum((mean - other_mean) ** 2) + max(0.0, spread))


def _factor(images: Floats) -> tuple[Floats, Floats]:
    """The mean, and A with A'A the covariance."""
    mean = images.mean(axis=0)
    centred = (images - mean) / np.sqrt(len(images) - 1)
    if len(images) <= images.shape[1]:
        return mean, centred
    triangle: Any = np.linalg.qr(centred, mode="r")
    return mean, triangle
