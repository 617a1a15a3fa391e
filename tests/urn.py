"""A substrate from outside the tree, quick enough to kill at every step: words drawn from an urn and put back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lmcollapse.options import Options
from lmcollapse.types import Corpus, Documents, Human, Progress, Scores, Start, TokenScores, UserError
from tests.text import FEW_MEASURES, text_file

if TYPE_CHECKING:
    import pytest

TENTH = {"kind": "mix", "human_fraction": 0.1}


def urn_config(folder: Path, **given: Any) -> dict[str, Any]:
    """Three generations of the urn on a text in this folder, with few measures, unless told otherwise."""
    human = folder / "human.txt"
    return {
        "substrate": "tests.urn:Urn",
        "start": "scratch",
        "generations": 3,
        "corpus": {"kind": "files", "path": str(human if human.is_file() else text_file(human))},
        "measures": {**FEW_MEASURES, "words": 3000},
        **given,
    }


class UrnOptions(Options):
    """Options of the urn."""

    row_words: int = 20
    """Words in a row."""
    smoothing: float = 0.0
    """Added to every count."""


class Urn(Options):
    """Words drawn from an urn: what a perfect unigram model would write."""

    reads: ClassVar[str] = "text"
    starts: ClassVar[tuple[Start, ...]] = ("scratch",)
    iterative: ClassVar[bool] = False
    urn: UrnOptions = UrnOptions()
    workers: int | None = None
    """Left to the machine; the loop must remember what was decided."""

    def check(self, start: Start) -> None:
        if start not in self.starts:
            raise UserError(f"start: {start} is not for the urn; it knows {self.starts}")

    def decide(self) -> Urn:
        return self.model_copy(update={"workers": self.workers or 3})

    def prepare(self, human: Human[Documents], folder: Path, seed: int) -> None:
        parts = (human.train, human.heldout, human.reserve)
        words = sorted({w for part in parts if part is not None for text in part.texts for w in text.split()})
        (folder / "words.json").write_text(json.dumps(words))

    def encode(self, base: Path, human: Human[Documents]) -> tuple[Corpus, Corpus]:
        words = json.loads((base / "words.json").read_text())
        index = {word: i for i, word in enumerate(words)}
        stream = [index[w] for text in human.train.texts for w in text.split()]
        size = self.urn.row_words
        rows = [stream[i : i + size] for i in range(0, len(stream) - size + 1, size)]
        texts = [" ".join(words[i] for i in row) for row in rows]
        train = Corpus.of_tokens(rows, -1, texts=texts)
        held = [[index[w] for w in text.split()] for text in human.heldout.texts]
        return train, Corpus.of_tokens(held, -1, texts=human.heldout.texts, sources=human.heldout.sources)

    def fit(
        self, base: Path, train: Corpus, start: Start, previous: Path | None, seed: int, progress: Progress, bench: Path
    ) -> Any:
        words = json.loads((base / "words.json").read_text())
        with progress.stage("fit", total=len(train), unit="rows") as advance:
            counts = np.bincount(train.values, minlength=len(words)) + self.urn.smoothing
            advance(len(train))
        return words, counts / counts.sum()

    def sample(
        self,
        model: Any,
        human: Corpus,
        previous: Corpus,
        generation: int,
        seed: int,
        progress: Progress,
        bench: Path,
    ) -> Corpus:
        words, p = model
        draws = np.random.default_rng(seed).choice(len(p), (len(human), self.urn.row_words), p=p)
        texts = [" ".join(words[i] for i in row) for row in draws]
        progress.say(f"workers {self.workers}")
        return Corpus.of_tokens(list(draws), generation, texts=texts)

    judges: ClassVar[tuple[str, ...]] = ()

    def score(self, model: Any, corpus: Corpus, progress: Progress, *, by_token: bool = False) -> Scores:
        _, p = model
        nats = -np.log(np.maximum(p[corpus.values], 1e-9))
        assert corpus.offsets is not None
        top = np.full(len(nats), p.max(), np.float32)
        every = TokenScores(nats.astype(np.float32), top, corpus.values == p.argmax())
        return Scores(np.add.reduceat(nats, corpus.offsets[:-1]), corpus.lengths, every if by_token else None)

    def judge(self, name: str, corpus: Corpus, progress: Progress) -> Scores:
        raise NotImplementedError

    def save(self, model: Any, folder: Path) -> None:
        words, p = model
        (folder / "model.json").write_text(json.dumps({"words": words, "p": p.tolist()}))

    def load(self, folder: Path) -> Any:
        model = json.loads((folder / "model.json").read_text())
        return model["words"], np.array(model["p"])


def watch_fits(patch: pytest.MonkeyPatch) -> list[Corpus]:
    """What every fit of an urn reads from now on, as it comes to be read."""
    seen: list[Corpus] = []
    fit = Urn.fit

    def watching(self: Urn, base: Path, train: Corpus, *rest: Any) -> Any:
        seen.append(train)
        return fit(self, base, train, *rest)

    patch.setattr(Urn, "fit", watching)
    return seen
