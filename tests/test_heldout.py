"""The measures of a model: on held-out text, and of what was written under a judge."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lmcollapse.metrics.accuracy import accuracy
from lmcollapse.metrics.calibration import calibration
from lmcollapse.metrics.cross_entropy_bands import bands, cross_entropy_bands
from lmcollapse.metrics.perplexity import perplexity
from lmcollapse.metrics.scene import Heldout, Judged
from lmcollapse.metrics.sequence_perplexity import flat_name, sequence_perplexity
from lmcollapse.types import HUMAN, Corpus, Reading, Scores, TokenScores


def scores(*rows: tuple[float, int]) -> Scores:
    return Scores(np.array([nats for nats, _ in rows], np.float64), np.array([n for _, n in rows], np.int64))


def heldout(of: Scores, texts: list[str] | None = None) -> Heldout:
    rows = [[0] * n for n in of.tokens.tolist()]
    return Heldout(Corpus.of_tokens(rows, HUMAN, texts=texts or ["x"] * len(rows)), of)


def predicted(
    rng: np.random.Generator, documents: int = 60, tokens: int = 30, right: float = 0.0, vocabulary: int = 20
) -> Heldout:
    """Random predictions; the top token is right as often as it is confident, plus `right`."""
    lengths = rng.integers(1, tokens, documents)
    size = int(lengths.sum())
    confidence = rng.uniform(0.2, 0.8, size).astype(np.float32)
    correct = rng.random(size) < confidence + right
    nats = rng.exponential(2, size).astype(np.float32)
    ids = rng.integers(0, vocabulary, size)
    ends = np.cumsum(lengths)
    rows = Corpus.of_tokens(np.split(ids, ends[:-1]), HUMAN, texts=["x"] * documents)
    sums = np.add.reduceat(nats.astype(float), ends - lengths)
    every = Scores(sums, lengths, TokenScores(nats, confidence, correct))
    return Heldout(rows, every, np.arange(vocabulary)[::-1] ** 2)


def values(readings: list[Reading]) -> dict[str, float | None]:
    return {reading.name: reading.value for reading in readings}


# perplexity


def test_perplexity_bits_per_byte_and_word_perplexity() -> None:
    texts = ["naïve  idea\n", "of"]  # 13 + 2 bytes; 3 + 1 words, as lm-evaluation-harness counts them
    found = values(perplexity(heldout(scores((10.0, 3), (2.0, 1)), texts)))
    assert found == {
        "perplexity": math.exp(3),
        "bits_per_byte": 12 / math.log(2) / 15,
        "word_perplexity": math.exp(12 / 4),
    }
    uniform = scores(*[(n * math.log(50), n) for n in (1, 2, 30)])
    assert values(perplexity(heldout(uniform)))["perplexity"] == pytest.approx(50)


def test_word_perplexity_is_that_of_lm_evaluation_harness() -> None:
    metrics = pytest.importorskip("lm_eval.api.metrics", reason="the test extra brings lm-eval")
    wikitext = pytest.importorskip("lm_eval.tasks.wikitext.preprocess_wikitext", reason="lm-eval has no wikitext task")
    texts = [" = A Title = \n \n Some words , of a page . \n", "one", "two words"]
    nats = [30.0, 4.0, 9.0]
    results = [wikitext.process_results({"page": text}, (-n,)) for text, n in zip(texts, nats, strict=True)]
    expected = metrics.weighted_perplexity([result["word_perplexity"] for result in results])
    found = perplexity(heldout(scores(*[(n, 5) for n in nats]), texts))
    assert values(found)["word_perplexity"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given_scores", "missing", "note"),
    [
        (scores((720.0, 1)), {"perplexity", "word_perplexity"}, "beyond double precision"),
        (scores((math.inf, 1)), {"perplexity", "bits_per_byte", "word_perplexity"}, "inf"),
        (scores((math.nan, 1)), {"perplexity", "bits_per_byte", "word_perplexity"}, "nan"),
        (scores((0.0, 0)), {"perplexity"}, "no tokens"),
    ],
)
def test_a_perplexity_that_is_no_number(given_scores: Scores, missing: set[str], note: str) -> None:
    readings = perplexity(heldout(given_scores))
    assert {reading.name for reading in readings if reading.value is None} == missing
    assert all(note in reading.note for reading in readings if reading.value is None)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = {"perplexity": 0, "next_token_accuracy": 0, "cross_entropy_body": 0}
    truth = {"perplexity": math.exp(2), "next_token_accuracy": 0.5, "cross_entropy_body": 2.0}
    for _ in range(200):
        part = predicted(rng)
        for reading in [*perplexity(part), *accuracy(part), *cross_entropy_bands(part)]:
            if reading.name in truth:
                assert reading.low is not None and reading.high is not None
                covered[reading.name] += reading.low < truth[reading.name] < reading.high
    assert all(0.89 * 200 <= count <= 0.99 * 200 for count in covered.values()), covered


# accuracy and calibration


def test_accuracy_counts_tokens_and_not_documents() -> None:
    every = TokenScores(np.zeros(4, np.float32), np.ones(4, np.float32), np.array([True, True, True, False]))
    part = Heldout(Corpus.of_tokens([[1, 2, 3], [4]], HUMAN), Scores(np.zeros(2), np.array([3, 1]), every))
    assert values(accuracy(part)) == {"next_token_accuracy": 0.75}


def slow_calibration(confidence: list[float], correct: list[bool], bins: int) -> float:
    error = 0.0
    for b in range(bins):
        inside = [i for i, c in enumerate(confidence) if b / bins < c <= (b + 1) / bins]
        if inside:
            right = sum(correct[i] for i in inside) / len(inside)
            sure = sum(confidence[i] for i in inside) / len(inside)
            error += len(inside) / len(confidence) * abs(right - sure)
    return error


@pytest.mark.parametrize("bins", [1, 2, 15, 100])
def test_calibration_against_brute_force(bins: int) -> None:
    part = predicted(np.random.default_rng(bins))
    assert part.scores.by_token is not None
    confidence, correct = part.scores.by_token.confidence.tolist(), part.scores.by_token.correct.tolist()
    found = calibration(part, bins=bins)[0].value
    assert found == pytest.approx(slow_calibration(confidence, correct, bins))


def test_a_model_that_is_too_sure_is_badly_calibrated() -> None:
    rng = np.random.default_rng(0)
    good = calibration(predicted(rng, 400))[0].value
    bad = calibration(predicted(rng, 400, right=-0.2))[0]
    assert good is not None and bad.value is not None and bad.low is not None and bad.high is not None
    assert good < 0.05 and bad.value == pytest.approx(0.2, abs=0.03)
    assert bad.low < 0.2 < bad.high


# frequency bands


def test_bands_are_shares_of_the_training_tokens() -> None:
    counts = np.array([0, 10, 50, 5, 30, 5])  # in order: 2 (50), 4 (30), 1 (10), 3, 5, 0
    assert bands(counts, 0.5, 0.1).tolist() == [2, 1, 0, 2, 1, 2]
    assert bands(counts, 0.51, 0.05).tolist() == [2, 1, 0, 1, 0, 2]


def test_cross_entropy_by_band_adds_up_to_the_whole() -> None:
    part = predicted(np.random.default_rng(3))
    assert part.scores.by_token is not None and part.train_counts is not None
    found = values(cross_entropy_bands(part))
    band = bands(part.train_counts, 0.5, 0.1)[part.rows.values]
    nats = part.scores.by_token.nats.astype(float)
    assert found == pytest.approx(
        {f"cross_entropy_{name}": nats[band == i].mean() for i, name in enumerate(("head", "body", "tail"))}
    )


def test_tokens_that_the_training_part_lacks_are_of_the_tail() -> None:
    part = predicted(np.random.default_rng(3), vocabulary=30)
    known = Heldout(part.rows, part.scores, np.array([5, 5]))
    tail = values(cross_entropy_bands(known, tail=0.01))["cross_entropy_tail"]
    assert part.scores.by_token is not None
    assert tail == pytest.approx(part.scores.by_token.nats[part.rows.values > 1].astype(float).mean())
    none = Heldout(part.rows, part.scores, None)
    assert all(reading.value is None and reading.note for reading in cross_entropy_bands(none))


# judges


def test_sequence_perplexity_quantiles() -> None:
    rows = scores((0.0, 0), *[(n * k * 0.01, n) for n, k in zip([1, 7] * 50 + [3], range(101), strict=True)])
    found = values(sequence_perplexity({"generation_0": Judged(rows, rows)}))
    expected = {"q01": 0.01, "q05": 0.05, "median": 0.5, "q95": 0.95, "q99": 0.99}
    for name, nats in expected.items():
        assert math.log(found[f"sequence_perplexity_{name}"] or 0) == pytest.approx(nats)
    assert found["sequence_perplexity_below"] == found["sequence_perplexity_above"] == 1 / 101


def test_both_tails_are_seen_from_generation_0() -> None:
    rng = np.random.default_rng(0)
    nats, later = rng.normal(3, 0.5, 5000), rng.normal(3, 0.9, 5000)
    first, now = (scores(*[(float(n), 1) for n in of]) for of in (nats, later))
    found = {
        r.name: r
        for r in sequence_perplexity({"generation_0": Judged(now, first), "some/Judge-2": Judged(first, first)})
    }
    for side in ("below", "above"):
        share = found[f"sequence_perplexity_{side}"]
        assert share.value is not None and share.low is not None and share.high is not None
        assert share.low < 0.0981 < share.high  # of a normal distribution 1.8 times as wide, beyond 2.326
        assert found[f"sequence_perplexity_judge_2_{side}"].value == 0.01
    median = found["sequence_perplexity_median"]
    assert median.low is not None and median.high is not None
    assert median.low < math.exp(3) < median.high and median.high / median.low < 1.2


def test_no_sequence_has_no_perplexity() -> None:
    nothing = scores((0.0, 0))
    assert set(values(sequence_perplexity({"generation_0": Judged(nothing, nothing)})).values()) == {None}


def test_a_judge_has_a_flat_name() -> None:
    assert flat_name("HuggingFaceTB/SmolLM2-135M") == "smollm2_135m"
    assert flat_name("/models/my judge/") == "my_judge"
