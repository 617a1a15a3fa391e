"""A fixed number of words of a corpus, and how often its n-grams occur in them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from lmcollapse.metrics.numbering import CHUNK, Numbering
from lmcollapse.spool import chunks
from lmcollapse.types import Floats, Ints

BLOCKS = 20
"""A sample's rows fall into so many blocks of about the same number of words; intervals leave out one at a time."""

ROW_ORDER_SEED = 0
"""One fixed random order of rows for every corpus: a measure depends on nothing but what it looks at."""

LONGEST = 4
"""The n of the longest n-grams that are counted."""


@dataclass(frozen=True)
class Table:
    """How often each distinct n-gram occurs, in the whole sample and in each block.

    total : `(distinct,)` occurrences of each n-gram.
    gram, block, count : `(cells,)` an n-gram's number (into `total`), a block that it occurs in, how often there.
    """

    total: Ints
    gram: Ints
    block: Ints
    count: Ints

    def sums(self, statistic: Callable[[Ints, Ints], Floats]) -> tuple[float, Floats]:
        """The sum of `statistic(occurrences, gram)` over all n-grams: of the whole, and `(BLOCKS,)` without each block.

        statistic : vectorised, 0 for an n-gram that does not occur.
        """
        whole = statistic(self.total, np.arange(len(self.total)))
        left = statistic(self.total[self.gram] - self.count, self.gram)
        lost = np.bincount(self.block, whole[self.gram] - left, minlength=BLOCKS)
        return float(whole.sum()), whole.sum() - lost

    @property
    def size(self) -> tuple[int, Ints]:
        """N-grams counted with their repetitions: in the whole, and `(BLOCKS,)` without each block."""
        inside = np.bincount(self.block, self.count, minlength=BLOCKS).astype(np.int64)
        return int(inside.sum()), inside.sum() - inside


