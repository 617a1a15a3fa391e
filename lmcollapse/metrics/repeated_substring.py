"""The measure `repeated_substring`."""

from __future__ import annotations

import numpy as np

from lmcollapse.metrics.sample import LONGEST, Sample
from lmcollapse.types import Ints, Reading


def repeated_substring(written: Sample) -> list[Reading]:
    """Length in words of the longest run of words that occurs at least twice: `longest_repeat_words`.

    Within rows; the two places may overlap, and be in one row or in two. 0 where no word occurs twice. It grows with
    the text, so it is comparable at one number of words only. No interval: the longest of all is no mean.
    """
    if not len(written.words):
        return [Reading("longest_repeat_words", None, "there are no words")]
    counted = (n for n in range(LONGEST, 0, -1) if (_repeated(written.grams(n)) >= 0).any())
    longest = next(counted, 0)
    if longest == LONGEST:
        longest = _longest(_repeated(written.grams(LONGEST)), written.row)
    return [Reading("longest_repeat_words", float(longest))]


def _longest(names: Ints, row: Ints) -> int:
    """The longest repeated run, by doubling the length as long as there is one and then halving what lies between.

    Runs have names, and a run of up to twice the length is named by the two that it is made of (Karp, Miller and
    Rosenberg 1972, STOC). Runs that do not occur twice are in none that does: what is left to look at shrinks fast.

    names : `(words,)` the name of the run of `LONGEST` words that begins at each word, -1 where it occurs only once.
    row : `(words,)` the row of each word.
    """
    length = LONGEST
    while ((doubled := _joined(names, length, row)) >= 0).any():
        names, length = doubled, 2 * length
    low, high = length, 2 * length
    while high - low > 1:
        middle = (low + high) // 2
        if (_joined(names, middle - length, row) >= 0).any():
            low = middle
        else:
            high = middle
    return low


def _joined(names: Ints, by: int, row: Ints) -> Ints:
    """Names of the runs made of a named run and the one that begins `by` words later; -1 where it occurs only once."""
    import pandas as pd

    head, tail = names[:-by], names[by:]
    begins = np.flatnonzero((head >= 0) & (tail >= 0) & (row[:-by] == row[by:]))
    pairs = head[begins].astype(np.int64) * (int(names.max()) + 1) + tail[begins]
    joined = np.full(len(names), -1, np.int32)
    joined[begins] = pd.factorize(pairs)[0]
    return _repeated(joined)


def _repeated(names: Ints) -> Ints:
    """The names that occur at least twice, -1 for the others."""
    named = names >= 0
    once = np.bincount(names[named]) < 2
    return np.where(named & ~np.append(once, True)[names], names, -1)
