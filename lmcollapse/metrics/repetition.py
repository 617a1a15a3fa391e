"""The measure `repetition`."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from lmcollapse.metrics.intervals import bootstrap_ratio, jackknife
from lmcollapse.metrics.sample import BLOCKS, LONGEST, Sample
from lmcollapse.types import Ints, Reading

Order = Annotated[int, Field(ge=1, le=LONGEST)]


def repetition(written: Sample, *, orders: tuple[Order, ...] = (2, 3, 4)) -> list[Reading]:
    """How much documents repeat themselves: `repetition_n` by order, and `document_diversity` over all orders.

    repetition_n = mean over the documents of at least n words of rep-n = 1 - distinct n-grams / n-grams of the document
    (seq-rep-n of Welleck et al. 2019, arXiv 1908.04319), interval by bootstrap over documents. document_diversity =
    product over the orders of the sum of all documents' distinct n-grams over the sum of their n-grams: the product of
    1 - rep-n used with contrastive search (Su et al. 2022, arXiv 2202.06417), whose script sums both counts over
    documents before it divides them, too (but leaves out each document's last n-gram); interval by block jackknife.
    rep-n rises with the length of documents.

    orders : the n of the n-grams, at most 4.
    """
    readings = []
    shares, shares_without = [1.0], [np.ones(BLOCKS)]
    for order in orders:
        size = np.maximum(np.diff(written.offsets) - order + 1, 0)
        if not size.any():
            readings.append(Reading(f"repetition_{order}", None, f"no row has {order} words"))
            continue
        distinct = _distinct(written, order)
        repeated = 1 - distinct[size > 0] / size[size > 0]
        low, high = bootstrap_ratio(repeated, np.ones(len(repeated)))
        readings.append(Reading(f"repetition_{order}", float(repeated.mean()), low=low, high=high))
        distinct_in, size_in = (np.bincount(written.row_block, some, minlength=BLOCKS) for some in (distinct, size))
        shares.append(float(distinct_in.sum() / size_in.sum()))
        with np.errstate(invalid="ignore"):  # where one block has all n-grams of an order there is no interval
            shares_without.append((distinct_in.sum() - distinct_in) / (size_in.sum() - size_in))
    name = "document_diversity"
    if len(shares) <= len(orders):
        return [*readings, Reading(name, None, f"no row has {max(orders)} words")]
    value = float(np.prod(shares))
    words = np.bincount(written.row_block, np.diff(written.offsets), minlength=BLOCKS)
    low, high = jackknife(value, np.prod(shares_without, axis=0), words, least=0, most=1)
    return [*readings, Reading(name, value, low=low, high=high)]


def _distinct(written: Sample, order: int) -> Ints:
    """`(rows,)` distinct n-grams in each row."""
    grams = written.grams(order)
    begins = grams >= 0
    row = written.row[begins]
    held = row.astype(np.int64) * (int(grams.max()) + 1) + grams[begins]
    held.sort()  # leaves each row's n-grams where the row's were, and so `row` as it is
    return np.bincount(row[np.diff(held, prepend=-1) != 0], minlength=written.rows)
