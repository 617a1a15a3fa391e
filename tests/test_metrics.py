"""Measures against brute force, closed forms and what they must not depend on."""

from __future__ import annotations

import json
import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcollapse.catalog import CATALOG, find
from lmcollapse.metrics.distinct_n import count_ngrams, distinct_n
from lmcollapse.metrics.perplexity import perplexity
from lmcollapse.metrics.sequence_perplexity import sequence_perplexity
from lmcollapse.metrics.tail_coverage import tail_coverage
from lmcollapse.metrics.words import sample_words, words
from lmcollapse.options import describe, options_of
from lmcollapse.types import HUMAN, Corpus, Reading, Scene, Scores
from tests.text import documents


def corpus(texts: Sequence[str]) -> Corpus:
    return Corpus.of_tokens([[0]] * len(texts), HUMAN, texts=list(texts))


def scores(*rows: tuple[float, int]) -> Scores:
    return Scores(np.array([nats for nats, _ in rows], np.float64), np.array([n for _, n in rows], np.int64))


def scene(
    human: Sequence[str] = ("a",),
    written: Sequence[str] = ("a",),
    heldout: Sequence[str] = ("a",),
    heldout_scores: Scores = scores((1, 1)),  # noqa: B008
    corpus_scores: Scores = scores((1, 1)),  # noqa: B008
) -> Scene:
    return Scene(0, list(human), corpus(heldout), corpus(written), heldout_scores, corpus_scores)


def values(readings: list[Reading]) -> dict[str, float | None]:
    return {reading.name: reading.value for reading in readings}


