"""The measure `type_token_ratio`."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from lmcollapse.metrics.intervals import NONE, block_means
from lmcollapse.metrics.sample import BLOCKS, Sample
from lmcollapse.types import Ints, Reading

Window = Annotated[int, Field(ge=1)]


def type_token_ratio(written: Sample, *, window: Window = 500) -> list[Reading]:
    """Word types over words within a moving window, on average: `type_token_ratio`.

    The mean over all windows of so many successive words (the moving-average type-token ratio of Covington and McFall
    2010, Journal of Quantitative Linguistics 17, 94-100). Unlike types over words of a whole text it does not fall as a
    text grows. Rows are laid end to end in the sample's order, so a window may see several rows. The interval is that
    of the means of 20 stretches of windows, which are nearly independent where a stretch is longer than a window;
    there is none where it is not.

    window : words in a window.
    """
    if len(written.words) < window:
        note = f"the sample has {len(written.words):,} words, a window needs {window:,}"
        return [Reading("type_token_ratio", None, note)]
    types = _types(written.words, window)
    stretches = np.array([part.mean() for part in np.array_split(types, min(BLOCKS, len(types)))]) / window
    low, high = block_means(stretches) if len(types) >= BLOCKS * window else NONE
    return [Reading("type_token_ratio", float(types.mean()) / window, low=low, high=high)]


def _types(words: Ints, window: int) -> Ints:
    """`(windows,)` distinct words in each window: a word is new in those that begin after its last occurrence."""
    order = np.argsort(words, kind="stable")
    again = words[order[1:]] == words[order[:-1]]
    previous = np.full(len(words), -1, np.int32)
    previous[order[1:][again]] = order[:-1][again]
    first = np.maximum(previous, np.arange(-window, len(words) - window, dtype=np.int32)) + 1
    # a word counts from the window `first` on, up to the one that begins with it: one word leaves with each step
    windows = len(words) - window + 1
    change = np.bincount(np.minimum(first, windows), minlength=windows)[:windows]
    change[1:] -= 1
    return np.cumsum(change)
