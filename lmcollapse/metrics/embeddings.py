"""Documents as vectors: what the measures of distance work on.

An embedding is named. `lsa` is the offline default; "package.module:attribute" is a function from outside the project,
`(texts, human) -> (texts, d)` vectors, where `human` are human documents to fit to, other than those that are compared.
Any other name is a model of the transformers library: a folder, a hub id or `smollm2`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from lmcollapse.catalog import find
from lmcollapse.metrics.numbering import Numbering
from lmcollapse.metrics.sample import BLOCKS, Sample
from lmcollapse.metrics.scene import Reference
from lmcollapse.processes import one_thread
from lmcollapse.types import Floats, Ints

LEAST = 50
"""Fewer documents than this are no distribution to speak of."""

Documents = Annotated[int, Field(ge=LEAST)]

DIMENSIONS = 100
"""Of the space of `lsa`: with more of them the Fréchet distance is biased more, with fewer less is seen."""


class Embedded(NamedTuple):
    """As many documents of either side, as unit vectors.

    written, human : `(documents, d)` float64.
    note : why there are none.
    """

    written: Floats
    human: Floats
    note: str = ""

    @property
    def block(self) -> Ints:
        """`(documents,)` the block of each document, the same on both sides; intervals leave out one at a time."""
        return np.arange(len(self.written)) * BLOCKS // len(self.written)


def embed(written: Sample, human: Reference, embedding: str, documents: int) -> Embedded:
    """The first `documents` documents of either side that hold a word; fewer where either has not so many.

    Of the human sample at most half is compared: what `lsa` is fitted to are the documents after those. A space that is
    fitted to the very documents that are compared suits them better than any other text, and even human text from
    elsewhere would seem far from them.

    Raises UserError for an embedding that there is not.
    """
    ours, theirs = _documents(written), _documents(human.sample)
    compared = min(documents, len(theirs) // 2)
    n = min(compared, len(ours))
    if n < LEAST:
        few = f"{len(ours)} written and {len(theirs)} human documents hold a word"
        return Embedded(np.empty((0, 1)), np.empty((0, 1)), f"{few}; {LEAST} and {2 * LEAST} are needed")
    apart = theirs[compared : compared + documents]
    vectors, human_vectors = (_vectors(side[:compared], apart, embedding)[:n] for side in (ours, theirs))
    return Embedded(vectors, human_vectors)


def _documents(sample: Sample) -> tuple[str, ...]:
    return tuple(text for text, words in zip(sample.texts, np.diff(sample.offsets), strict=True) if words)


@lru_cache(maxsize=4)
def _vectors(texts: tuple[str, ...], human: tuple[str, ...], embedding: str) -> Floats:
    """Unit vectors (zero stays zero), equal ones for equal texts; kept for the measures that look at them next."""
    distinct = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    if embedding == "lsa" or ":" in embedding:
        found = find("embedding", embedding)(list(distinct), human)
    else:
        found = find("embedding", "transformers")(list(distinct), embedding)
    vectors = np.asarray(found, np.float64)[[distinct[text] for text in texts]]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.where(lengths > 0, lengths, 1)
    vectors.setflags(write=False)
    return vectors


def lsa(texts: Sequence[str], human: Sequence[str]) -> Floats:
    """Latent semantic analysis: TF-IDF of words, on the main axes of the human documents; `(documents, d)`.

    (1 + ln tf) * (1 + ln((1 + N) / (1 + df))), rows of length 1, projected on the first right singular vectors of the
    same matrix of the human documents (Deerwester et al. 1990, JASIS 41, 391-407). All words that fewer than two of
    these have count as one and the same: rare and invented words cannot be told apart, yet how much of a text they are
    is part of what it is like.

    texts : what to embed.
    human : what the vocabulary, its weights and the axes are fitted to.
    """
    return _space(tuple(human)).project(texts)


@dataclass(frozen=True, eq=False)
class _Space:
    """What `lsa` learns from human documents.

    numbers : of their words.
    column : `(words,)` of the matrix of counts for each of these; the last column is for rare words.
    tfidf : scikit-learn's, fitted.
    axes : `(columns, d)`.
    """

    numbers: dict[str, int]
    column: Ints
    tfidf: Any
    axes: Floats

    def project(self, texts: Sequence[str]) -> Floats:
        numbering = Numbering()
        numbering.numbers = dict(self.numbers)
        projected: Floats = self.tfidf.transform(_counts(_rows(texts, numbering), self.column)) @ self.axes
        return projected


@lru_cache(maxsize=1)
def _space(human: tuple[str, ...]) -> _Space:
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.utils.extmath import randomized_svd

    numbering = Numbering()
    rows = _rows(human, numbering)
    appears = np.bincount(np.concatenate([np.unique(row) for row in rows]), minlength=len(numbering))
    column = np.where(appears > 1, np.cumsum(appears > 1) - 1, np.sum(appears > 1))
    tfidf = TfidfTransformer(sublinear_tf=True)
    matrix = tfidf.fit_transform(_counts(rows, column))
    with one_thread():
        _, strength, axes = randomized_svd(matrix, min(DIMENSIONS, *matrix.shape), n_iter=5, random_state=0)
    return _Space(numbering.numbers, column, tfidf, axes[strength > 1e-9 * strength[0]].T)


def _rows(texts: Sequence[str], numbering: Numbering) -> list[Ints]:
    return list(numbering.rows(texts))


def _counts(rows: Sequence[Ints], column: Ints) -> Any:
    """`(documents, columns)` sparse occurrences; words without a column of their own are in the last one."""
    from scipy import sparse

    rare = int(column.max(initial=0))
    words = np.concatenate(rows)
    columns = np.append(column, rare)[np.minimum(words, len(column))]
    row = np.repeat(np.arange(len(rows)), [len(words) for words in rows])
    return sparse.csr_array((np.ones(len(words)), (row, columns)), shape=(len(rows), rare + 1))
