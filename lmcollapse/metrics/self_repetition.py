"""The measure `self_repetition`."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from lmcollapse.metrics.intervals import jackknife
from lmcollapse.metrics.sample import BLOCKS, LONGEST, Sample
from lmcollapse.types import Ints, Reading

Order = Annotated[int, Field(ge=1, le=LONGEST)]


def self_repetition(written: Sample, *, order: Order = 4) -> list[Reading]:
    """How much documents repeat each other's n-grams; 0 where none does.

    The score of a document is ln(1 + sum of N_g over its distinct n-grams g), N_g being the number of other documents
    that have g; the measure is the mean over the documents that have an n-gram (Salkar et al. 2022, arXiv 2210.08145,
    in the form that the package of Shaib et al. 2024, arXiv 2403.00553, computes, where documents without an n-gram
    count too, as 0). It grows with the number of documents: compare corpora whose documents are about as long. Interval
    by block jackknife.

    order : the n of the n-grams, at most 4.
    """
    grams = written.grams(order)
    begins = grams >= 0
    if not begins.any():
        return [Reading("self_repetition", None, f"no row has {order} words")]
    scoring, document = np.unique(written.row[begins], return_inverse=True)
    block = written.row_block[scoring]
    shared, own = _shared(document, grams[begins], block)
    others = shared.sum(axis=1) - own
    value = float(np.log1p(others).mean())
    without, used = np.full(BLOCKS, np.nan), np.bincount(block, minlength=BLOCKS)
    for left_out in np.flatnonzero((used > 0) & (used < len(scoring))):
        without[left_out] = np.log1p((others - shared[:, left_out])[block != left_out]).mean()
    low, high = jackknife(value, without, used, least=0)
    return [Reading("self_repetition", value, low=low, high=high)]


def _shared(document: Ints, gram: Ints, block: Ints) -> tuple[Ints, Ints]:
    """Of the n-grams that each document has in common with others: by block who has them, and how many they are.

    document, gram : the document and the n-gram of each occurrence.
    block : the block of each document.
    Returns `(documents, BLOCKS)`, the sum over these n-grams of the documents in a block that have it, the document
    itself among them; and `(documents,)`, the number of these n-grams.
    """
    from scipy import sparse

    kinds = int(gram.max()) + 1
    held = document.astype(np.int64) * kinds + gram
    held.sort()
    held = held[np.diff(held, prepend=-1) != 0]
    document, gram = held // kinds, held % kinds
    common = np.bincount(gram)[gram] > 1
    document, gram = document[common], gram[common]
    ones = np.ones(len(gram), np.int32)
    has = sparse.csr_array((ones, (document, gram)), shape=(len(block), kinds))
    had_in = sparse.csr_array((ones, (gram, block[document])), shape=(kinds, BLOCKS))
    return (has @ had_in).toarray(), np.bincount(document, minlength=len(block))
