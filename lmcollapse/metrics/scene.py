"""What a measure may look at, part by part, and how a measure is given what it asks for.

A measure is a pure function. Its positional parameters name the parts of the scene that it looks at, with no default
where it cannot do without them; its keyword-only parameters are its options:

    def tail_coverage(written: Sample, human: Reference, drift: Drift | None = None, *, rare_count: int = 4)

It returns readings, whose values are finite or None.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lmcollapse.metrics.drift import Drift
from lmcollapse.metrics.numbering import Numbering
from lmcollapse.metrics.sample import ROW_ORDER_SEED, Sample, draw
from lmcollapse.types import Bools, Corpus, Floats, Ints, Pixels, Reading, Scores, UserError

Measure = Callable[..., list[Reading]]
"""`measure(part, …, **options)`: see above."""

MOST_WORDS = 10_000_000
MOST_IMAGES = 10_000
"""No sample is larger, unless it is asked for: what measures hold in memory is proportional to it."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Human text, as the measures of the corpus compare with it.

    counts : `(types,)` int64, occurrences in the whole human training part of the word types numbered 0 to types - 1;
        a word whose number is larger does not occur there.
    sample : as many words of the human training part as there are in the sample that is measured.
    """

    counts: Ints
    sample: Sample

    @property
    def types(self) -> int:
        """Word types in the human training part."""
        return len(self.counts)


@dataclass(frozen=True, eq=False)
class HumanText:
    """Human text as numbered words, from which the samples of a scene are drawn.

    numbering : of the words of the training part first; it goes on with what models write.
    counts : as in `Reference`.
    train, heldout : samples of either part, as large as they may become.
    heldout_words : words in the whole held-out part.
    """

    numbering: Numbering
    counts: Ints
    train: Sample
    heldout: Sample
    heldout_words: int

    @classmethod
    def of(cls, train: Iterable[str], heldout: Iterable[str], most: int = MOST_WORDS) -> HumanText:
        """Count the words of both parts, each text read once, and draw samples of at most so many words."""
        numbering = Numbering()
        counts = np.zeros(0, np.int64)
        heldout_words = 0

        def count(words: Ints) -> None:
            nonlocal counts
            if len(numbering) > len(counts):  # room for twice as many, so that growing is rare
                counts = np.concatenate([counts, np.zeros(2 * len(numbering) - len(counts), np.int64)])
            np.add.at(counts, words, 1)

        def count_heldout(words: Ints) -> None:
            nonlocal heldout_words
            heldout_words += len(words)

        train_sample = draw(train, numbering, most, count)
        counts = counts[: len(numbering)]
        heldout_sample = draw(heldout, numbering, most, count_heldout)
        return cls(numbering, counts, train_sample, heldout_sample, heldout_words)

    @property
    def train_words(self) -> int:
        """Words in the whole training part."""
        return int(self.counts.sum())

    def reference(self, words: int) -> Reference:
        """What a sample of so many words is compared with."""
        return Reference(self.counts, self.train.first(words))

    def written(self, texts: Iterable[str], words: int) -> Sample:
        """So many words of other texts, numbered as the human ones."""
        return draw(texts, self.numbering, words)


@dataclass(frozen=True, eq=False)
class Heldout:
    """The held-out human text, and how likely this generation's model finds it.

    rows : the text, one row a document.
    scores : with the details of every token.
    train_counts : `(token ids,)` int64, occurrences of each token in the human training rows; shorter than the
        vocabulary where its last tokens do not occur, None where there are no training rows.
    """

    rows: Corpus
    scores: Scores
    train_counts: Ints | None = None

    @cached_property
    def row(self) -> Ints:
        """`(tokens,)` the row of each token."""
        return np.repeat(np.arange(len(self.scores.tokens)), self.scores.tokens)

    def by_row(self, of_tokens: npt.NDArray[Any]) -> Floats:
        """`(rows,)` sums of what is known of each token."""
        return np.bincount(self.row, of_tokens, minlength=len(self.scores.tokens)).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Judged:
    """How likely one frozen model finds what was written.

    scores : of this generation's corpus.
    first : of generation 0's corpus.
    """

    scores: Scores
    first: Scores


@dataclass(frozen=True, eq=False)
class Trained:
    """Sizes of what a generation was trained on, and of the human part of it, in rows and in tokens."""

    rows: int
    human_rows: int
    tokens: int
    human_tokens: int


@dataclass(frozen=True, eq=False)
class Detected:
    """What a detector said of the rows of a pool, and what they are.

    probabilities : `(rows,)` of being synthetic.
    synthetic : `(rows,)` the truth.
    threshold : from which a row counts as synthetic.
    """

    probabilities: Floats
    synthetic: Bools
    threshold: float


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images that a generation wrote beside human ones.

    written, human : `(images, values)` float32, the values of the pixels from 0 to 1.
    wanted : how many were asked for of either; there are fewer where there are no more.
    """

    written: Floats
    human: Floats
    wanted: int


