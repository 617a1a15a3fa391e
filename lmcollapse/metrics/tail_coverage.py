"""The measure `tail_coverage`."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import Annotated

from pydantic import Field

from lmcollapse.metrics.words import Budget, sample_at_budget
from lmcollapse.metrics.words import words as words_of
from lmcollapse.types import Reading, Scene

Count = Annotated[int, Field(ge=1)]


def tail_coverage(scene: Scene, *, words: Budget | None = None, rare_count: Count = 4) -> list[Reading]:
    """Of the words that are rare in the human training part, the share that this generation still uses.

    A word type is rare if it occurs in the human training part, and at most `rare_count` times there: the same types
    for every generation. Covered are those that occur at least once in a fixed number of words of what this generation
    wrote, its rows taken in a random order that is always the same and the last one cut. What a word is:
    `lmcollapse.metrics.words`; where rows are blocks of tokens, the pieces of a word that was cut count as words.

    words : how many words are looked at; null for a quarter of what the human training part has, the same for every
        generation. The measure is not defined where a corpus has fewer.
    rare_count : the most occurrences that a rare type has in the human training part.
    """
    sample, missing = sample_at_budget(scene, words)
    if missing:
        return [Reading("tail_coverage", None, missing)]
    counts = Counter(word for text in scene.human_texts or () for word in words_of(text))
    rare = {word for word, count in counts.items() if count <= rare_count}
    if not rare:
        return [Reading("tail_coverage", None, f"no word occurs at most {rare_count} times in the human training part")]
    return [Reading("tail_coverage", len(rare.intersection(chain.from_iterable(sample))) / len(rare))]
