"""What a word is, and how many of them a measure looks at."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import Annotated

import numpy as np
from pydantic import Field

from lmcollapse.types import Scene

Budget = Annotated[int, Field(gt=0)]
"""So many words of a corpus."""

ROW_ORDER_SEED = 0
"""One fixed order of the rows for every corpus of a size: a measure depends on nothing but its scene."""

UNSPACED = (
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Kana and Han characters, which are written without blanks between words."""


def words(text: str) -> list[str]:
    """The words of a text, in order.

    A word is a longest run of letters, digits and the marks on them (accents, vowel signs, joiners) in case-folded NFC,
    and includes a single apostrophe, hyphen or underscore between two such runs ("don't", "well-known", "foo_bar").
    Everything else separates words and is none itself: blanks, punctuation, symbols, emoji; so "3.14" is two words, and
    each Han or kana character is one of its own.

    Typographic apostrophes and hyphens count as the plain ones. Thai, Lao, Khmer and Burmese, which are written without
    blanks too, come out as phrases: measures over words say little about them.
    """
    # NFD first: case folding is defined on decomposed text (Unicode Standard, section 3.13, D145)
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
    return _word().findall(folded.replace("\u2019", "'").replace("\u2010", "-").replace("\u2011", "-"))


@cache
def _word() -> re.Pattern[str]:
    """The rule as a pattern. `re` has no class for marks and its `\\w` lacks them, so the class is spelt out."""
    inner = "".join(f"{chr(first)}-{chr(last)}" for first, last in _ranges(_code_points_in_words()))
    run = f"[^\\W_{UNSPACED}][{inner}]*"  # begins with a letter or digit: the marks on an emoji are no word
    return re.compile(f"[{UNSPACED}]|{run}(?:[-'_]{run})*")


def _code_points_in_words() -> Iterator[int]:
    unspaced = re.compile(f"[{UNSPACED}]")
    for point in range(sys.maxunicode + 1):
        character = chr(point)
        mark = unicodedata.category(character)[0] == "M" or character in "\u200c\u200d"
        if (mark or character.isalnum()) and not unspaced.match(character):
            yield point


def _ranges(points: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Ascending integers as (first, last) of each gapless stretch."""
    for _, stretch in groupby(enumerate(points), key=lambda pair: pair[1] - pair[0]):
        members = [point for _, point in stretch]
        yield members[0], members[-1]


def sample_words(texts: Sequence[str], budget: int) -> list[list[str]]:
    """The words of whole texts in a random order, fixed once and for all, until there are exactly `budget` of them.

    The last text is cut. Where there are fewer words than that, all of them.
    """
    sample: list[list[str]] = []
    for index in np.random.default_rng(ROW_ORDER_SEED).permutation(len(texts)):
        if budget == 0:
            break
        found = words(texts[index])[:budget]
        budget -= len(found)
        sample.append(found)
    return sample


def sample_at_budget(scene: Scene, budget: int | None) -> tuple[list[list[str]], str]:
    """What a measure at a fixed number of words looks at, row by row, and, where that cannot be had, why not.

    budget : words of this generation's corpus; None for a quarter of what the human training part has. That number is
        the same for every generation, and leaves room for late ones, which fill much of their tokens with blank lines.
    """
    if scene.human_texts is None or scene.corpus.texts is None:
        return [], "the rows are no text"
    wanted = budget or max(1, sum(len(words(text)) for text in scene.human_texts) // 4)
    sample = sample_words(scene.corpus.texts, wanted)
    there = sum(map(len, sample))
    if there < wanted:
        return [], f"the corpus has {there:,} words, {wanted:,} are needed"
    return sample, ""
