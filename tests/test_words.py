"""What a word is, words as numbers, and samples of a fixed number of them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcollapse.metrics import numbering
from lmcollapse.metrics.numbering import Numbering
from lmcollapse.metrics.sample import BLOCKS, Sample, draw
from lmcollapse.metrics.words import words
from lmcollapse.types import Ints
from tests.text import documents

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


# words as numbers

TEXTS = st.lists(st.text("aB9é東'-_ .\n", max_size=15) | st.text("aB9'-_ .\n", max_size=15), max_size=8)


@given(TEXTS)
def test_numbers_stand_for_the_words_of_the_rule(texts: list[str]) -> None:
    numbers = Numbering()
    rows = list(numbers.rows(texts))
    word = {number: word for word, number in numbers.numbers.items()}
    assert [[word[number] for number in row] for row in rows] == [words(text) for text in texts]
    assert sorted(word) == list(range(len(numbers)))


def test_numbers_do_not_depend_on_how_texts_are_cut_into_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*documents(40), "naïve", "", *documents(40, seed=1)]
    whole = Numbering()
    expected = [spelt(row, whole) for row in whole.rows(texts)]
    monkeypatch.setattr(numbering, "CHUNK", 100)
    pieces = Numbering()
    assert [spelt(row, pieces) for row in pieces.rows(iter(texts))] == expected


def spelt(row: Ints, numbers: Numbering) -> list[str]:
    names = list(numbers.numbers)
    return [names[number] for number in row]


# a fixed number of words


def rows_of(sample: Sample) -> list[list[int]]:
    return [sample.words[a:b].tolist() for a, b in pairwise(sample.offsets)]


@given(st.lists(st.text("ab ", max_size=12), max_size=12), st.integers(1, 30))
def test_a_sample_has_exactly_the_budget_out_of_whole_rows(texts: list[str], budget: int) -> None:
    numbers = Numbering()
    sample = draw(texts, numbers, budget)
    names = list(numbers.numbers)
    rows = [[names[number] for number in row] for row in rows_of(sample)]
    there = [words(text) for text in texts]
    assert len(sample.words) == min(budget, sum(map(len, there)))
    assert sample.rows == len(rows) == len(sample.texts) and sample.wanted == budget
    remaining = Counter(map(tuple, there))
    for row, text in zip(rows[:-1], sample.texts, strict=False):
        assert row == words(text)
        remaining[tuple(row)] -= 1
    assert min(remaining.values(), default=0) >= 0
    assert not rows or words(sample.texts[-1])[: len(rows[-1])] == rows[-1]


def test_a_sample_is_random_and_always_the_same() -> None:
    texts = [f"w{i} x{i}" for i in range(1000)]
    sample = draw(texts, Numbering(), 1000)
    assert sample.texts == draw(iter(texts), Numbering(), 1000).texts
    rows = [int(text.split()[0][1:]) for text in sample.texts]
    assert 450 < np.mean(rows) < 550  # of all rows, not of the first ones
    assert sum(a < b for a, b in pairwise(rows)) < 350  # and in no order


@given(st.lists(st.text("ab ", max_size=12), max_size=12), st.integers(1, 30), st.integers(1, 30))
def test_a_smaller_sample_is_the_beginning_of_a_larger_one(texts: list[str], one: int, other: int) -> None:
    large, small = draw(texts, Numbering(), max(one, other)), draw(texts, Numbering(), min(one, other))
    first = large.first(min(one, other))
    # numbers may differ: texts beyond the smaller sample are not all numbered for it
    assert first.offsets.tolist() == small.offsets.tolist() and first.texts == small.texts


def test_texts_that_are_not_drawn_are_seen_where_that_is_asked_for() -> None:
    texts = documents(300)
    seen: list[int] = []
    numbers = Numbering()
    counted = draw(texts, numbers, 600, lambda row: seen.extend(row.tolist()))
    assert len(seen) == sum(len(words(text)) for text in texts)
    assert counted.texts == draw(texts, Numbering(), 600).texts
    lazy = Numbering()
    draw(texts * 20, lazy, 600)
    assert len(lazy) <= len(numbers)


# n-grams

ROWS = st.lists(st.lists(st.sampled_from("abc"), max_size=8), max_size=8)


def sample_of(rows: Sequence[Sequence[str]]) -> Sample:
    """These rows as a sample, in this order."""
    numbers: dict[str, int] = {}
    flat = [numbers.setdefault(word, len(numbers)) for row in rows for word in row]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Sample(np.array(flat, np.int32), offsets, [" ".join(row) for row in rows], len(flat))


def slow_grams(rows: Sequence[Sequence[str]], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1))


@given(ROWS, st.integers(1, 6))
def test_ngrams_are_counted_as_brute_force_counts_them(rows: list[list[str]], n: int) -> None:
    table = sample_of(rows).table(n)
    assert sorted(table.total.tolist()) == sorted(slow_grams(rows, n).values())
    assert np.bincount(table.gram, table.count, minlength=len(table.total)).tolist() == table.total.tolist()


@given(ROWS, st.integers(1, 3))
def test_sums_without_a_block_are_those_of_the_other_rows(rows: list[list[str]], n: int) -> None:
    sample = sample_of(rows)
    table = sample.table(n)
    whole, without = table.sums(lambda count, gram: count.astype(float) ** 2)
    assert whole == sum(count**2 for count in slow_grams(rows, n).values())
    size, size_without = table.size
    assert size == sum(slow_grams(rows, n).values())
    for block in range(BLOCKS):
        others = [row for row, of in zip(rows, sample.row_block, strict=True) if of != block]
        assert without[block] == sum(count**2 for count in slow_grams(others, n).values())
        assert size_without[block] == sum(slow_grams(others, n).values())


def test_blocks_share_the_words_about_evenly() -> None:
    sample = draw(documents(2000), Numbering(), 100_000)
    words_of_block = np.bincount(sample.row_block[sample.row], minlength=BLOCKS)
    assert np.abs(words_of_block / (100_000 / BLOCKS) - 1).max() < 0.02
    assert sample.counts(3).sum(0).tolist() == np.bincount(sample.words)[:3].tolist()
