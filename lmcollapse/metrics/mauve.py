"""The measure `mauve`."""

from __future__ import annotations

import warnings
from typing import Annotated

import numpy as np
from pydantic import Field

from lmcollapse.metrics.embeddings import Documents, embed
from lmcollapse.metrics.intervals import jackknife
from lmcollapse.metrics.sample import BLOCKS, Sample
from lmcollapse.metrics.scene import Reference
from lmcollapse.processes import one_thread
from lmcollapse.types import Floats, Ints, Reading

SCALE = 5
"""The paper's constant c, which spreads the values over (0, 1)."""

WEIGHTS = np.linspace(1e-6, 1 - 1e-6, 25)
"""Of one side in the mixtures along the curve; at 0 and 1 the divergences may be infinite."""

VARIANCE = 0.9
"""Share of the variance of the vectors that is kept for the clustering."""

CLUSTERINGS = 5
"""The value is the mean over so many: one alone moves it by as much as other documents would."""


def mauve(
    written: Sample,
    human: Reference,
    *,
    embedding: str = "lsa",
    documents: Documents = 2000,
    clusters: Annotated[int, Field(ge=2)] | None = None,
) -> list[Reading]:
    """How alike written and human documents are spread over the clusters of their embeddings: `mauve`, 1 for the same.

    Unit vectors of both sides are reduced by PCA and clustered together by k-means; p and q are the shares of the
    documents of either side in each cluster, r = w p + (1 - w) q, and the value is the area under the curve of
    exp(-c KL(q|r)) and exp(-c KL(p|r)) over w, with c = 5 (Pillutla et al. 2021, arXiv 2102.01454; 2023, JMLR 24, 356).
    Here it is the mean over five clusterings from different starts.

    Values of one embedding, one number of documents and one of clusters compare; those of papers are of GPT-2 large.
    For two samples of the same text it is a little below 1. Interval by block jackknife over the documents of both
    sides, within the clusters that were found with all of them: other clusters for every block left out would move the
    value by more than the block did. Near 1 the interval is wider than need be.

    embedding : `lsa` (see `lmcollapse.metrics.embeddings`), `smollm2`, a model folder or a hub id.
    documents : how many of either side are compared, where there are so many.
    clusters : cells of the histograms; null for a tenth of the documents of either side.
    """
    sides = embed(written, human, embedding, documents)
    if sides.note:
        return [Reading("mauve", None, sides.note)]
    k = clusters or round(len(sides.written) / 10)
    areas = [_areas(*cells, sides.block) for cells in clusterings(sides.written, sides.human, k)]
    value, *without = np.mean(areas, axis=0)
    low, high = jackknife(float(value), np.array(without), least=0, most=1)
    return [Reading("mauve", float(value), low=low, high=high)]


def clusterings(written: Floats, human: Floats, k: int) -> list[tuple[Ints, Ints]]:
    """The cluster of each document of either side, by several clusterings of both sides together.

    Distinct vectors in ascending order, each with its number of occurrences, are what is clustered: so the order of the
    documents has no influence, and there are no more clusters than distinct vectors.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning

    both = np.concatenate([written, human])
    points, index, times = np.unique(both, axis=0, return_inverse=True, return_counts=True)
    found = []
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # PCA may have made two points one
        if len(points) > 1:
            pca = PCA(VARIANCE, svd_solver="covariance_eigh").fit(np.repeat(points, times, axis=0))
            points = pca.transform(points)
        for seed in range(CLUSTERINGS):
            kmeans = KMeans(min(k, len(points)), n_init=1, random_state=seed)
            cells = kmeans.fit(points, sample_weight=times).labels_[index]
            found.append((cells[: len(written)], cells[len(written) :]))
    return found


def _areas(written: Ints, human: Ints, block: Ints) -> Floats:
    """The area of all documents, and without each block."""
    cells = 1 + max(written.max(), human.max())
    ours, theirs = (
        np.bincount(block * cells + side, minlength=BLOCKS * cells).reshape(BLOCKS, cells) for side in (written, human)
    )
    kept = np.concatenate([np.ones((1, BLOCKS)), 1 - np.eye(BLOCKS)])
    return np.array([area(p, q) for p, q in zip(kept @ ours, kept @ theirs, strict=True)])


def area(p: Floats, q: Floats) -> float:
    """Area under the divergence curve of two histograms over the same cells, by the trapezoidal rule."""
    x, y = curve(p, q).T
    return float(-np.trapezoid(y, x))


def curve(p: Floats, q: Floats) -> Floats:
    """`(points, 2)` divergence curve of two histograms, from (1, 0), with the mixture q alone, to (0, 1), p alone."""
    p, q = p / p.sum(), q / q.sum()
    mixtures = WEIGHTS[:, None] * p + (1 - WEIGHTS[:, None]) * q
    inner = np.exp(-SCALE * np.column_stack([_divergence(side, mixtures) for side in (q, p)]))
    return np.concatenate([[[1, 0]], inner, [[0, 1]]])


def _divergence(p: Floats, mixtures: Floats) -> Floats:
    """`(mixtures,)` Kullback-Leibler divergence from each mixture to `p`, in nats."""
    there = p > 0
    divergence: Floats = np.sum(p[there] * np.log(p[there] / mixtures[:, there]), axis=1)
    return divergence
