"""Measures of repetition between documents and inside them."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from lmcollapse.metrics.compression_ratio import compression_ratio
from lmcollapse.metrics.numbering import Numbering
from lmcollapse.metrics.repeated_substring import repeated_substring
from lmcollapse.metrics.repetition import repetition
from lmcollapse.metrics.sample import Sample, draw
from lmcollapse.metrics.self_bleu import self_bleu
from lmcollapse.metrics.self_repetition import self_repetition
from lmcollapse.types import Ints, Reading
from tests.text import documents

Rows = list[list[str]]

BETWEEN: dict[str, Callable[[Sample], list[Reading]]] = {
    "self_bleu": lambda written: self_bleu(written, documents=max(20, sum(np.diff(written.offsets) > 0))),
    "self_repetition": self_repetition,
    "compression_ratio": compression_ratio,
    "repetition": repetition,
    "repeated_substring": repeated_substring,
}


def sample(rows: Sequence[str]) -> Sample:
    return draw(rows, Numbering(), 10**9)


def texts(least: int = 0, most: int = 12, words: int = 0) -> st.SearchStrategy[Rows]:
    """Documents of a few different words: full of repetition."""
    return st.lists(st.lists(st.sampled_from("abc"), min_size=words, max_size=10), min_size=least, max_size=most)


def joined(rows: Rows) -> list[str]:
    return [" ".join(row) for row in rows]


def grams(row: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]


def one(readings: list[Reading]) -> float | None:
    assert len(readings) == 1
    return readings[0].value


def values(readings: list[Reading]) -> dict[str, float | None]:
    return {reading.name: reading.value for reading in readings}


# self-BLEU


@settings(max_examples=25, deadline=None)
@given(texts(20, 24), st.integers(1, 4))
def test_self_bleu_is_nltks(rows: Rows, order: int) -> None:
    filled = [row for row in rows if row]
    found = self_bleu(sample(joined(rows)), documents=max(20, len(filled)), order=order)[0]
    if len(filled) < 20:
        assert found.value is None and "documents have words, 20 are needed" in found.note
        return
    smoothing = SmoothingFunction().method1
    scores = [
        sentence_bleu(filled[:i] + filled[i + 1 :], row, [1 / order] * order, smoothing) for i, row in enumerate(filled)
    ]
    assert found.value == pytest.approx(np.mean(scores), abs=1e-12)


def test_self_bleu_is_sacrebleus() -> None:
    rows = [" ".join(text.lower().replace(".", "").split()) for text in documents(40, words=30)]
    scores = [
        sacrebleu.sentence_bleu(row, rows[:i] + rows[i + 1 :], "floor", 0.1, tokenize="none", use_effective_order=False)
        for i, row in enumerate(rows)
    ]
    expected = np.mean([score.score / 100 for score in scores])
    assert one(self_bleu(sample(rows), documents=40)) == pytest.approx(expected, abs=1e-12)


def test_self_bleu_of_equal_and_of_unlike_documents() -> None:
    assert one(self_bleu(sample(["the same old words"] * 30), documents=30)) == 1
    assert one(self_bleu(sample([f"a{i} b{i} c{i} d{i}" for i in range(30)]), documents=30)) == 0


def test_self_bleu_looks_at_so_many_documents() -> None:
    rows = documents(60)
    first = sample(rows).texts[:25]
    assert one(self_bleu(sample(rows), documents=25)) == pytest.approx(one(self_bleu(sample(first), documents=25)))
    assert self_bleu(sample(rows), documents=61) == [
        Reading("self_bleu", None, "60 documents have words, 61 are needed")
    ]


# self-repetition


@given(texts(), st.integers(1, 4))
def test_self_repetition_by_brute_force(rows: Rows, order: int) -> None:
    held = [set(grams(row, order)) for row in rows if len(row) >= order]
    scores = [
        math.log(1 + sum(gram in other for gram in own for j, other in enumerate(held) if j != i))
        for i, own in enumerate(held)
    ]
    expected = pytest.approx(np.mean(scores)) if scores else None
    assert one(self_repetition(sample(joined(rows)), order=order)) == expected


def test_self_repetition_closed_forms() -> None:
    assert one(self_repetition(sample(["a b c d e f"] * 11))) == pytest.approx(math.log(1 + 3 * 10))
    assert one(self_repetition(sample(["a b c d a b c d", "e f g h e f g h", "a b c"]))) == 0


# compression


def test_compression_ratio_is_gzips() -> None:
    written = sample([*documents(300), "👍 ❤️ ok", "שלום עולם"])
    data = "".join(text + "\n" for text in written.texts).encode()
    reading = compression_ratio(written)[0]
    assert reading.value == len(data) / len(gzip.compress(data, 6))
    assert reading.low is not None and reading.high is not None
    assert reading.low < reading.value < reading.high < 1.1 * reading.low


def test_text_without_order_compresses_to_its_entropy_and_copies_to_nothing() -> None:
    rng = np.random.default_rng(0)
    hexadecimal = [rng.bytes(500).hex() for _ in range(200)]
    ratio = one(compression_ratio(sample(hexadecimal)))
    assert ratio is not None and 1.7 < ratio <= 2  # 4 of 8 bits
    ratio = one(compression_ratio(sample([hexadecimal[0]] * 200)))
    assert ratio is not None and ratio > 100


# repetition inside a document


@given(texts(), st.sampled_from([(2, 3, 4), (1,), (4, 2)]))
def test_repetition_by_brute_force(rows: Rows, orders: tuple[int, ...]) -> None:
    expected: dict[str, object] = {}
    diversity = 1.0
    for n in orders:
        counts = [(len(set(grams(row, n))), len(grams(row, n))) for row in rows if len(row) >= n]
        distinct, total = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
        expected[f"repetition_{n}"] = pytest.approx(np.mean([1 - d / t for d, t in counts])) if counts else None
        diversity *= distinct / total if total else math.nan
    expected["document_diversity"] = None if math.isnan(diversity) else pytest.approx(diversity)
    assert values(repetition(sample(joined(rows)), orders=orders)) == expected


def test_repetition_closed_forms() -> None:
    found = values(repetition(sample(["x y " * 10] * 5 + ["one two three four five"] * 5)))
    assert found["repetition_2"] == pytest.approx((1 - 2 / 19) / 2)
    assert found["repetition_4"] == pytest.approx((1 - 2 / 17) / 2)
    assert found["document_diversity"] == pytest.approx((6 / 23) * (5 / 21) * (4 / 19))


# all of them


@pytest.mark.parametrize("name", BETWEEN)
def test_the_order_of_documents_is_nothing(name: str) -> None:
    rows = [*documents(50), "", *documents(30, words=17, seed=1)]
    forward, backward = (values(BETWEEN[name](sample(some))) for some in (rows, rows[::-1]))
    # gzip sees what is near, and the order of rows is arbitrary
    assert forward == pytest.approx(backward, rel=0.01 if name == "compression_ratio" else 1e-12)


def test_a_corpus_that_is_there_twice() -> None:
    once, twice = documents(60), documents(60) * 2
    assert values(repetition(sample(once))) == pytest.approx(values(repetition(sample(twice))))
    assert one(self_bleu(sample(twice), documents=120)) == pytest.approx(1)
    assert one(repeated_substring(sample(twice))) == 60
    (before, after) = (one(self_repetition(sample(rows))) for rows in (once, twice))
    assert before is not None and after is not None and after > before


def test_a_million_characters_in_one_line() -> None:
    line = "a b c " * 170_000
    words = 510_000
    assert one(repeated_substring(sample([line]))) == words - 3
    assert values(repetition(sample([line]), orders=(2,)))["repetition_2"] == 1 - 3 / (words - 1)
    assert one(self_repetition(sample([line, "a b c a"]))) == pytest.approx(math.log(2))
    ratio = one(compression_ratio(sample([line])))
    assert ratio is not None and ratio > 200


@pytest.mark.parametrize("rows", [[], ["", " \n"], ["👍 ❤️ 🇩🇪"] * 30])
def test_there_is_nothing_to_say_about_no_words(rows: list[str]) -> None:
    readings = [reading for measure in BETWEEN.values() for reading in measure(sample(rows))]
    assert all(reading.value is None and reading.note for reading in readings)


def test_words_in_any_script_repeat() -> None:
    rows = ["שלום עולם، مرحبا بالعالم", "مرحبا بالعالم שלום עולם"] * 20
    assert one(repeated_substring(sample(rows))) == 4
    assert one(self_bleu(sample(rows), documents=40)) == 1


# intervals


def coverage(truth: float, corpus: Callable[[np.random.Generator], Reading], times: int) -> float:
    rng = np.random.default_rng(0)
    found = [corpus(rng) for _ in range(times)]
    return float(np.mean([reading.low < truth < reading.high for reading in found]))  # type: ignore[operator]


def rows_of(words: Ints) -> Sample:
    """`(rows, words)` numbers as a sample."""
    rows, length = words.shape
    return Sample(words.ravel(), np.arange(rows + 1) * length, [""] * rows, words.size)


def test_the_interval_of_repetition_covers_its_expectation() -> None:
    kinds, length = (
        40,
        25,
    )  # of so many words drawn from so many kinds, kinds * (1 - (1 - 1 / kinds)^length) are distinct
    truth = 1 - kinds * (1 - (1 - 1 / kinds) ** length) / length

    def corpus(rng: np.random.Generator) -> Reading:
        return repetition(rows_of(rng.integers(0, kinds, (80, length))), orders=(1,))[0]

    assert 0.9 <= coverage(truth, corpus, 200) <= 0.99


def test_the_interval_of_self_repetition_covers_its_mean() -> None:
    p = 1 / np.arange(5, 205)

    def corpus(rng: np.random.Generator) -> Reading:
        return self_repetition(rows_of(rng.choice(200, (160, 15), p=p / p.sum())), order=2)[0]

    rng = np.random.default_rng(1)
    truth = np.mean([corpus(rng).value for _ in range(300)])
    assert 0.9 <= coverage(float(truth), corpus, 200) <= 0.995


def test_an_interval_of_few_rows_is_none() -> None:
    short = sample(["a b c d e f g h", "i j k l m n o p", "a b c d"])
    readings = [*self_repetition(short), *compression_ratio(short), *repetition(short)]
    assert all(a.value is not None and a.low is None and a.high is None for a in readings)
