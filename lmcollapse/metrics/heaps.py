"""The measure `heaps`."""

from __future__ import annotations

import numpy as np

from lmcollapse.metrics.intervals import jackknife
from lmcollapse.metrics.sample import BLOCKS, Sample
from lmcollapse.types import Floats, Ints, Reading

SIZES = 30
LEAST_WORDS = 1000


def heaps(written: Sample) -> list[Reading]:
    """Exponent of Heaps' law, by regression: `heaps_exponent`.

    The law is V(n) = k n^b for the word types V among n successive words (Heaps 1978, Information Retrieval, section
    7.5). b is the least-squares slope of ln V on ln n at 30 sizes, evenly spaced on the logarithmic scale from a
    hundredth of the words (but at least 100) to all of them. V(n) is the mean over 20 places to begin at, evenly spread
    over the sample's rows in their random order, which goes on at its beginning after its end: the first few rows alone
    would decide on the smaller sizes. In real text b falls as n grows, so it compares at one number of words only.
    Lower means that new words come more rarely. Intervals by block jackknife.
    """
    words = len(written.words)
    if words < LEAST_WORDS:
        note = f"the sample has {words:,} words, the regression needs {LEAST_WORDS:,}"
        return [Reading("heaps_exponent", None, note)]
    first, used = _first_places(written)
    value = _slope(first, used)
    without = np.array([_slope(np.delete(first, block, 0), np.delete(used, block)) for block in range(len(used))])
    low, high = jackknife(value, without)
    return [Reading("heaps_exponent", value, low=low, high=high)]


def _first_places(written: Sample) -> tuple[Ints, Ints]:
    """`(blocks, types)` words in each block before the first of each type, and `(blocks,)` words in each block.

    Blocks follow each other in the sample; those without a word are left aside. Where a type does not occur in a block
    the number is larger than any sample.
    """
    grams, block = written.grams(1), written.row_block[written.row]
    used = np.bincount(block, minlength=BLOCKS)
    first = np.full((BLOCKS, int(grams.max()) + 1), np.iinfo(np.int32).max, np.int32)
    place = np.arange(len(grams) - 1, -1, -1, dtype=np.int32)
    first[block[::-1], grams[::-1]] = place  # of several words the first one is written last
    first -= (np.cumsum(used) - used).astype(np.int32)[:, None]
    return first[used > 0], used[used > 0]


def _slope(first: Ints, used: Ints) -> float:
    """NaN where there are too few words.

    first, used : as `_first_places` gives them, of the blocks that there are.
    """
    words = int(used.sum())
    sizes = np.unique(np.geomspace(max(100, words // 100), max(100, words), SIZES).astype(np.int64))
    if len(sizes) < 2:
        return float("nan")
    slope: Floats = np.polyfit(np.log(sizes), np.log(_types(first, used, sizes)), 1)[0]
    return float(slope)


def _types(first: Ints, used: Ints, sizes: Ints) -> Floats:
    """`(sizes,)` types among so many words from the beginning of a block on, mean over the blocks."""
    seen = np.zeros(len(sizes) + 1, np.int64)
    ahead = first[0].astype(np.int64)  # words before the next of each type
    for turn in reversed(range(2 * len(used))):  # twice around, backwards, so that the end knows of the beginning
        block = turn % len(used)
        ahead = np.minimum(ahead + used[block], first[block])
        if turn < len(used):
            seen += np.bincount(np.searchsorted(sizes, ahead, side="right"), minlength=len(sizes) + 1)
    return np.cumsum(seen[:-1]) / len(used)
