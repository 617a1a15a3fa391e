"""The measure `verbatim`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from lmcollapse.metrics.intervals import jackknife
from lmcollapse.metrics.sample import BLOCKS, Sample
from lmcollapse.spool import chunks
from lmcollapse.types import Ints, Reading

Span = Annotated[int, Field(ge=1)]

BATCH = 1 << 21
"""Words of the training text that are looked up at once."""

MULTIPLIER = np.uint64(0xD1342543DE82EF95)


def verbatim(written: Sample, training: Callable[[], Iterable[Ints]], *, span: Span = 8) -> list[Reading]:
    """Share of the written words that lie in a run of `span` words or more copied from the training text.

    A run is copied if the same words follow each other within one training text. Repetition of what was learnt by
    heart, and idioms: the same share of held-out human text says how much is that. The training text is read once, in a
    stream, and looked up in the spans of the sample by 64-bit keys: two different spans have one key with a chance of
    about 5e-20, that is 5e-6 that any of ten million spans is taken for any other of ten million. Interval by block
    jackknife.

    span : least length of a copied run, in words.
    """
    begins, keys = _spans(written.words, written.row, span)
    if not len(keys):
        return [Reading("verbatim_share", None, f"no row has {span} words")]
    distinct, place = np.unique(keys, return_inverse=True)
    del keys
    found = np.zeros(len(distinct), np.bool_)
    for words, text in _batches(training()):
        looked_up = np.sort(_spans(words, text, span)[1])  # in order, so that the look-up walks through memory
        nearest = np.searchsorted(distinct, looked_up).clip(max=len(distinct) - 1)
        found[nearest[distinct[nearest] == looked_up]] = True

    until = np.zeros(len(written.words) + 1, np.int32)  # copied spans that begin before each word, and in all
    until[1 : len(begins) + 1][begins] = found[place]
    np.cumsum(until, out=until)
    copied = until[1:] > np.concatenate([np.zeros(span - 1, np.int32), until[: len(begins)]])
    block = written.row_block[written.row]
    size = np.bincount(block, minlength=BLOCKS)
    inside = np.bincount(block[copied], minlength=BLOCKS)
    value = float(inside.sum() / size.sum())
    without = (inside.sum() - inside) / np.maximum(size.sum() - size, 1)
    low, high = jackknife(value, without, size, least=0, most=1)
    return [Reading("verbatim_share", value, low=low, high=high)]


def _spans(words: Ints, row: Ints, span: int) -> tuple[npt.NDArray[np.bool_], Ints]:
    """At which words a span begins that is all in one row, and a key of each: a polynomial in hashes of its words."""
    hashes = _hashes(words)
    keys = np.zeros(max(0, len(words) - span + 1), np.uint64)
    for k in range(span):
        keys *= MULTIPLIER
        keys += hashes[k : k + len(keys)]
    begins = row[: len(keys)] == row[span - 1 :]
    return begins, keys[begins]


def _hashes(words: Ints) -> Ints:
    """`(words,)` uint64, each bit depending on all bits of the word's number (SplitMix64, Steele et al. 2014)."""
    x = words.astype(np.uint64)
    x += np.uint64(1)
    x *= np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    x ^= x >> np.uint64(31)
    return x


def _batches(texts: Iterable[Ints]) -> Iterator[tuple[Ints, Ints]]:
    """Whole texts, about `BATCH` words at once, as the words and the text of each."""
    for batch in chunks(texts, BATCH):
        lengths = [len(words) for words in batch]
        yield np.concatenate(batch), np.repeat(np.arange(len(batch), dtype=np.int32), lengths)
