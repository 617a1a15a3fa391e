"""Measures of word counts: brute force, closed forms, other libraries, and intervals that cover what they say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from lmcollapse.metrics.entropy import entropy
from lmcollapse.metrics.heaps import heaps
from lmcollapse.metrics.intervals import jackknife
from lmcollapse.metrics.invented_words import invented_words
from lmcollapse.metrics.sample import BLOCKS, Sample
from lmcollapse.metrics.scene import Reference
from lmcollapse.metrics.type_token_ratio import type_token_ratio
from lmcollapse.metrics.zipf import zipf
from lmcollapse.types import Reading

Rows = Sequence[Sequence[int]]


def sample(rows: Rows) -> Sample:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    words = np.array([word for row in rows for word in row], np.int32)
    return Sample(words, offsets, [""] * len(rows), len(words))


def reference(rows: Rows) -> Reference:
    return Reference(np.bincount(sample(rows).words).astype(np.int64), sample(rows))


def values(readings: list[Reading]) -> dict[str, float | None]:
    return {reading.name: reading.value for reading in readings}


def value(readings: list[Reading]) -> float:
    assert len(readings) == 1 and readings[0].value is not None, readings
    return readings[0].value


def topical(rng: np.random.Generator, documents: int, words: int = 40, types: int = 20_000) -> list[list[int]]:
    """Documents whose words depend on each other: each has a subject, which is one of twenty orders of the types."""
    weights = 1 / np.arange(1, types + 1)
    common, own = rng.choice(types, (2, documents, words), p=weights / weights.sum())
    subject = rng.integers(0, 20, (documents, 1))
    rows: list[list[int]] = np.where(
        rng.random(own.shape) < 0.5, common, (own + types // 20 * subject) % types
    ).tolist()
    return rows


def without_each_block(of: Sample) -> Iterator[Sample]:
    """The sample as it would be without the rows of each block."""
    for block in range(BLOCKS):
        rows = [of.words[of.offsets[i] : of.offsets[i + 1]] for i in np.flatnonzero(of.row_block != block)]
        yield sample([row.tolist() for row in rows])


def holds_its_jackknife(measure: Callable[[Sample], list[Reading]], of: Sample) -> None:
    """The intervals of a measure are those that measuring without each block gives."""
    anew = [values(measure(part)) for part in without_each_block(of)]
    for reading in measure(of):
        without = np.array([found[reading.name] for found in anew], float)
        assert reading.value is not None and reading.low is not None, reading
        low, high = jackknife(reading.value, without)
        assert low is not None and high is not None and reading.high is not None
        if reading.high <= 1:  # the interval of a share is cut to what a share can be
            low, high = max(low, 0), min(high, 1)
        assert (reading.low, reading.high) == pytest.approx((low, high), rel=1e-6, abs=1e-9)
        assert reading.low < reading.value <= reading.high, reading


def test_intervals_are_those_of_leaving_out_each_block() -> None:
    written = sample(topical(np.random.default_rng(0), 137, 31))
    human = Reference(np.ones(5000, np.int64), written)
    for measure in (entropy, zipf, partial(invented_words, human=human)):
        holds_its_jackknife(measure, written)


@cache
def corpora() -> list[Sample]:
    """Independent corpora of one source."""
    rng = np.random.default_rng(1)
    return [sample(topical(rng, 200)) for _ in range(200)]


def covers(measure: Callable[[Sample], list[Reading]], name: str, chances: int = 200) -> float:
    """How often the interval of a reading contains what it is on average."""
    found = [next(reading for reading in measure(corpus) if reading.name == name) for corpus in corpora()[:chances]]
    truth = np.mean([reading.value or 0.0 for reading in found])
    return float(np.mean([(reading.low or 0) <= truth <= (reading.high or 0) for reading in found]))


@pytest.mark.parametrize(
    ("measure", "name"),
    [
        (entropy, "entropy_1"),
        (entropy, "entropy_2"),
        (partial(type_token_ratio, window=100), "type_token_ratio"),
        (zipf, "zipf_exponent"),
        (heaps, "heaps_exponent"),
        (partial(invented_words, human=Reference(np.ones(5000, np.int64), sample([]))), "invented_types"),
        (partial(invented_words, human=Reference(np.ones(5000, np.int64), sample([]))), "invented_words"),
    ],
)
def test_intervals_cover(measure: Callable[[Sample], list[Reading]], name: str) -> None:
    assert 0.90 <= covers(measure, name, 80 if measure is heaps else 200) <= 0.99


# edge cases

NOTHING: list[Rows] = [[], [[]], [[], [], []]]
LITTLE: list[Rows] = [[[0]], [[], [0], []], [[0] * 2000], [[0]] * 2000, [[0, 1]] * 900, [[5]], [list(range(2000))]]


@pytest.mark.parametrize("rows", [*NOTHING, *LITTLE])
def test_values_are_finite_or_none_with_the_reason(rows: Rows) -> None:
    written = sample(rows)
    found = [*entropy(written), *type_token_ratio(written), *zipf(written), *heaps(written)]
    found += invented_words(written, reference([[0, 1, 2]]))
    for reading in found:
        assert (reading.value is None) == bool(reading.note), reading
        for number in (reading.value, reading.low, reading.high):
            assert number is None or math.isfinite(number), reading
        if rows in NOTHING:
            assert reading.value is None, reading


# entropy


@given(st.lists(st.lists(st.integers(0, 6), max_size=12), max_size=20), st.integers(1, 4))
def test_entropy_is_scipys_with_the_correction(rows: Rows, order: int) -> None:
    grams = Counter(tuple(row[i : i + order]) for row in rows for i in range(len(row) - order + 1))
    found = values(entropy(sample(rows), orders=(order,)))[f"entropy_{order}"]
    if not grams:
        assert found is None
        return
    size = sum(grams.values())
    expected = stats.entropy(list(grams.values()), base=2) + (len(grams) - 1) / (2 * size * math.log(2))
    assert found == pytest.approx(expected, abs=1e-12)


def test_entropy_of_even_frequencies() -> None:
    assert value(entropy(sample([[0, 1, 2, 3]] * 1000), orders=(1,))) == pytest.approx(2, abs=1e-3)
    assert value(entropy(sample([[7] * 100]), orders=(2,))) == 0


def test_correction_of_entropy_corrects() -> None:
    """The mean over many small samples comes closer to the entropy of the source than the plug-in estimate."""
    rng = np.random.default_rng(0)
    p = np.arange(1, 21) / 210
    truth = float(stats.entropy(p, base=2))
    draws = [rng.choice(20, 100, p=p) for _ in range(500)]
    plain = np.mean([stats.entropy(np.bincount(words), base=2) for words in draws])
    corrected = np.mean([value(entropy(sample([words.tolist()]), orders=(1,))) for words in draws])
    assert abs(corrected - truth) < 0.2 * abs(plain - truth)


# type-token ratio


@given(st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=20), st.integers(1, 30))
def test_type_token_ratio_is_that_of_every_window(rows: Rows, window: int) -> None:
    words = [word for row in rows for word in row]
    ratios = [len(set(words[i : i + window])) / window for i in range(len(words) - window + 1)]
    found = values(type_token_ratio(sample(rows), window=window))["type_token_ratio"]
    assert found == (pytest.approx(np.mean(ratios)) if ratios else None)


def test_type_token_ratio_does_not_fall_with_size_or_duplicates() -> None:
    rows = topical(np.random.default_rng(0), 2000)
    ratios = [value(type_token_ratio(sample(part))) for part in (rows[:500], rows, rows + rows)]
    assert ratios == pytest.approx([ratios[0]] * 3, rel=0.01)


def test_type_token_ratio_has_an_interval_where_a_stretch_is_longer_than_a_window() -> None:
    rows = topical(np.random.default_rng(0), 100)  # 4,000 words
    assert type_token_ratio(sample(rows), window=190)[0].low is not None
    assert type_token_ratio(sample(rows), window=200)[0].low is None


# Zipf


@settings(max_examples=30)
@given(st.lists(st.integers(1, 200), min_size=2, max_size=60).filter(lambda counts: max(counts) > min(counts)))
def test_zipf_exponent_has_the_largest_likelihood_of_scipys_zipfian(counts: list[int]) -> None:
    words = np.repeat(np.arange(len(counts)), counts)
    ranks = np.repeat(np.arange(1, len(counts) + 1), sorted(counts, reverse=True))

    def cost(exponent: float) -> float:
        return -float(stats.zipfian.logpmf(ranks, exponent, len(counts)).sum())

    best = optimize.minimize_scalar(cost, bounds=(0, 12), method="bounded", options={"xatol": 1e-9})
    found = value(zipf(sample([words.tolist()])))
    assert found == pytest.approx(best.x, abs=1e-4)
    assert cost(found) <= best.fun + 1e-9 * abs(best.fun)


def test_zipf_exponent_of_two_types_and_of_equal_ones() -> None:
    assert value(zipf(sample([[0] * 6 + [1] * 2]))) == pytest.approx(math.log2(3))
    assert value(zipf(sample([[3, 4, 5, 6]] * 10))) == 0


def test_zipf_exponent_does_not_change_with_duplicates_or_order() -> None:
    rows = topical(np.random.default_rng(0), 50)
    once = value(zipf(sample(rows)))
    assert value(zipf(sample(rows + rows))) == pytest.approx(once)
    assert value(zipf(sample(rows[::-1]))) == pytest.approx(once)


def test_zipf_exponent_finds_the_one_it_was_drawn_from() -> None:
    law = stats.zipfian.pmf(np.arange(1, 51), 1.3, 50)
    words = np.random.default_rng(0).choice(50, 200_000, p=law / law.sum())
    assert value(zipf(sample([words.tolist()]))) == pytest.approx(1.3, abs=0.01)


# Heaps


def test_heaps_exponent_is_1_where_every_word_is_new_and_0_where_none_is() -> None:
    assert value(heaps(sample([list(range(3000))]))) == pytest.approx(1)
    assert value(heaps(sample([[0] * 3000]))) == pytest.approx(0)


def slope(blocks: list[list[int]]) -> float:
    """The exponent by the book: every block in turn is what the text begins with."""
    turns = [[word for block in blocks[i:] + blocks[:i] for word in block] for i in range(len(blocks))]
    words = len(turns[0])
    sizes = sorted({int(size) for size in np.geomspace(max(100, words // 100), words, 30)})
    types = [np.mean([len(set(turn[:size])) for turn in turns]) for size in sizes]
    return float(stats.linregress(np.log(sizes), np.log(types)).slope)


@pytest.mark.parametrize("documents", [103, 500])
def test_heaps_exponent_is_the_slope_of_scipys_regression(documents: int) -> None:
    written = sample(topical(np.random.default_rng(0), documents, 31))
    blocks = [written.words[written.row_block[written.row] == block].tolist() for block in range(BLOCKS)]
    reading = heaps(written)[0]
    assert reading.value == pytest.approx(slope(blocks))
    without = np.array([slope(blocks[:i] + blocks[i + 1 :]) for i in range(BLOCKS)])
    assert (reading.low, reading.high) == pytest.approx(jackknife(slope(blocks), without))


# invented words


def test_invented_words_are_those_that_human_text_lacks() -> None:
    human = reference([[0, 1, 2]])
    assert values(invented_words(sample([[0, 1, 3], [3, 4]]), human)) == {
        "invented_types": pytest.approx(1 / 2),
        "invented_words": pytest.approx(3 / 5),
    }
    assert set(values(invented_words(sample([[2, 0], [1]]), human)).values()) == {0.0}
