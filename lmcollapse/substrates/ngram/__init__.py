"""N-gram language models as a substrate: what counting alone can learn of the same text, measured in the same ways.

Rows are documents in tokens of a byte-level BPE that is trained on the human training part, as for scratch models of
`causal_lm`: so both have the same perplexities. model.py counts and predicts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from lmcollapse.options import Options
from lmcollapse.substrates.ngram.model import Model, contexts_and_tokens, fit, load, save
from lmcollapse.types import Corpus, Documents, Floats, Human, Ints, Progress, Scores, Start, TokenScores, UserError

AT_ONCE = 2**22
"""Probabilities that are held at once."""
SMALLEST = 1e-200
"""Numbers below lose digits, or are none any more."""
TOGETHER = 512
"""Documents that are written in step, and share a random stream."""


@dataclass(frozen=True)
class Fitted:
    """A model and its tokenizer."""

    model: Model
    tokenizer: Any


class NGram(Options):
    """An n-gram language model with smoothing, over the tokens of documents."""

    reads: ClassVar[str] = "text"
    starts: ClassVar[tuple[Start, ...]] = ("base",)
    iterative: ClassVar[bool] = False

    order: int = Field(3, ge=1)
    """Tokens of an n-gram: each is predicted from the `order - 1` before it."""
    vocabulary: int = Field(2048, ge=257)
    """Tokens of the byte-level BPE."""
    smoothing: Literal["kneser_ney", "add"] = "kneser_ney"
    """kneser_ney: interpolated, with lower orders; add: a constant is added to each count."""
    discount: float | None = Field(None, gt=0, lt=1)
    """kneser_ney: taken off each count; null to estimate it for each order."""
    add: float = Field(0.01, ge=1e-100, le=1e100)
    """add: the constant."""
    temperature: float = Field(1.0, gt=0)
    """Sampling: probabilities go as p^(1 / temperature)."""

    def check(self, start: Start) -> None:
        """Raise UserError for a start that there is none of, and for n-grams that have no number."""
        if start not in self.starts:
            raise UserError(f"start is {start}; n-grams are counted anew each generation, leave `start` out")
        if self.vocabulary**self.order >= 2**63:
            raise UserError(
                f"vocabulary is {self.vocabulary:,} and order {self.order}: their power must stay below 2^63; lower one"
            )

    def decide(self) -> NGram:
        """Nothing is left to the machine."""
        return self

    def prepare(self, human: Human[Documents], folder: Path, seed: int) -> None:
        """Train the tokenizer on the human training part."""
        from lmcollapse.substrates.causal_lm.models import train_tokenizer

        train_tokenizer(human.train.texts, self.vocabulary).save_pretrained(folder)

    def encode(self, base: Path, human: Human[Documents]) -> tuple[Corpus, Corpus]:
        """One row a document; those to train on end with the end of the text."""
        from lmcollapse.substrates.causal_lm.blocks import encode
        from lmcollapse.substrates.causal_lm.options import TrainOptions

        return encode(_tokenizer(base), human, TrainOptions(unit="document"))

    def fit(
        self,
        base: Path,
        train: Corpus,
        start: Start,
        previous: Path | None,
        seed: int,
        progress: Progress,
        bench: Path | None = None,
    ) -> Fitted:
        """Count the n-grams of all rows."""
        tokenizer = _tokenizer(base)
        add = self.add if self.smoothing == "add" else None
        rows = [train.tokens(row) for row in range(len(train))]
        with progress.stage("fit", total=len(train.values), unit="tokens") as advance:
            model = fit(rows, tokenizer.eos_token_id, len(tokenizer), self.order, self.discount, add)
            advance(len(train.values))
        return Fitted(model, tokenizer)

    def sample(
        self,
        model: Fitted,
        human: Corpus,
        previous: Corpus,
        generation: int,
        seed: int,
        progress: Progress,
        bench: Path | None = None,
    ) -> Corpus:
        """Documents until there are as many tokens as in the human part; none is longer than the longest one there."""
        from lmcollapse.substrates.causal_lm.blocks import to_texts

        wanted, longest = len(human.values), int(human.lengths.max())
        rows: list[Ints] = []
        with progress.stage("sample", total=wanted, unit="tokens") as advance:
            for number in range(wanted):  # each document has a token at least
                uniforms = np.random.default_rng([seed, number]).random((TOGETHER, longest))
                for row in self._written(model, uniforms):
                    rows.append(row)
                    wanted -= len(row)
                    advance(len(row))
                    if wanted <= 0:
                        return Corpus.of_tokens(rows, generation, texts=to_texts(model.tokenizer, rows))
        raise AssertionError("no tokens were written")

    def _written(self, model: Fitted, uniforms: Floats) -> Iterator[Ints]:
        """A document for each row of `(documents, longest)` uniforms."""
        count, longest = uniforms.shape
        before, end = self.order - 1, model.tokenizer.eos_token_id
        text = np.full((count, before + longest), end, np.int32)
        lengths, writing = np.full(count, longest), np.arange(count)
        for place in range(longest):
            contexts = text[writing, place : place + before]
            tokens = np.empty(len(writing), np.int32)
            for some in _parts(len(writing), model.model.vocabulary):
                chances = model.model.distributions(contexts[some])
                ends = np.cumsum(_tempered(chances, self.temperature) if self.temperature != 1 else chances, axis=1)
                drawn = uniforms[writing[some], place] * ends[:, -1]
                tokens[some] = (ends <= drawn[:, None]).sum(axis=1).clip(max=model.model.vocabulary - 1)
            text[writing, before + place] = tokens
            lengths[writing[tokens == end]] = place + 1
            writing = writing[tokens != end]
            if not len(writing):
                break
        yield from (row[before : before + length] for row, length in zip(text, lengths, strict=True))

    def score(self, model: Fitted, corpus: Corpus, progress: Progress, *, by_token: bool = False) -> Scores:
        """Nats of every token, each predicted once, the first of a row from the start of a text."""
        rows = [corpus.tokens(row) for row in range(len(corpus))]
        ngrams = contexts_and_tokens(rows, model.tokenizer.eos_token_id, self.order)
        size = len(ngrams)
        scores = TokenScores(np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.bool_))
        with progress.stage("score", total=len(ngrams), unit="tokens") as advance:
            for some in _parts(len(ngrams), model.model.vocabulary):
                chances = model.model.distributions(ngrams[some, :-1])
                best, right = chances.argmax(axis=1), ngrams[some, -1]
                here = np.arange(len(right))
                with np.errstate(divide="ignore"):  # a token of no probability has infinitely many nats
                    scores.nats[some] = -np.log(chances[here, right])
                scores.confidence[some], scores.correct[some] = chances[here, best], best == right
                advance(len(right))
        lengths = np.asarray(corpus.lengths, np.int64)
        nats = np.bincount(np.repeat(np.arange(len(rows)), lengths), scores.nats, minlength=len(rows))
        return Scores(nats.astype(np.float64), lengths, scores if by_token else None)

    @property
    def judges(self) -> tuple[str, ...]:
        """None."""
        return ()

    def judge(self, name: str, corpus: Corpus, progress: Progress) -> Scores:
        """There is no judge."""
        raise AssertionError(name)

    def save(self, model: Fitted, folder: Path) -> None:
        """The tables, and the tokenizer."""
        save(model.model, folder)
        model.tokenizer.save_pretrained(folder)

    def load(self, folder: Path) -> Fitted:
        """What `save` wrote."""
        return Fitted(load(folder), _tokenizer(folder))


def _tempered(chances: Floats, temperature: float) -> Floats:
    """`(contexts, vocabulary)` chances^(1 / temperature), not normalised; some chance is left in every row.

    At low temperatures all powers may be too small for a number; those rows are taken relative to the likeliest token.
    """
    power = 1 / np.float64(temperature) if temperature >= SMALLEST else np.inf
    powers: Floats = chances**power
    small = powers.max(axis=1) < SMALLEST
    if small.any():
        some = chances[small]
        powers[small] = (some / some.max(axis=1, keepdims=True)) ** power
    return powers


def _tokenizer(folder: Path) -> Any:
    from lmcollapse.substrates.causal_lm.models import read_tokenizer
    from lmcollapse.substrates.causal_lm.options import ModelOptions

    return read_tokenizer(ModelOptions(name=str(folder.resolve())))


def _parts(rows: int, vocabulary: int) -> Iterator[slice]:
    """All rows, so many at a time that their probabilities fit."""
    size = max(1, AT_ONCE // vocabulary)
    return (slice(first, min(first + size, rows)) for first in range(0, rows, size))