@dataclass(frozen=True, eq=False)
class Sample:
    """Words of a corpus: whole rows in a random order that is always the same, the last one cut.

    words : `(words,)` int32, the numbers of the words; equal words have equal numbers in all samples of a scene.
    offsets : `(rows + 1,)` int64, row `i` is `words[offsets[i]:offsets[i + 1]]`; there are rows without a word.
    texts : the rows as they were written, `(rows,)`; the last one whole.
    wanted : how many words were asked for; there are fewer where the corpus has no more.
    """

    words: Ints
    offsets: Ints
    texts: list[str]
    wanted: int

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.texts)

    @cached_property
    def row(self) -> Ints:
        """`(words,)` int32, the row of each word."""
        return np.repeat(np.arange(self.rows, dtype=np.int32), np.diff(self.offsets))

    @cached_property
    def row_block(self) -> Ints:
        """`(rows,)` int8, the block of each row; a row belongs to the block that it begins in."""
        return (self.offsets[:-1] * BLOCKS // max(1, len(self.words))).clip(0, BLOCKS - 1).astype(np.int8)

    def first(self, words: int) -> Sample:
        """The first so many words of the sample: what a sample of that size would have been."""
        if words > len(self.words):
            return replace(self, wanted=words)
        rows = int(np.searchsorted(self.offsets, words))
        offsets = np.append(self.offsets[:rows], words)
        return Sample(self.words[:words], offsets, self.texts[:rows], words)

    def grams(self, n: int) -> Ints:
        """`(words,)` int32: the number of the n-gram that begins at each word, -1 where the row ends within it.

        N-grams of one length are numbered from 0 on. Each is made of the two (n - 1)-grams in it, so memory is a few
        numbers a word whatever n is; and one with a part that occurs once occurs once itself, so that the longer the
        n-grams, the fewer are left to sort.
        """
        assert n >= 1, n
        if n not in self._grams:
            self._grams[n] = self._joined(n) if n > 1 else _ranks(self.words)
        return self._grams[n]

    def _joined(self, n: int) -> Ints:
        parts = self.grams(n - 1)
        first, second = parts[: max(0, len(parts) - 1)], parts[1:]
        grams = np.full(len(self.words), -1, np.int32)
        inside = (first >= 0) & (second >= 0) & (self.row[:-1] == self.row[1:])
        again = np.bincount(parts[parts >= 0]) > 1
        # -1 reads the last entry here, and is not inside
        candidates = inside & again[first] & again[second] if len(again) else inside
        pairs = first[candidates].astype(np.int64) * len(again) + second[candidates]
        order = np.argsort(pairs)
        pairs = pairs[order]
        numbers = np.empty(len(pairs), np.int32)
        numbers[order] = np.cumsum(np.diff(pairs, prepend=-1) != 0, dtype=np.int32) - 1
        grams[:-1][candidates] = numbers
        alone = np.flatnonzero(inside & ~candidates)
        grams[alone] = np.arange(len(alone), dtype=np.int32) + (numbers.max(initial=-1) + 1)
        return grams

    @cached_property
    def _grams(self) -> dict[int, Ints]:
        return {}

    def table(self, n: int) -> Table:
        """How often each n-gram occurs, in the whole and by block."""
        if n not in self._tables:
            grams = self.grams(n)
            begins = grams >= 0
            gram, block = grams[begins], self.row_block[self.row[begins]]
            total = np.bincount(gram).astype(np.int32)
            several = total[gram] > 1
            cells = gram[several].astype(np.int64) * BLOCKS + block[several]
            cells.sort()
            edges = np.flatnonzero(np.diff(cells, prepend=-1))
            count = np.diff(edges, append=len(cells)).astype(np.int32)
            cells = cells[edges]
            gram, block = gram[~several], block[~several]  # what occurs once needs no sorting
            self._tables[n] = Table(
                total,
                np.concatenate([(cells // BLOCKS).astype(np.int32), gram]),
                np.concatenate([(cells % BLOCKS).astype(np.int8), block]),
                np.concatenate([count, np.ones(len(gram), np.int32)]),
            )
        return self._tables[n]

    @cached_property
    def _tables(self) -> dict[int, Table]:
        return {}

    def counts(self, types: int) -> Ints:
        """`(BLOCKS, types)` int32: how often each of the word types numbered below `types` occurs in each block."""
        known = self.words < types
        cell = self.row_block[self.row[known]].astype(np.int64) * types + self.words[known]
        return np.bincount(cell, minlength=BLOCKS * types).astype(np.int32).reshape(BLOCKS, types)


def _ranks(words: Ints) -> Ints:
    """`(words,)` int32: the same numbers, without gaps."""
    there = np.bincount(words) > 0
    return (np.cumsum(there, dtype=np.int32) - 1)[words]


def draw(texts: Iterable[str], numbering: Numbering, budget: int, seen: Callable[[Ints], None] | None = None) -> Sample:
    """The words of whole texts in a random order until there are `budget` of them, the last text cut.

    Every text has a random key that follows from its place alone; the sample is the texts with the smallest keys. Texts
    are read once and only as many are kept as the budget needs, so that memory does not grow with the corpus, and a
    smaller budget gives a prefix of the same sample. Where there are fewer words than the budget, all of them.

    seen : is given the words of every text, as numbers (for counts of the whole); without it, texts that cannot be in
        the sample are not split into words.
    """
    assert budget > 0, budget
    keys = np.random.default_rng(ROW_ORDER_SEED)
    heap: list[tuple[float, Ints, str]] = []  # (minus the key, words, text): what leaves next is on top
    total = 0
    for chunk in chunks(texts, CHUNK):
        drawn = [(-key, text) for key, text in zip(keys.random(len(chunk)), chunk, strict=True)]
        if seen is None and total >= budget:
            drawn = [entry for entry in drawn if entry[0] > heap[0][0]]
        for (key, text), words in zip(drawn, numbering.rows([text for _, text in drawn]), strict=True):
            if seen is not None:
                seen(words)
            if total >= budget and key < heap[0][0]:
                continue
            heapq.heappush(heap, (key, words, text))
            total += len(words)
            while total - len(heap[0][1]) >= budget:
                total -= len(heapq.heappop(heap)[1])
    heap.sort(key=lambda entry: -entry[0])
    offsets = np.concatenate([[0], np.cumsum([len(words) for _, words, _ in heap])]).astype(np.int64)
    words = np.concatenate([words for _, words, _ in heap]) if heap else np.empty(0, np.int32)
    return Sample(words.astype(np.int32), offsets, [text for *_, text in heap], budget).first(budget)
