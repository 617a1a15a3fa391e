"""The measure `semantic_diversity`."""

from __future__ import annotations

import numpy as np

from lmcollapse.metrics.embeddings import Documents, embed
from lmcollapse.metrics.intervals import jackknife
from lmcollapse.metrics.sample import BLOCKS, Sample
from lmcollapse.metrics.scene import Reference
from lmcollapse.types import Floats, Reading


def semantic_diversity(
    written: Sample, human: Reference, *, embedding: str = "lsa", documents: Documents = 2000
) -> list[Reading]:
    """Mean cosine distance of two written documents, over all pairs: `semantic_diversity`.

    1 - (|sum u|^2 - sum |u|^2) / (n (n - 1)) over the unit vectors u of n documents: the mean of 1 - cos over all pairs
    (Tevet and Berant 2021, arXiv 2004.02990, compare such measures), without visiting them. 0 where all documents are
    the same; what is high depends on the embedding, so compare with human text. Interval by block jackknife.

    embedding : `lsa` (see `lmcollapse.metrics.embeddings`), `smollm2`, a model folder or a hub id.
    documents : how many are looked at, where both sides have so many.
    """
    sides = embed(written, human, embedding, documents)
    if sides.note:
        return [Reading("semantic_diversity", None, sides.note)]
    # the same of all vectors, and of those outside each block
    sums, squares, sizes = (
        np.array([np.sum(part[sides.block == b], axis=0) for b in range(BLOCKS)])
        for part in (sides.written, np.sum(sides.written**2, axis=1), np.ones(len(sides.written)))
    )
    value = mean_distance(sums.sum(0), squares.sum(), sizes.sum())
    without = mean_distance(sums.sum(0) - sums, squares.sum() - squares, sizes.sum() - sizes)
    low, high = jackknife(float(value), without, least=0, most=2)
    return [Reading("semantic_diversity", float(value), low=low, high=high)]


def mean_distance(sums: Floats, squares: Floats, n: Floats) -> Floats:
    """Over all pairs of each set of `n` vectors, from their sum `(..., d)` and the sum of their squared lengths."""
    distance: Floats = np.maximum(0, 1 - (np.sum(sums**2, axis=-1) - squares) / (n * (n - 1)))  # of rounding: -1e-16
    return distance