def some_images(pixels: Pixels, images: int) -> Floats:
    """So many of `(all, height, width, channels)` images as `(images, values)`, always the same ones by their place."""
    chosen = np.sort(np.random.default_rng(ROW_ORDER_SEED).permutation(len(pixels))[:images])
    values: Floats = pixels[chosen].reshape(len(chosen), -1) / np.float32(255)
    return values


@dataclass(frozen=True, eq=False)
class Scene:
    """All that the measures of one generation may look at; None for what there is not.

    written : a fixed number of words of what this generation wrote (never of its prompts).
    human : human text to compare with.
    training : the words of each text that this generation was trained on, numbered as those of the samples; read anew
        at each call.
    drift : what a perfect model would have lost by now.
    heldout : this generation's model on held-out human text.
    judges : models that judge what was written, by name; "generation_0" is the first model of the run.
    pictures : where images are written in the place of text.
    trained : what this generation was trained on.
    detected : what a detector said of the pool that this was filtered from.
    """

    written: Sample | None = None
    human: Reference | None = None
    training: Callable[[], Iterable[Ints]] | None = None
    drift: Drift | None = None
    heldout: Heldout | None = None
    judges: Mapping[str, Judged] | None = None
    pictures: Pictures | None = None
    trained: Trained | None = None
    detected: Detected | None = None

    def read(self, measure: Measure, options: Mapping[str, Any]) -> list[Reading]:
        """What a measure reads off this scene; nothing where a part is missing that it cannot do without.

        Where fewer words (or images) were written than are looked at, the measures of the corpus are not defined: they
        would not compare with those of other generations.
        """
        needed = parts(measure)
        given = {name: getattr(self, name) for name in needed}
        if any(given[name] is None for name, required in needed.items() if required):
            return []
        readings = measure(**given, **options)
        written, pictures = given.get("written"), given.get("pictures")
        note = ""
        if written is not None and len(written.words) < written.wanted:
            note = f"the corpus has {len(written.words):,} words, {written.wanted:,} are needed"
        if pictures is not None and len(pictures.written) < pictures.wanted:
            note = f"the corpus has {len(pictures.written):,} images, {pictures.wanted:,} are needed"
        return [Reading(reading.name, None, note) for reading in readings] if note else readings


PARTS = tuple(field.name for field in fields(Scene))


def parts(measure: Measure) -> dict[str, bool]:
    """The parts of the scene that a measure looks at, and whether it needs them.

    Raises UserError for a function whose positional parameters are no parts of a scene.
    """
    parameters = [p for p in inspect.signature(measure).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    name = getattr(measure, "__name__", repr(measure))
    for parameter in parameters:
        if parameter.name not in PARTS:
            raise UserError(
                f"measure '{name}' looks at '{parameter.name}', which no scene has; the parts of a scene are "
                f"{', '.join(PARTS)}, options come after a `*`"
            )
    if not parameters:
        raise UserError(
            f"measure '{name}' looks at nothing; its first parameters are parts of a scene: {', '.join(PARTS)}"
        )
    return {parameter.name: parameter.default is parameter.empty for parameter in parameters}
