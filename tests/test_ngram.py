"""N-gram models: against counting by dictionaries, and through a whole run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from lmcollapse.config import parse
from lmcollapse.loop import run
from lmcollapse.parquet import read_corpus
from lmcollapse.substrates.ngram import Fitted, NGram, model
from lmcollapse.types import Corpus, Ints, Silent, UserError
from lmcollapse.verify.same import different_files
from tests.text import FEW_MEASURES, text_file

VOCABULARY, END = 7, 0


def rows(seed: int = 0, count: int = 40) -> list[Ints]:
    rng = np.random.default_rng(seed)
    shares = [0.05, 0.3, 0.25, 0.2, 0.12, 0.08]  # one token never occurs
    return [np.append(rng.choice(6, rng.integers(1, 9), p=shares), END).astype(np.int32) for _ in range(count)]


def by_hand(text: list[Ints], order: int, discounts: list[float]) -> Any:
    """Kneser-Ney as its definition says, one probability at a time."""
    grams: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order + 1)]
    for row in text:
        padded = [END] * (order - 1) + row.tolist()
        for end in range(order - 1, len(padded)):
            grams[order][tuple(padded[end - order + 1 : end + 1])] += 1
    for length in range(order - 1, 0, -1):
        for gram in grams[length + 1]:
            grams[length][gram[1:]] += 1  # once for each token before it

    def probability(token: int, context: tuple[int, ...]) -> float:
        length = len(context) + 1
        lower = probability(token, context[1:]) if context else 1 / VOCABULARY
        after = {gram: count for gram, count in grams[length].items() if gram[:-1] == context}
        if not after:
            return lower
        total, discount = sum(after.values()), discounts[length - 1]
        own = max(after.get((*context, token), 0) - discount, 0) / total
        return own + discount * len(after) / total * lower

    return probability


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("discount", [0.75, None])
def test_kneser_ney_is_what_its_definition_says(order: int, discount: float | None) -> None:
    text = rows()
    fitted = model.fit(text, END, VOCABULARY, order, discount, None)
    discounts = [table.discount for table in fitted.tables]
    assert discount is None or discounts == [discount] * order
    probability = by_hand(text, order, discounts)
    contexts = np.random.default_rng(1).integers(0, VOCABULARY, (60, order - 1))
    found = fitted.distributions(contexts)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    for context, row in zip(contexts, found, strict=True):
        expected = [probability(token, tuple(context.tolist())) for token in range(VOCABULARY)]
        np.testing.assert_allclose(row, expected)


def test_an_estimated_discount_is_that_of_the_counts_of_counts() -> None:
    text = rows(count=10)
    fitted = model.fit(text, END, VOCABULARY, 2, None, None)
    pairs = Counter(pair for row in text for pair in zip([END, *row.tolist()], row.tolist(), strict=False))
    once, twice = (sum(count == times for count in pairs.values()) for times in (1, 2))
    assert fitted.tables[1].discount == pytest.approx(once / (once + 2 * twice))
    alike = model.fit([np.array([1, 1, 1, 1, 1, 1, 1, 0])] * 9, END, VOCABULARY, 2, None, None)
    assert alike.tables[1].discount == 0.5


@pytest.mark.parametrize("order", [1, 2, 3])
def test_added_counts(order: int) -> None:
    text = rows()
    fitted = model.fit(text, END, VOCABULARY, order, None, 0.3)
    grams = Counter(map(tuple, model.contexts_and_tokens(text, END, order).tolist()))
    contexts = np.random.default_rng(1).integers(0, VOCABULARY, (40, order - 1))
    for context, row in zip(contexts.tolist(), fitted.distributions(contexts), strict=True):
        counts = np.array([grams[(*context, token)] for token in range(VOCABULARY)], float)
        np.testing.assert_allclose(row, (counts + 0.3) / (counts.sum() + 0.3 * VOCABULARY))


class Plain:
    """As much of a tokenizer as writing and scoring need."""

    eos_token_id = END

    def __len__(self) -> int:
        return VOCABULARY

    def decode(self, tokens: list[int], **_: Any) -> str:
        return " ".join(map(str, tokens))

    bos_token_id = END


def made(order: int = 2, **options: Any) -> tuple[NGram, Fitted]:
    substrate = NGram.model_validate({"order": order, **options})
    return substrate, Fitted(model.fit(rows(), END, VOCABULARY, order, None, None), Plain())


@pytest.mark.parametrize("order", [1, 2, 3])
def test_every_token_is_scored_once(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmcollapse.substrates.ngram.AT_ONCE", 10 * VOCABULARY)
    substrate, fitted = made(order)
    text = rows(3, count=9)
    scores = substrate.score(fitted, Corpus.of_tokens(text, 0), Silent(), by_token=True)
    probability = by_hand(rows(), order, [table.discount for table in fitted.model.tables])
    nats, right = [], []
    for row in text:
        padded = [END] * (order - 1) + row.tolist()
        for place, token in enumerate(row.tolist()):
            chances = [probability(each, tuple(padded[place : place + order - 1])) for each in range(VOCABULARY)]
            nats.append(-np.log(chances[token]))
            right.append(int(np.argmax(chances)) == token)
    assert scores.by_token is not None
    np.testing.assert_allclose(scores.by_token.nats, nats, rtol=1e-6)
    assert scores.by_token.correct.tolist() == right
    assert scores.tokens.tolist() == [len(row) for row in text]
    np.testing.assert_allclose(
        scores.nats, [part.sum() for part in np.split(nats, np.cumsum(scores.tokens))[:-1]], rtol=1e-6
    )


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_documents_are_drawn_from_the_model(temperature: float) -> None:
    substrate, fitted = made(2, temperature=temperature)
    human = Corpus.of_tokens([np.ones(25, np.int32)] * 2000, -1)
    written = substrate.sample(fitted, human, human, 0, 5, Silent())
    assert len(human.values) <= len(written.values) < len(human.values) + 25
    starts = np.bincount([written.tokens(row)[0] for row in range(len(written))], minlength=VOCABULARY)
    expected = fitted.model.distributions(np.array([[END]]))[0] ** (1 / temperature)
    assert chisquare(starts, len(written) * expected / expected.sum()).pvalue > 0.001
    after = Counter(
        pair
        for row in range(len(written))
        for pair in zip(written.tokens(row)[:-1], written.tokens(row)[1:], strict=True)
    )
    follows = np.array([after[(3, token)] for token in range(VOCABULARY)])
    expected = fitted.model.distributions(np.array([[3]]))[0] ** (1 / temperature)
    assert chisquare(follows, follows.sum() * expected / expected.sum()).pvalue > 0.001
    for row in range(len(written)):
        tokens = written.tokens(row)
        assert END not in tokens[:-1] and (tokens[-1] == END or len(tokens) == 25 or row == len(written) - 1)
    again = substrate.sample(fitted, human, human, 0, 5, Silent())
    assert again.values.tolist() == written.values.tolist()
    assert substrate.sample(fitted, human, human, 0, 6, Silent()).values.tolist() != written.values.tolist()


def test_a_model_is_read_as_it_was_written(tmp_path: Path) -> None:
    contexts = np.random.default_rng(1).integers(0, VOCABULARY, (20, 2))
    for add in (None, 0.2):
        fitted = model.fit(rows(), END, VOCABULARY, 3, None, add)
        model.save(fitted, tmp_path)
        assert (model.load(tmp_path).distributions(contexts) == fitted.distributions(contexts)).all()


def test_a_run_of_three_generations(tmp_path: Path) -> None:
    given = {
        "substrate": "ngram",
        "vocabulary": 300,
        "generations": 3,
        "corpus": {"kind": "files", "path": str(text_file(tmp_path / "human.txt"))},
        "policy": "replace",
        "measures": {**FEW_MEASURES, "words": 1000},
    }
    out, again = (run(parse(given), tmp_path / name) for name in ("out", "again"))
    assert not different_files(out, again)
    table = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert table[0]["perplexity"] < table[1]["perplexity"] < table[2]["perplexity"]
    assert all(row["distinct_2"] is not None for row in table)
    written = read_corpus(out / "generation_002" / "corpus" / "corpus.parquet")
    assert set(written.generation.tolist()) == {2}
    assert written.texts is not None and all(isinstance(text, str) for text in written.texts)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"start": "previous"}, "leave `start` out"),
        ({"order": 6, "vocabulary": 2048}, r"below 2\^63"),
        ({"order": 0}, "'order' is 0"),
        ({"discount": 1.0}, "'discount' is 1.0"),
    ],
)
def test_what_cannot_work_is_refused(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        run(parse({"substrate": "ngram", **given}), tmp_path / "out")
