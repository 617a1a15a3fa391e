"""The measure `self_bleu`."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from lmcollapse.metrics.intervals import jackknife
from lmcollapse.metrics.sample import BLOCKS, LONGEST, Sample
from lmcollapse.types import Floats, Ints, Reading

Count = Annotated[int, Field(ge=BLOCKS)]
Order = Annotated[int, Field(ge=1, le=LONGEST)]

EPSILON = 0.1
"""Stands for the matches of an order that has none."""


def self_bleu(written: Sample, *, documents: Count = 200, order: Order = 4) -> list[Reading]:
    """How well the other documents of a corpus, as references, cover each document: mean BLEU; higher is less diverse.

    BLEU = min(1, exp(1 - r / c)) * (p_1 * … * p_N)^(1 / N) for a document of c words; r is the length nearest to c
    among the other documents, of two equally near the smaller. p_n is the share of the document's n-grams that some
    other document has, repetitions counted up to the most that any one other document has (Papineni et al. 2002, ACL).
    An order without a match counts 0.1 matches, and a document without a common word scores 0, as in the
    implementation that came with the measure (Zhu et al. 2018, arXiv 1802.01886; smoothing method 1 of Chen and Cherry
    2014, WMT). Exact: each n-gram needs its two largest counts only. Interval by block jackknife over documents.

    documents : how many documents are looked at, at least 20; the first of the sample that have words. The value grows
        with their number, so it is not defined where a corpus has fewer.
    order : N, the n of the longest n-grams, at most 4.
    """
    filled = np.flatnonzero(np.diff(written.offsets))
    if len(filled) < documents:
        return [Reading("self_bleu", None, f"{len(filled):,} documents have words, {documents:,} are needed")]
    looked_at = written.first(int(written.offsets[filled[documents - 1] + 1]))
    lengths = np.diff(looked_at.offsets)
    document = (np.cumsum(lengths > 0) - 1)[looked_at.row]
    lengths = lengths[lengths > 0]
    tables = [_counts(looked_at.grams(n), document, documents) for n in range(1, order + 1)]

    value = _mean_bleu(tables, lengths, np.ones(documents, np.bool_))
    group = np.arange(documents) * BLOCKS // documents
    without = np.array([_mean_bleu(tables, lengths, group != left_out) for left_out in range(BLOCKS)])
    low, high = jackknife(value, without, least=0, most=1)
    return [Reading("self_bleu", value, low=low, high=high)]


class _Counts(NamedTuple):
    """How often each n-gram occurs in each document that has it; by n-gram, the largest count first."""

    gram: Ints
    document: Ints
    times: Ints


def _counts(grams: Ints, document: Ints, documents: int) -> _Counts:
    begins = grams >= 0
    cells, count = np.unique(grams[begins].astype(np.int64) * documents + document[begins], return_counts=True)
    gram = cells // documents
    order = np.lexsort((-count, gram))
    return _Counts(gram[order], cells[order] % documents, count[order])


def _mean_bleu(tables: list[_Counts], lengths: Ints, kept: npt.NDArray[np.bool_]) -> float:
    """Over the kept documents, each against the other kept ones."""
    matches = [_matches(table, kept) for table in tables]
    kept_lengths = lengths[kept]
    logs = np.zeros(len(kept_lengths))
    for n, found in enumerate(matches, 1):
        logs += np.log(np.where(found > 0, found, EPSILON) / np.maximum(kept_lengths - n + 1, 1))
    brevity = np.minimum(1, np.exp(1 - _nearest(kept_lengths) / kept_lengths))
    scores = brevity * np.exp(logs / len(tables))
    return float(np.where(matches[0] > 0, scores, 0).mean())


def _matches(table: _Counts, kept: npt.NDArray[np.bool_]) -> Ints | Floats:
    """`(kept documents,)` n-grams found in another kept document, each as often as the one that has most of it."""
    among = kept[table.document]
    gram, document, count = table.gram[among], table.document[among], table.times[among]
    first = np.diff(gram, prepend=-1) != 0
    starts = np.flatnonzero(first)
    elsewhere = count[starts][np.cumsum(first) - 1]
    # for the document that has most of an n-gram, the second most: the next entry, if that is of the same n-gram
    elsewhere[starts] = np.where(np.append(first[1:], True)[starts], 0, np.append(count[1:], 0)[starts])
    return np.bincount(document, np.minimum(count, elsewhere), minlength=len(kept))[kept]


def _nearest(lengths: Ints) -> Floats:
    """`(documents,)` the length of another document that is nearest to each one's, the smaller of two."""
    order = np.argsort(lengths)
    ascending = lengths[order].astype(np.float64)
    below = np.concatenate([[-np.inf], ascending[:-1]])
    above = np.concatenate([ascending[1:], [np.inf]])
    nearest = np.empty(len(lengths))
    nearest[order] = np.where(ascending - below <= above - ascending, below, above)
    return nearest