# what a word is


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        (" \t\n.,;!? -- ' _ __", []),
        ("The cat sat. The CAT!", ["the", "cat", "sat", "the", "cat"]),
        ("don't 'quoted' rock'n'roll dogs'", ["don't", "quoted", "rock'n'roll", "dogs"]),
        ("don’t well‐known non‑breaking", ["don't", "well-known", "non-breaking"]),
        ("well-known a--b -x- 1-d", ["well-known", "a", "b", "x", "1-d"]),
        ("foo_bar __init__ _emphasis_", ["foo_bar", "init", "emphasis"]),
        ("3.14 1,000 2nd x² 5%", ["3", "14", "1", "000", "2nd", "x²", "5"]),
        ("a👍b ❤️ 👩‍💻 🇩🇪", ["a", "b"]),
        ("na\u00efve nai\u0308ve NAÏVE", ["naïve"] * 3),
        ("Straße STRASSE ﬁn ΣΑΣ σας", ["strasse", "strasse", "fin", "σασ", "σασ"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("שָׁלוֹם، مرحبا بالعالم", [unicodedata.normalize("NFC", "שָׁלוֹם"), "مرحبا", "بالعالم"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("東京 is カメラー・は", ["東", "京", "is", "カ", "メ", "ラ", "ー", "は"]),
    ],
)
def test_what_a_word_is(text: str, found: list[str]) -> None:
    assert words(text) == found


def alone(c: str) -> bool:
    return c.isalnum() and unicodedata.name(c).startswith(("HIRAGANA", "KATAKANA", "CJK UNIFIED IDEOGRAPH"))


def slow_words(text: str) -> list[str]:
    """The rule again, character by character."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
    for typographic, simple in (("’", "'"), ("‐", "-"), ("‑", "-")):
        folded = folded.replace(typographic, simple)
    found: list[str] = []
    open_word = False
    for i, c in enumerate(folded):
        starts = c.isalnum() and not alone(c)
        mark = unicodedata.category(c)[0] == "M" or c in "\u200c\u200d"
        after = folded[i + 1 : i + 2]
        joins = c in "'-_" and after.isalnum() and not alone(after)
        if alone(c):
            found.append(c)
            open_word = False
        elif open_word and (starts or mark or joins):
            found[-1] += c
        elif starts:
            found.append(c)
            open_word = True
        else:
            open_word = False
    return found


@given(st.text("aZé1²ßΣ़ेह\u0301\u0308ה\u05b8\u200d\u200c❤\ufe0f👍 \n.'’-‐_東かカ・ー", max_size=30))
def test_words_against_the_rule_character_by_character(text: str) -> None:
    assert words(text) == slow_words(text)


@given(st.text(max_size=60))
def test_equivalent_texts_have_equal_words(text: str) -> None:
    assert words(unicodedata.normalize("NFD", text)) == words(unicodedata.normalize("NFC", text)) == words(text)


@pytest.mark.parametrize("line", ["a" * 1_000_000, "a-" * 500_000, "- '" * 300_000, "ह\u0301" * 500_000])
def test_a_very_long_line_is_no_problem(line: str) -> None:
    assert len(words(line)) <= 1


# how many words are looked at


@given(st.lists(st.text("ab ", max_size=12), max_size=12), st.integers(1, 30))
def test_a_sample_has_exactly_the_budget_out_of_whole_rows(texts: list[str], budget: int) -> None:
    sample = sample_words(texts, budget)
    rows = [words(text) for text in texts]
    assert sum(map(len, sample)) == min(budget, sum(map(len, rows)))
    remaining = Counter(map(tuple, rows))
    for row in sample[:-1]:
        remaining[tuple(row)] -= 1
    assert min(remaining.values(), default=0) >= 0
    assert not sample or any(n > 0 and list(row[: len(sample[-1])]) == sample[-1] for row, n in remaining.items())


def test_a_sample_is_random_and_always_the_same() -> None:
    texts = [f"w{i} x{i}" for i in range(1000)]
    sample = sample_words(texts, 1000)
    assert sample == sample_words(texts, 1000)
    rows = [int(row[0][1:]) for row in sample]
    assert 450 < np.mean(rows) < 550  # of all rows, not of the first ones
    assert sum(a < b for a, b in pairwise(rows)) < 350  # and in no order
    assert sample_words(texts, 500) == sample[:250]


# distinct-n


def slow_distinct(rows: Sequence[Sequence[str]], order: int) -> tuple[int, int]:
    grams = [tuple(row[i : i + order]) for row in rows for i in range(len(row) - order + 1)]
    return len(set(grams)), len(grams)


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=8), max_size=8), st.integers(0, 6))
def test_ngrams_are_counted_as_brute_force_counts_them(rows: list[list[str]], highest: int) -> None:
    assert count_ngrams(rows, highest) == [slow_distinct(rows, order) for order in range(1, highest + 1)]


def test_ngrams_of_a_real_corpus_are_counted_as_brute_force_counts_them() -> None:
    rows = [words(text) for text in documents(400)]
    assert count_ngrams(rows, 4) == [slow_distinct(rows, order) for order in range(1, 5)]


def test_distinct_n_closed_forms() -> None:
    human = [" ".join(f"w{i}" for i in range(80))]
    readings = values(distinct_n(scene(human, ["a " * 10, "a " * 10])))  # 20 words, 2 * (10 - n + 1) n-grams
    assert readings == {"distinct_1": 1 / 20, "distinct_2": 1 / 18, "distinct_3": 1 / 16, "distinct_4": 1 / 14}
    assert set(values(distinct_n(scene(human, human))).values()) == {1.0}
    assert values(distinct_n(scene(human, ["a b", "b c"]), words=4, orders=(2, 3))) == {
        "distinct_2": 1.0,  # "b b" and "c a" span two rows
        "distinct_3": None,
    }


def test_the_budget_is_a_quarter_of_the_human_words_for_every_corpus() -> None:
    human = documents(200, words=60)
    small, large = documents(60, seed=1), documents(1000, seed=1)
    for written in (small, large):
        sample = sample_words(written, 3000)
        expected = {f"distinct_{n}": np.divide(*slow_distinct(sample, n)) for n in range(1, 5)}
        assert values(distinct_n(scene(human, written))) == expected
    assert values(distinct_n(scene(human, large), words=3000)) == expected
    assert distinct_n(scene(human, large), words=30_000)[0].value < expected["distinct_1"]


# tail coverage


def test_tail_coverage_by_definition() -> None:
    human = ["once", "twice twice", "four four four four", "five five five five five"]
    assert values(tail_coverage(scene(human, ["Once once", "four five x"]), words=5)) == {"tail_coverage": 2 / 3}
    assert values(tail_coverage(scene(human, ["Once once", "four five x"]), words=5, rare_count=1)) == {
        "tail_coverage": 1.0
    }
    assert values(tail_coverage(scene(human, human), words=12)) == {"tail_coverage": 1.0}
    assert values(tail_coverage(scene(human, ["nothing of all that"]), words=4)) == {"tail_coverage": 0.0}


@given(st.lists(st.text("abcd ", max_size=20), min_size=1, max_size=8), st.integers(1, 3), st.integers(1, 10))
def test_tail_coverage_against_brute_force(texts: list[str], rare_count: int, budget: int) -> None:
    human, written = texts, texts[::-1] + ["a b c d ab"] * 2
    everything = [word for text in human for word in words(text)]
    rare = {word for word in everything if everything.count(word) <= rare_count}
    used = {word for row in sample_words(written, budget) for word in row}
    expected = len(rare & used) / len(rare) if rare else None
    assert tail_coverage(scene(human, written), words=budget, rare_count=rare_count)[0].value == expected


def test_resampling_a_corpus_loses_its_tail() -> None:
    rng = np.random.default_rng(0)
    human = [word for text in documents(400) for word in words(text)]
    coverage, current = [], human
    for _ in range(4):
        current = list(rng.choice(current, len(human)))
        coverage.append(values(tail_coverage(scene([" ".join(human)], [" ".join(current)]), words=len(human))))
    shares = [reading["tail_coverage"] for reading in coverage]
    assert all(a > b for a, b in pairwise(shares))  # type: ignore[operator]
    counts = Counter(human)
    rare = [count for count in counts.values() if count <= 4]
    expected = np.mean([1 - (1 - count / len(human)) ** len(human) for count in rare])
    assert shares[0] == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("measure", [distinct_n, tail_coverage])
def test_too_few_words_are_no_number(measure: Any) -> None:
    for reading in measure(scene(["a b c d e f g h"] * 2, ["a b", "c"])):
        assert reading.value is None
        assert reading.note == "the corpus has 3 words, 4 are needed"


# scores


def test_perplexity_and_bits_per_byte() -> None:
    heldout = ["naïve", "of"]  # 6 + 2 bytes
    readings = values(perplexity(scene(heldout=heldout, heldout_scores=scores((10.0, 3), (2.0, 1)))))
    assert readings == {"perplexity": math.exp(3), "bits_per_byte": 12 / math.log(2) / 8}
    uniform = scores(*[(n * math.log(50), n) for n in (1, 2, 30)])
    assert values(perplexity(scene(heldout_scores=uniform)))["perplexity"] == pytest.approx(50)


@pytest.mark.parametrize(
    ("given_scores", "missing", "note"),
    [
        (scores((720.0, 1)), {"perplexity"}, "beyond double precision"),
        (scores((math.inf, 1)), {"perplexity", "bits_per_byte"}, "inf"),
        (scores((math.nan, 1)), {"perplexity", "bits_per_byte"}, "n"),
        (scores((0.0, 0)), {"perplexity", "bits_per_byte"}, "token"),
    ],
)
def test_a_perplexity_that_is_no_number(given_scores: Scores, missing: set[str], note: str) -> None:
    readings = perplexity(scene(heldout_scores=given_scores))
    assert {reading.name for reading in readings if reading.value is None} == missing
    assert all(note in reading.note for reading in readings if reading.value is None)


def test_sequence_perplexity_quantiles() -> None:
    rows = scores((0.0, 0), *[(n * k * 0.01, n) for n, k in zip([1, 7] * 50 + [3], range(101), strict=True)])
    readings = values(sequence_perplexity(scene(corpus_scores=rows)))
    assert {name: math.log(value or 0) for name, value in readings.items()} == pytest.approx(
        {"sequence_perplexity_q05": 0.05, "sequence_perplexity_median": 0.5, "sequence_perplexity_q95": 0.95}
    )
    assert set(values(sequence_perplexity(scene(corpus_scores=scores((0.0, 0))))).values()) == {None}


# all of them


@pytest.mark.parametrize("name", CATALOG["measure"])
def test_every_measure_is_pure_and_its_options_are_described(name: str) -> None:
    measure = find("measure", name)
    human, written = documents(50), documents(50, seed=1)
    given_scene = scene(human, written, documents(5, seed=2))
    readings = measure(given_scene, **options_of(measure)().model_dump())
    assert readings == measure(given_scene)
    assert all(reading.value is not None and not reading.note for reading in readings)
    assert all(description for *_, description in describe(options_of(measure)))
    json.dumps([reading.value for reading in readings], allow_nan=False)


@pytest.mark.parametrize("name", CATALOG["measure"])
def test_every_measure_bears_empty_rows_and_rows_that_are_no_text(name: str) -> None:
    none = np.zeros(2, np.int64)
    vectors = Corpus(np.zeros((2, 3)), generation=none, row=none, prompt=none)
    nothing = scores((0.0, 0), (0.0, 0))
    for rows in (vectors, corpus(["", " "]), corpus([])):
        readings = find("measure", name)(Scene(0, None, rows, rows, nothing, nothing))
        assert readings and all(reading.value is None and reading.note for reading in readings)
