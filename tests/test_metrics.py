"""What holds for every measure: it is pure, its options are described, and it bears whatever text there is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lmcollapse.catalog import CATALOG, find
from lmcollapse.metrics.distinct_n import distinct_n
from lmcollapse.metrics.drift import Lineage, drift
from lmcollapse.metrics.intervals import block_means, bootstrap_ratio, jackknife
from lmcollapse.metrics.sample import BLOCKS
from lmcollapse.metrics.scene import Detected, Heldout, HumanText, Judged, Scene, Trained, parts
from lmcollapse.options import describe, options_of
from lmcollapse.types import HUMAN, Corpus, Reading, Scores, TokenScores, UserError
from tests.text import documents


def values(readings: list[Reading]) -> dict[str, float | None]:
    return {reading.name: reading.value for reading in readings}


def scene(human: Sequence[str], written: Sequence[str], words: int = 10**9, heldout: Sequence[str] = ("a",)) -> Scene:
    """A scene with every part in it; the model's scores are made up."""
    rng = np.random.default_rng(0)
    text = HumanText.of(human, heldout)
    rows = Corpus.of_tokens([rng.integers(0, 50, 20) for _ in range(30)], HUMAN, texts=documents(30))
    nats = rng.exponential(size=len(rows.values)).astype(np.float32)
    by_token = TokenScores(nats, rng.random(len(nats)).astype(np.float32), rng.random(len(nats)) < 0.3)
    scores = Scores(np.add.reduceat(nats.astype(float), rows.offsets[:-1]), rows.lengths, by_token)  # type: ignore[index]
    words = min(words, len(text.written(written, words).words))
    sample = text.written(written, max(words, 1)).first(words)
    return Scene(
        written=sample,
        human=text.reference(words),
        training=lambda: text.numbering.rows(human),
        drift=drift(text.counts, [Lineage({HUMAN: text.train_words}, text.train_words)], words),
        heldout=Heldout(rows, scores, np.arange(50)),
        judges={"generation_0": Judged(scores, scores)},
        trained=Trained(rows=40, human_rows=10, tokens=900, human_tokens=300),
        detected=Detected(np.linspace(0, 1, 40), np.arange(40) % 3 > 0, 0.5),
    )


# what a measure looks at


def test_a_measure_is_given_the_parts_that_it_names() -> None:
    def one(written: Any, human: Any = None, *, option: int = 1) -> list[Reading]:
        return [Reading("one", len(written.words) + option + (0 if human is None else human.types))]

    whole = scene(["a b", "c"], ["a b c d"])
    assert parts(one) == {"written": True, "human": False}
    assert values(whole.read(one, {"option": 2})) == {"one": 4 + 2 + 3}
    assert values(Scene(written=whole.written).read(one, {})) == {"one": 4 + 1}
    assert Scene(human=whole.human).read(one, {}) == []


def test_a_measure_that_looks_at_nothing_known_is_refused() -> None:
    def wrong(text: str) -> list[Reading]:
        return []

    def empty(*, option: int = 1) -> list[Reading]:
        return []

    for measure, said in ((wrong, "looks at 'text', which no scene has"), (empty, "looks at nothing")):
        with pytest.raises(UserError, match=said):
            parts(measure)


def test_too_few_words_are_no_number() -> None:
    text = HumanText.of(documents(20), documents(5, seed=1))
    short = Scene(written=text.written(["a b", "c"], 4), human=text.reference(4))
    for name in ("distinct_n", "tail_coverage"):
        for reading in short.read(find("measure", name), {}):
            assert reading.value is None and reading.low is None
            assert reading.note == "the corpus has 3 words, 4 are needed"


def test_human_text_is_counted_whole_and_sampled() -> None:
    text = HumanText.of(["a b a", "c a"], ["a d e"], most=2)
    word = {number: word for word, number in text.numbering.numbers.items()}
    assert {word[i]: count for i, count in enumerate(text.counts.tolist())} == {"a": 3, "b": 1, "c": 1}
    assert text.train_words == 5 and text.heldout_words == 3
    assert len(text.train.words) == len(text.heldout.words) == 2
    written = text.written(["e f a"], 3)
    assert [word.get(n, "new") for n in written.words.tolist()] == ["e", "new", "a"]
    assert [n >= text.reference(2).types for n in written.words.tolist()] == [True, True, False]


# intervals


def test_the_jackknife_of_a_mean_is_its_textbook_interval() -> None:
    x = np.random.default_rng(0).normal(size=BLOCKS)
    low, high = jackknife(x.mean(), (x.sum() - x) / (BLOCKS - 1))
    half = 2.093024 * x.std(ddof=1) / np.sqrt(BLOCKS)  # t of 19 degrees of freedom
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), rel=1e-6)
    assert block_means(x) == pytest.approx((low, high))


