"""What the measures of a generation look at, put together from what the run directory holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmcollapse.metrics.drift import Lineage, drift
from lmcollapse.metrics.scene import (
    MOST_IMAGES,
    MOST_WORDS,
    Detected,
    Heldout,
    HumanText,
    Judged,
    Pictures,
    Scene,
    Trained,
    some_images,
)
from lmcollapse.spool import counts
from lmcollapse.types import HUMAN, Corpus, Documents, Human, Images, Ints, Scores

Sizes = Mapping[str, int]
"""Rows and tokens of a corpus."""


@dataclass(frozen=True)
class AllScores:
    """What models find of one generation's text, or images.

    heldout : this generation's model on held-out human data, token by token.
    corpora : each judge on what this generation wrote, by its name; "generation_0" is the first model of the run.
    """

    heldout: Scores
    corpora: Mapping[str, Scores]


@dataclass(frozen=True)
class Generation:
    """What there is of a generation that is to be measured.

    train, heldout : the human rows.
    corpus : what it wrote.
    trained_on : gathers what it was trained on, human rows and others.
    scores, first : of this generation and of generation 0.
    sizes : of what it was trained on.
    detected : what a detector said of the pool, where there is one.
    human_size : rows and tokens of the human training part.
    trained : rows that each generation so far was trained on, by the generation that wrote them.
    wrote : rows and tokens of what each wrote.
    """

    train: Corpus
    heldout: Corpus
    corpus: Corpus
    trained_on: Callable[[], Corpus]
    scores: AllScores
    first: AllScores
    sizes: Trained
    detected: Detected | None
    human_size: Sizes
    trained: Sequence[Mapping[str, int]]
    wrote: Sequence[Sizes]


def of_human(human: Human[Any], size: int | None) -> Scene:
    """Held-out human data in the place of what a generation writes: what another human sample of that size has.

    size : how much is measured, in words or in images; None to leave it to what there is.
    """
    if isinstance(human.train, Images):
        images = _how_many(human, size)
        held, train = (some_images(part.pixels, images) for part in (human.heldout, human.train))
        return Scene(pictures=Pictures(held, train, images))
    text, words = _human_text(human, size)
    return Scene(text.heldout.first(words), text.reference(words), lambda: text.numbering.rows(human.train.texts))


def of_generation(human: Human[Any], size: int | None, here: Generation) -> Scene:
    """All that there is to see of one generation; see `of_human` for the size."""
    judges = {name: Judged(scores, here.first.corpora[name]) for name, scores in here.scores.corpora.items()}
    heldout = Heldout(here.heldout, here.scores.heldout, _token_counts(here.train))
    if isinstance(human.train, Images):
        images = _how_many(human, size)
        written, train = (some_images(pixels, images) for pixels in (here.corpus.values, human.train.pixels))
        return Scene(
            pictures=Pictures(written, train, images),
            heldout=heldout,
            judges=judges,
            trained=here.sizes,
            detected=here.detected,
        )
    if here.corpus.texts is None:
        return Scene(heldout=heldout, judges=judges, trained=here.sizes, detected=here.detected)
    text, words = _human_text(human, size)
    lineage = _lineage(text.train_words, here.human_size, here.trained, here.wrote)
    return Scene(
        written=text.written(here.corpus.texts, words),
        human=text.reference(words),
        training=lambda: text.numbering.rows(here.trained_on().texts or ()),
        drift=drift(text.counts, lineage, words),
        heldout=heldout,
        judges=judges,
        trained=here.sizes,
        detected=here.detected,
    )


def _token_counts(rows: Corpus) -> Ints | None:
    """`(token ids,)` occurrences of each token in some rows; None where rows are no tokens."""
    return None if rows.offsets is None else counts(rows.values)


def _how_many(human: Human[Images], images: int | None) -> int:
    """How many images of each corpus are measured in every generation: no more than either human part has."""
    return images or min(len(human.train), len(human.heldout), MOST_IMAGES)


def _human_text(human: Human[Documents], words: int | None) -> tuple[HumanText, int]:
    """A run's human text as numbered words, and how many words of each corpus are measured in every generation.

    words : so many; None for a quarter of the human training part, which leaves room for late generations, that fill
        much of their tokens with blank lines, and no more than the held-out part has, so that it can show what another
        human sample of that size gives.
    """
    text = HumanText.of(human.train.texts, human.heldout.texts, words or MOST_WORDS)
    return text, words or max(1, min(text.train_words // 4, text.heldout_words, MOST_WORDS))


def _lineage(
    human_words: int,
    human: Mapping[str, int],
    trained: Sequence[Mapping[str, int]],
    wrote: Sequence[Mapping[str, int]],
) -> list[Lineage]:
    """Sizes of all generations in words, as if each had written its tokens at the human number of words a token.

    human_words : words of the human training part.
    human, wrote : rows and tokens of the human training part, and of what each generation wrote.
    trained : rows that each generation was trained on, by the generation that wrote them.
    """
    facts = {HUMAN: human, **dict(enumerate(wrote))}
    words = {origin: human_words * size["tokens"] / max(1, human["tokens"]) for origin, size in facts.items()}

    def words_of(origin: int, rows: int) -> int:
        return round(words[origin] * rows / max(1, facts[origin]["rows"]))

    return [
        Lineage(
            {int(origin): words_of(int(origin), rows) for origin, rows in origins.items()}, round(words[generation])
        )
        for generation, origins in enumerate(trained)
    ]
