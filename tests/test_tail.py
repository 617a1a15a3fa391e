"""Measures of the vocabulary tail and the neutral drift beside them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats
from scipy.spatial import distance

from lmcollapse.metrics.divergence import divergence
from lmcollapse.metrics.drift import Drift, Lineage, drift
from lmcollapse.metrics.missing_mass import missing_mass
from lmcollapse.metrics.sample import Sample
from lmcollapse.metrics.scene import Reference
from lmcollapse.metrics.survival import survival
from lmcollapse.metrics.tail_coverage import tail_coverage
from lmcollapse.metrics.tail_mass import tail_mass
from lmcollapse.options import options_of
from lmcollapse.types import HUMAN, Ints, Reading, UserError
from tests.test_counts import LITTLE, NOTHING, Rows, covers, holds_its_jackknife, reference, sample, topical, values

OF_HUMAN = (tail_coverage, tail_mass, survival, divergence)
rows_of_words = st.lists(st.lists(st.integers(0, 12), max_size=12), max_size=20)


def readings(written: Sample, human: Reference, chains: Drift | None = None) -> list[Reading]:
    found = [reading for measure in OF_HUMAN for reading in measure(written, human, chains)]
    return found + missing_mass(written, chains)


# values

HUMAN_ROWS = [[0] * 70, [1] * 20, [2] * 6, [3] * 3, [4, 5]]


def test_closed_forms() -> None:
    human = reference(HUMAN_ROWS)
    written = sample([[0, 0, 0, 1, 1], [3, 4, 9, 9, 8]])
    assert values(tail_coverage(written, human)) == {"tail_coverage": pytest.approx(2 / 3)}
    assert values(tail_coverage(written, human, rare_count=6)) == {"tail_coverage": pytest.approx(2 / 4)}
    assert values(tail_mass(written, human)) == {"tail_mass": pytest.approx(2 / 10)}
    assert values(missing_mass(written)) == {"missing_mass": pytest.approx(3 / 10)}
    assert values(survival(written, human)) == {
        "survival_1": pytest.approx(1 / 2),
        "survival_2_4": 1.0,
        "survival_5_16": 0.0,
        "survival_17_64": 1.0,
        "survival_65_up": 1.0,
    }
    assert values(survival(written, human, bounds=(2, 7))) == {
        "survival_2_6": pytest.approx(1 / 2),
        "survival_7_up": 1.0,
    }


@given(rows_of_words, rows_of_words)
def test_brute_force(human_rows: Rows, rows: Rows) -> None:
    people = [word for row in human_rows for word in row]
    types = max(people, default=-1) + 1
    words = [word for row in rows for word in row]
    human = reference(human_rows)
    found = values(readings(sample(rows), human))
    rare = {word for word in people if people.count(word) <= 4}
    covered = [word in words for word in rare]
    inside = [word in rare for word in words]
    assert found["tail_coverage"] == (pytest.approx(np.mean(covered)) if rare and words else None)
    assert found["tail_mass"] == (pytest.approx(np.mean(inside)) if rare and words else None)
    once = sum(words.count(word) == 1 for word in words)
    assert found["missing_mass"] == (pytest.approx(once / len(words)) if words else None)
    if not people or not words:
        assert found["unigram_js"] is found["unigram_kl"] is None
        return
    classes = [[text.count(word) for word in range(types)] for text in (people, words)]
    p, q = (np.array([*counts, len(text) - sum(counts)]) for counts, text in zip(classes, (people, words), strict=True))
    assert found["unigram_kl"] == pytest.approx(stats.entropy(p + 0.5, q + 0.5, base=2), abs=1e-9)
    assert found["unigram_js"] == pytest.approx(distance.jensenshannon(p, q, base=2) ** 2, abs=1e-9)


def test_a_corpus_that_is_the_human_text_has_the_ideal_values() -> None:
    rows = topical(np.random.default_rng(0), 100)
    human = reference(rows)
    found = values(readings(sample(rows), human))
    ideal = {"tail_coverage": 1.0, "unigram_kl": 0.0, "unigram_js": 0.0}
    ideal |= {name: 1.0 for name in found if name.startswith("survival") and found[name] is not None}
    assert {name: found[name] for name in ideal} == pytest.approx(ideal)
    again = values(readings(sample(rows[::-1]), human))
    assert again == pytest.approx(found), "the order of documents does not matter"
    twice = values(readings(sample(rows + rows), human))
    assert {name: twice[name] for name in ideal if name != "unigram_kl"} == pytest.approx(
        {name: ideal[name] for name in ideal if name != "unigram_kl"}
    )
    assert twice["tail_mass"] == pytest.approx(found["tail_mass"])


def test_divergence_of_texts_of_one_source_is_what_the_docstring_says() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(100):
        people, words = rng.integers(0, 50, 8000), rng.integers(0, 50, 4000)
        human = Reference(np.bincount(people, minlength=50), sample([]))
        found.append(values(divergence(sample([words.tolist()]), human))["unigram_js"] or 0.0)
    assert np.mean(found) == pytest.approx(49 / (8 * math.log(2)) * (1 / 8000 + 1 / 4000), rel=0.1)


def test_bounds_of_bands_ascend() -> None:
    written, human = sample([[0]]), reference([[0]])
    for wrong in [(), (2, 2), (5, 2), (0, 3)]:
        with pytest.raises(UserError, match="bounds"):
            survival(written, human, bounds=wrong)
    with pytest.raises(ValidationError, match="each larger than the one before"):
        options_of(survival)(bounds=(5, 2))  # type: ignore[call-arg]


# intervals


def test_intervals_are_those_of_leaving_out_each_block() -> None:
    rng = np.random.default_rng(0)
    human = reference([*topical(rng, 60), [19_999]])
    written = sample(topical(rng, 137, 31))
    for measure in (tail_coverage, tail_mass, divergence, partial(survival, bounds=(1, 5))):
        holds_its_jackknife(lambda part, measure=measure: measure(part, human), written)  # type: ignore[misc]
    holds_its_jackknife(missing_mass, written)


PEOPLE = reference([*topical(np.random.default_rng(7), 400), [19_999]])


@pytest.mark.parametrize(
    ("measure", "name"),
    [
        (partial(tail_coverage, human=PEOPLE), "tail_coverage"),
        (partial(tail_mass, human=PEOPLE), "tail_mass"),
        (partial(survival, human=PEOPLE, bounds=(1, 10)), "survival_1_9"),
        (partial(divergence, human=PEOPLE), "unigram_kl"),
        (partial(divergence, human=PEOPLE), "unigram_js"),
    ],
)
def test_intervals_cover(measure: Callable[[Sample], list[Reading]], name: str) -> None:
    assert 0.90 <= covers(measure, name) <= 0.99


def test_interval_of_missing_mass_covers_the_probability_of_an_unseen_word() -> None:
    rng = np.random.default_rng(0)
    law = 1 / np.arange(1, 3001) / np.sum(1 / np.arange(1, 3001))
    hits = []
    for _ in range(300):
        words = rng.choice(3000, (100, 40), p=law)
        unseen = 1 - law[np.unique(words)].sum()
        reading = missing_mass(sample(words.tolist()))[0]
        hits.append(reading.low is not None and reading.high is not None and reading.low <= unseen <= reading.high)
    assert 0.90 <= np.mean(hits) <= 0.99


# edge cases


@pytest.mark.parametrize("rows", [*NOTHING, *LITTLE])
@pytest.mark.parametrize("human_rows", [[], [[0]], [[0] * 10, [1] * 10], HUMAN_ROWS])
@pytest.mark.parametrize("drifted", [False, True])
def test_values_are_finite_or_none_with_the_reason(rows: Rows, human_rows: Rows, drifted: bool) -> None:
    human, written = reference(human_rows), sample(rows)
    words = int(human.counts.sum())
    chains = drift(human.counts, [Lineage({HUMAN: words}, words)], len(written.words)) if drifted else None
    found = readings(written, human, chains)
    names = [reading.name for reading in found]
    assert len(set(names)) == len(names) == (30 if drifted else 10)
    for reading in found:
        assert (reading.value is None) == bool(reading.note), reading
        for number in (reading.value, reading.low, reading.high):
            assert number is None or math.isfinite(number), reading
        if rows in NOTHING:
            assert reading.value is None, reading


def test_without_a_rare_type_there_is_no_tail() -> None:
    human = reference([[0] * 10])
    for reading in [*tail_coverage(sample([[0]]), human), *tail_mass(sample([[0]]), human)]:
        assert reading.value is None and reading.note == "no word occurs at most 4 times in the human training part"


# beside drift


def test_excess_is_the_value_less_the_mean_of_the_chains() -> None:
    rng = np.random.default_rng(0)
    human = reference([*topical(rng, 100), [19_999]])
    written = sample(topical(rng, 50))
    chains = drift(human.counts, [Lineage({HUMAN: 4000}, 4000)], 2000)
    found = {reading.name: reading for reading in readings(written, human, chains)}
    for name in ("tail_coverage", "tail_mass", "survival_1", "unigram_kl", "unigram_js", "missing_mass"):
        value, mean, excess = found[name], found[f"{name}_drift"], found[f"{name}_excess"]
        assert value.value is not None and mean.value is not None and excess.value is not None
        assert mean.low is not None and mean.high is not None and mean.low < mean.value < mean.high
        assert excess.value == pytest.approx(value.value - mean.value)
        assert value.low is not None and excess.low is not None and excess.high is not None
        assert excess.value - excess.low == pytest.approx(excess.high - excess.value)
        assert excess.value - excess.low > value.value - value.low
    rare = (human.counts >= 1) & (human.counts <= 4)
    assert found["tail_coverage_drift"].value == pytest.approx(np.mean(chains.counts[:, rare] > 0))
    assert found["tail_mass_drift"].value == pytest.approx(chains.counts[:, rare].sum() / chains.counts.sum())
    assert found["missing_mass_drift"].value == pytest.approx((chains.counts == 1).sum() / chains.counts.sum())


def test_a_perfect_resampler_is_in_no_excess() -> None:
    """About 95 % of runs of ideal models, or more, have an excess that does not exclude zero."""
    human = reference(topical(np.random.default_rng(0), 75))
    lineage = [Lineage({HUMAN: 3000}, 3000), Lineage({0: 3000}, 3000), Lineage({1: 3000}, 3000)]
    chains = drift(human.counts, lineage, 1500)
    runs = drift(human.counts, lineage, 1500, chains=220).counts[20:]  # other chains than those
    rng = np.random.default_rng(0)
    zero: dict[str, list[bool]] = {}
    for counts in runs:
        words = rng.permutation(np.repeat(np.arange(len(counts)), counts))
        written = sample(words.reshape(100, 15).tolist())
        for reading in [*tail_coverage(written, human, chains), *tail_mass(written, human, chains)]:
            if reading.name.endswith("_excess") and reading.low is not None and reading.high is not None:
                zero.setdefault(reading.name, []).append(reading.low <= 0 <= reading.high)
    for name in ("tail_coverage_excess", "tail_mass_excess"):
        assert np.mean(zero[name]) >= 0.93, name


# drift

ZIPF = np.maximum(1, 600 // np.arange(1, 401)).astype(np.int64)
WORDS = int(ZIPF.sum())


def ideal(lineage: list[Lineage], words: int, rng: np.random.Generator) -> Ints:
    """What an ideal resampler writes, word by word: texts are arrays of words, nothing is counted before the end."""
    texts = {HUMAN: np.repeat(np.arange(len(ZIPF)), ZIPF)}
    for generation, sizes in enumerate(lineage):
        trained = []
        for origin, size in sizes.trained.items():
            text = texts[origin]
            trained += [text] * (size // len(text)) + [rng.choice(text, size % len(text), replace=False)]
        texts[generation] = rng.choice(np.concatenate(trained), sizes.wrote)
    return np.bincount(rng.choice(texts[len(lineage) - 1], words, replace=False), minlength=len(ZIPF))


def statistics(counts: Ints) -> list[Ints]:
    """Of each chain: types, rare types, types that occur once, words of rare types, repetitions."""
    rare = counts[:, ZIPF <= 4]
    return [np.sum(of, axis=1) for of in (counts > 0, rare > 0, counts == 1, rare, counts**2)]


POLICIES = {
    "replace": [Lineage({HUMAN: WORDS}, WORDS)] + [Lineage({g: WORDS}, WORDS) for g in range(3)],
    "accumulate": [Lineage({HUMAN: WORDS, **dict.fromkeys(range(n), WORDS)}, WORDS) for n in range(4)],
    "mix": [Lineage({HUMAN: WORDS}, WORDS)]
    + [Lineage({HUMAN: WORDS // 3, g: WORDS - WORDS // 3}, WORDS) for g in range(3)],
    "mix of too few rows": [Lineage({HUMAN: WORDS}, WORDS // 2)]
    + [Lineage({HUMAN: WORDS // 5, g: WORDS - WORDS // 5}, WORDS // 2) for g in range(3)],
}


@pytest.mark.parametrize("policy", POLICIES)
def test_drift_is_that_of_an_ideal_resampler(policy: str) -> None:
    lineage, chains, words = POLICIES[policy], 400, WORDS // 3
    rng = np.random.default_rng(1)
    ours = drift(ZIPF, lineage, words, chains).counts
    theirs = np.array([ideal(lineage, words, rng) for _ in range(chains)])
    assert (ours.sum(axis=1) == words).all()
    for a, b in zip(statistics(ours), statistics(theirs), strict=True):
        error = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / chains)
        assert abs(a.mean() - b.mean()) < 3.5 * error, (a.mean(), b.mean(), error)
        assert 0.7 < a.std() / b.std() < 1.4, "the spread of the chains is that of runs"


@pytest.mark.parametrize("policy", POLICIES)
def test_drift_keeps_every_share_on_average(policy: str) -> None:
    counts = drift(ZIPF, POLICIES[policy], 500, 2000).counts
    for types in (np.arange(5), np.arange(5, 50), np.flatnonzero(ZIPF == 1)):
        shares = counts[:, types].sum(axis=1) / 500
        error = shares.std(ddof=1) / math.sqrt(len(shares))
        assert abs(shares.mean() - ZIPF[types].sum() / WORDS) < 3.5 * error


def test_drift_under_replace_has_its_closed_form() -> None:
    types, each = 4000, np.repeat([1, 2, 5, 10], 1000)
    words, g = int(each.sum()), 1.0
    for generation in range(8):
        lineage = [Lineage({HUMAN: words}, words)] + [Lineage({k: words}, words) for k in range(generation)]
        found = drift(each, lineage, words, 20).counts > 0
        assert found.shape == (20, types)
        for count in (1, 2, 5, 10):
            expected = 1 - math.exp(-count * g)  # after generation + 1 resamplings
            alive = found[:, each == count].mean(axis=1)
            assert abs(alive.mean() - expected) < 4 * alive.std(ddof=1) / math.sqrt(20) + 1e-3, (generation, count)
        g = 1 - math.exp(-g)


def test_a_share_is_drawn_without_replacement() -> None:
    """A generation that trains on a share of human text, and writes so much that nothing of it is lost."""
    counts, half = np.array([1, 2, 3, 4]), 5
    seen = drift(counts, [Lineage({HUMAN: half}, 1)], 20_000, 3000).counts
    subsets = np.rint(seen / 20_000 * half).astype(np.int64)
    assert (subsets.sum(axis=1) == half).all() and (subsets <= counts).all()
    law = stats.multivariate_hypergeom(counts, half)
    kinds, times = np.unique(subsets, axis=0, return_counts=True)
    expected = law.pmf(kinds) * len(subsets)
    assert expected.sum() == pytest.approx(len(subsets)), "all subsets are seen"
    assert stats.chisquare(times, expected).pvalue > 1e-3


def test_rows_that_are_taken_again_are_taken_evenly() -> None:
    counts = np.array([1, 2, 3, 4])
    seen = drift(counts, [Lineage({HUMAN: 25}, 1)], 100_000, 50).counts
    taken = np.rint(seen / 100_000 * 25).astype(np.int64)
    assert (taken.sum(axis=1) == 25).all()
    assert (taken >= 2 * counts).all() and (taken <= 3 * counts).all()


def test_types_that_are_gone_stay_gone_and_a_chain_has_one_history() -> None:
    lineage = POLICIES["replace"]
    early, late = (drift(ZIPF, lineage[:n], 2_000_000, 10).counts for n in (2, 4))
    assert (late > 0).sum() < (early > 0).sum()
    assert not (late[early == 0] > 0).any()


def test_drift_of_a_text_of_billions_of_words() -> None:
    counts = np.array([3 * 10**9, 10**9, 1])
    words = int(counts.sum())
    found = drift(counts, [Lineage({HUMAN: words // 4}, words), Lineage({0: words}, words)], 1000).counts
    assert (found.sum(axis=1) == 1000).all()
    assert found[:, 0].mean() == pytest.approx(750, abs=20)


def test_drift_of_nothing() -> None:
    assert drift(np.zeros(0, np.int64), [Lineage({HUMAN: 0}, 0)], 10, 3).counts.shape == (3, 0)
    gone = drift(np.array([4, 1]), [Lineage({HUMAN: 5}, 0), Lineage({0: 0}, 0)], 10, 3).counts
    assert gone.tolist() == [[0, 0]] * 3