def test_there_is_no_interval_from_a_few_blocks() -> None:
    used = np.array([1, 1, 1, 1] + [0] * 16)
    assert jackknife(0.5, np.full(20, 0.5), used) == (None, None)
    assert block_means(np.ones(4)) == bootstrap_ratio(np.ones(4), np.ones(4)) == (None, None)


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        tokens = rng.integers(5, 50, 60)
        nats = tokens * rng.gamma(9, 1 / 3, 60)  # 3 nats a token, documents differ
        low, high = bootstrap_ratio(nats, tokens.astype(float))
        assert low is not None and high is not None
        covered += low < 3 < high
    assert 0.9 * 200 <= covered <= 0.99 * 200


# distinct-n


def test_distinct_n_closed_forms() -> None:
    human = [" ".join(f"w{i}" for i in range(80))]
    found = values(scene(human, ["a " * 10, "a " * 10]).read(distinct_n, {}))  # 20 words, 2 * (10 - n + 1) n-grams
    assert found == {
        **{"distinct_1": 1 / 20, "distinct_2": 1 / 18, "distinct_3": 1 / 16, "distinct_4": 1 / 14},
        **dict.fromkeys(("distinct_1_human", "distinct_2_human", "distinct_3_human", "distinct_4_human"), 0.0),
    }
    assert set(values(scene(human, human).read(distinct_n, {})).values()) == {1.0}
    found = values(scene(["a b c"], ["a b", "b x"]).read(distinct_n, {"orders": (2, 3)}))
    assert found == {"distinct_2": 1.0, "distinct_2_human": 0.5, "distinct_3": None, "distinct_3_human": None}


def test_an_interval_of_distinct_n_covers_its_expectation_where_a_bootstrap_would_not() -> None:
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"w{i}" for i in range(3000)])
    p = 1 / np.arange(10, 3010)

    def corpus() -> list[str]:  # documents with a topic each: their words are not independent
        topics = rng.choice(3000, (150, 8), p=p / p.sum())
        return [" ".join(vocabulary[rng.choice(topic, 20)]) for topic in topics]

    found = [scene(["a"], corpus(), 2800).read(distinct_n, {"orders": (2,)})[0] for _ in range(150)]
    truth = np.mean([reading.value for reading in found if reading.value is not None])
    covered = np.mean([reading.low < truth < reading.high for reading in found])  # type: ignore[operator]
    assert 0.9 <= covered <= 0.995


def test_invented_words_do_not_count_as_human_ones() -> None:
    human = documents(200)
    invented = [" ".join(f"{word}{i}q" for word in text.split()) for i, text in enumerate(documents(100, seed=1))]
    found = values(scene(human, invented).read(distinct_n, {}))
    assert found["distinct_2"] is not None and found["distinct_2"] > 0.9
    assert found["distinct_2_human"] == 0


# all of them


@pytest.fixture(scope="module")
def usual() -> Scene:
    return scene(documents(300), documents(400, seed=1), heldout=documents(5, seed=2))


@pytest.mark.parametrize("name", CATALOG["measure"])
def test_every_measure_is_pure_and_its_options_are_described(name: str, usual: Scene) -> None:
    measure = find("measure", name)
    readings = usual.read(measure, options_of(measure)().model_dump())
    assert readings and readings == usual.read(measure, {})
    assert all(reading.value is not None and not reading.note for reading in readings)
    for reading in readings:
        if reading.low is not None and reading.high is not None and reading.value is not None:
            assert reading.low <= reading.value <= reading.high
    assert all(description for *_, description in describe(options_of(measure)))
    json.dumps([reading.value for reading in readings], allow_nan=False)


def test_no_two_measures_have_a_reading_of_one_name(usual: Scene) -> None:
    names = [reading.name for name in CATALOG["measure"] for reading in usual.read(find("measure", name), {})]
    assert len(names) == len(set(names))


STRANGE = {
    "nothing": [],
    "blank": ["", " \n", "\t"],
    "one word": ["word"],
    "one word again and again": ["word " * 50] * 30,
    "a long line": ["a b c " * 170_000],
    "emoji": ["👍 ❤️ 🇩🇪"] * 10,
    "right to left": ["שלום עולם، مرحبا بالعالم"] * 100,
    "no known word": [f"qq{i} zz{i}" for i in range(300)],
}


@pytest.mark.parametrize("text", STRANGE)
@pytest.mark.parametrize("name", CATALOG["measure"])
def test_every_measure_bears_any_text(name: str, text: str) -> None:
    measure = find("measure", name)
    readings = scene(documents(80), STRANGE[text]).read(measure, {})
    assert readings
    for reading in readings:
        assert (reading.value is None) == bool(reading.note), reading
        json.dumps([reading.value, reading.low, reading.high], allow_nan=False)
