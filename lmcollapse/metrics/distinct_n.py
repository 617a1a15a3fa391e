"""The measure `distinct_n`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from lmcollapse.metrics.words import Budget, sample_at_budget
from lmcollapse.types import Reading, Scene

Order = Annotated[int, Field(ge=1)]


def distinct_n(scene: Scene, *, words: Budget | None = None, orders: tuple[Order, ...] = (1, 2, 3, 4)) -> list[Reading]:
    """Distinct word n-grams over all n-grams, at one fixed number of words.

    The share falls as a corpus grows, so it is comparable at a fixed size only. Rows are taken in a random order that
    is always the same, the last one is cut, and no n-gram spans two rows. What a word is: `lmcollapse.metrics.words`.
    Li et al. 2016, arXiv 1510.03055.

    words : how many words are looked at; null for a quarter of what the human training part has, the same for every
        generation. The measure is not defined where a corpus has fewer.
    orders : the n of the n-grams, one reading `distinct_n` for each.
    """
    sample, missing = sample_at_budget(scene, words)
    counts = count_ngrams(sample, max(orders, default=0))
    readings = []
    for order in orders:
        distinct, total = counts[order - 1]
        note = missing or ("" if total else f"no row has {order} words")
        readings.append(Reading(f"distinct_{order}", distinct / total if total else None, note))
    return readings


def count_ngrams(rows: Sequence[Sequence[str]], highest: int) -> list[tuple[int, int]]:
    """(distinct n-grams, n-grams) within the rows, for n = 1 to `highest`.

    An n-gram is numbered by its first n - 1 words' number and its last word: memory is a few numbers a word.
    """
    numbers: dict[str, int] = {}
    word = np.array([numbers.setdefault(word, len(numbers)) for row in rows for word in row], np.int64)
    row_of = np.repeat(np.arange(len(rows)), np.array([len(row) for row in rows], np.int64))
    counts = []
    gram = word
    for order in range(1, highest + 1):
        if order > 1:
            pair = gram[:-1] * len(numbers) + word[order - 1 :]
            gram = np.unique(pair, return_inverse=True)[1]
        within = row_of[: len(gram)] == row_of[order - 1 :]
        counts.append((len(np.unique(gram[within])), int(within.sum())))
    return counts
