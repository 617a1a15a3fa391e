"""The measure `frechet`."""

from __future__ import annotations

import numpy as np

from lmcollapse.metrics.embeddings import Documents, embed
from lmcollapse.metrics.intervals import jackknife
from lmcollapse.metrics.sample import BLOCKS, Sample
from lmcollapse.metrics.scene import Reference
from lmcollapse.processes import one_thread
from lmcollapse.types import Floats, Ints, Reading

Gaussian = tuple[Floats, Floats]
"""Mean `(d,)` and covariance `(d, d)`."""


def frechet(written: Sample, human: Reference, *, embedding: str = "lsa", documents: Documents = 2000) -> list[Reading]:
    """Fréchet distance of written and human documents, each side seen as a Gaussian of its embeddings.

    `frechet_distance` = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of the means and unbiased covariances of unit
    vectors (Dowson and Landau 1982, J. Multivariate Anal. 12, 450-455; Heusel et al. 2017, arXiv 1706.08500), between 0
    and 4. It is too large in a sample, about in proportion to d / documents (Chong and Forsyth 2020, arXiv 1911.07023),
    so that human text is not at 0 and only values of one number of documents compare.

    `frechet_distance_corrected` is without that bias: b value - (b - 1) mean(without) from the values without one of b
    blocks (Quenouille 1956, Biometrika 43, 353-360). It is about 0 for text like the human, may then be slightly
    negative, and does not depend on the number of documents where these are a few times more than dimensions.

    Intervals by block jackknife over the documents of both sides.

    embedding : `lsa` (see `lmcollapse.metrics.embeddings`), `smollm2`, a model folder or a hub id.
    documents : how many of either side are compared, where there are so many.
    """
    sides = embed(written, human, embedding, documents)
    if sides.note:
        return [Reading(name, None, sides.note) for name in ("frechet_distance", "frechet_distance_corrected")]
    with one_thread():
        ours, theirs = (_gaussians(vectors, sides.block) for vectors in (sides.written, sides.human))
        value, *rest = (distance(one, other) for one, other in zip(ours, theirs, strict=True))
    without = np.array(rest)
    corrected = float(BLOCKS * value - (BLOCKS - 1) * without.mean())
    return [
        Reading("frechet_distance", value, "", *jackknife(value, without, least=0)),
        Reading("frechet_distance_corrected", corrected, "", *jackknife(corrected, without)),
    ]


def distance(one: Gaussian, other: Gaussian) -> float:
    """Squared 2-Wasserstein distance of two Gaussians.

    The trace of (S1 S2)^(1/2) is the sum of the singular values of S1^(1/2) S2^(1/2), which needs no root of a matrix
    that is not symmetric.
    """
    (mean, covariance), (other_mean, other_covariance) = one, other
    common = np.linalg.svd(_root(covariance) @ _root(other_covariance), compute_uv=False).sum()
    spread = np.trace(covariance) + np.trace(other_covariance) - 2 * common
    return float(np.sum((mean - other_mean) ** 2) + max(0.0, spread))


def _root(covariance: Floats) -> Floats:
    values, axes = np.linalg.eigh(covariance)
    root: Floats = (axes * np.sqrt(values.clip(0))) @ axes.T
    return root


def _gaussians(vectors: Floats, block: Ints) -> list[Gaussian]:
    """Of all vectors, and of those outside each block."""
    total, products = vectors.sum(0), vectors.T @ vectors
    fitted = [_gaussian(len(vectors), total, products)]
    for left_out in (vectors[block == b] for b in range(BLOCKS)):
        rest = len(vectors) - len(left_out)
        fitted.append(_gaussian(rest, total - left_out.sum(0), products - left_out.T @ left_out))
    return fitted


def _gaussian(n: int, total: Floats, products: Floats) -> Gaussian:
    mean = total / n
    return mean, (products - n * np.outer(mean, mean)) / (n - 1)
