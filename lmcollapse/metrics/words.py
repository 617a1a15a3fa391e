"""What a word is."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby

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
