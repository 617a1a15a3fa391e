"""Distances of written from human text: closed forms, the reference implementation, and what they see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import sqrtm

from lmcollapse.metrics import embeddings
from lmcollapse.metrics import frechet as frechet_module
from lmcollapse.metrics import mauve as mauve_module
from lmcollapse.metrics import semantic_diversity as diversity_module
from lmcollapse.metrics.embeddings import Embedded, embed, lsa
from lmcollapse.metrics.frechet import distance, frechet
from lmcollapse.metrics.mauve import area, clusterings, curve, mauve
from lmcollapse.metrics.sample import BLOCKS, Sample
from lmcollapse.metrics.scene import HumanText, Measure, Reference
from lmcollapse.metrics.semantic_diversity import semantic_diversity
from lmcollapse.processes import one_thread
from lmcollapse.types import Floats, Reading, UserError

MEASURES: tuple[Measure, ...] = (mauve, frechet, semantic_diversity)
MODULES = (mauve_module, frechet_module, diversity_module)


def sides(texts: Sequence[str], human: Sequence[str]) -> tuple[Sample, Reference]:
    text = HumanText.of(human, [])
    return text.written(texts, 10**6), text.reference(10**6)


def topical(count: int, seed: int, topics_each: int = 1, words: int = 40) -> list[str]:
    """Documents about one of twelve things, or about several at once; a third of their words are everybody's."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(count):
        about = rng.choice(12, topics_each, replace=False)
        chosen = rng.choice(about, words)
        pairs = zip(chosen, np.minimum(rng.zipf(1.5, words), 300), strict=True)
        texts.append(" ".join(f"t{t}w{w}" if rng.random() < 0.67 else f"the{w}" for t, w in pairs))
    return texts


HUMAN = topical(1200, 0)


def read(texts: Sequence[str], human: Sequence[str] = HUMAN, **options: object) -> dict[str, Reading]:
    scene = sides(texts, human)
    return {r.name: r for measure in MEASURES for r in measure(*scene, **options)}


def with_vectors(monkeypatch: pytest.MonkeyPatch, written: Floats, human: Floats) -> dict[str, Reading]:
    """What the measures read off these vectors."""
    for module in MODULES:
        monkeypatch.setattr(module, "embed", lambda *_: Embedded(written, human))
    nobody = sides([], [])
    return {r.name: r for measure in MEASURES for r in measure(*nobody)}


# documents as vectors


def test_documents_are_unit_vectors_and_as_many_on_either_side() -> None:
    written, human = sides(topical(300, 1), HUMAN)
    found = embed(written, human, "lsa", 200)
    assert len(found.written) == len(found.human) == 200
    np.testing.assert_allclose(np.linalg.norm(np.vstack(found[:2]), axis=1), 1)
    assert len(embed(written, human, "lsa", 2000).written) == 300
    assert len(embed(sides(HUMAN, HUMAN)[0], human, "lsa", 2000).written) == 600  # the other half is fitted to


def test_the_space_does_not_depend_on_what_was_written() -> None:
    one, other = (embed(*sides(texts, HUMAN), "lsa", 400) for texts in (topical(400, 1), topical(300, 2, 5)))
    assert (one.human[:300] == other.human).all()


def test_documents_that_are_compared_are_not_fitted_to(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = []
    space = embeddings._space

    def fit(human: tuple[str, ...]) -> object:
        fitted.append(human)
        return space(human)

    monkeypatch.setattr(embeddings, "_space", fit)
    human = sides(HUMAN, HUMAN)[1]
    embeddings._vectors.cache_clear()
    embed(human.sample, human, "lsa", 500)
    assert set(fitted) == {tuple(human.sample.texts[500:1000])}


def test_embeddings_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counting(texts: Sequence[str], human: Sequence[str]) -> Floats:
        calls.append(texts)
        return lsa(texts, human)

    monkeypatch.setattr(embeddings, "find", lambda *_: counting)
    embeddings._vectors.cache_clear()
    scene = sides(topical(100, 3), HUMAN)
    for measure in MEASURES:
        measure(*scene, documents=100)
    assert len(calls) == 2


def test_too_few_documents_have_a_note() -> None:
    found = read([*topical(49, 1), "", "…", "🙂"])
    assert set(found) == {"mauve", "frechet_distance", "frechet_distance_corrected", "semantic_diversity"}
    for reading in found.values():
        assert reading.value is None and reading.note.startswith("49 written and 1200 human documents")
    assert read([])["mauve"].value is None
    assert read(topical(60, 1), topical(99, 0))["mauve"].value is None


def test_lsa_is_tfidf_as_scikit_learn_has_it() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [text for i in range(12) for text in (f"word{i} word{i} word{i + 1} all", f"word{i} all all")]
    matrix = TfidfVectorizer(sublinear_tf=True).fit_transform(texts)
    vectors = lsa(texts, texts)  # every word is in two texts, and there are more axes than texts
    np.testing.assert_allclose(vectors @ vectors.T, (matrix @ matrix.T).toarray(), atol=1e-9)


def test_lsa_sees_that_words_are_rare_but_not_which() -> None:
    known, one, other = lsa(["t1w1 t1w2 the1", "t1w1 qqq the1", "t1w1 zzz the1"], HUMAN)
    np.testing.assert_array_equal(one, other)
    assert np.linalg.norm(known - one) > 0.05


@pytest.mark.parametrize(
    "text", ["word", "שלום עולם", "🙂 ok 🙂", "日本語", "x" * 1_000_000, "a " * 10_000, "ﷺ\u200fab\u0301"]
)
def test_corpora_of_one_text(text: str) -> None:
    found = read([text] * 60)
    assert found["semantic_diversity"].value == pytest.approx(0, abs=1e-9)
    assert found["mauve"].value is not None and found["mauve"].value < 0.1
    assert all(r.value is not None and np.isfinite(r.value) for r in found.values())
    same = read([text] * 60, [text] * 120)
    assert same["mauve"].value == pytest.approx(1) and same["frechet_distance"].value == pytest.approx(0, abs=1e-9)


# mauve


def test_area_is_that_of_mauve_text() -> None:
    reference = pytest.importorskip("mauve")
    rng = np.random.default_rng(0)
    for shift, size in ((0.0, 300), (1.0, 300), (3.0, 200), (50.0, 100)):
        a, b = rng.normal(size=(300, 4)), rng.normal(size=(size, 4)) + shift * np.array([1, -1, 1, 0])
        theirs = reference.compute_mauve(p_features=a, q_features=b, num_buckets=20)
        p, q = np.asarray(theirs.p_hist, float), np.asarray(theirs.q_hist, float)
        assert area(p, q) == pytest.approx(theirs.mauve, rel=1e-9, abs=1e-12)
        ours, points = (c[np.lexsort(c.T)] for c in (curve(p, q), theirs.divergence_curve))
        np.testing.assert_allclose(ours, points, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.7, 1.5])
def test_mauve_is_about_that_of_mauve_text(shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = pytest.importorskip("mauve")
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 500, 6))
    b += shift * np.array([1, -1, 1, 0, 0, 0])
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    with one_thread():
        theirs = [reference.compute_mauve(p_features=a, q_features=b, seed=seed).mauve for seed in range(5)]
    ours = with_vectors(monkeypatch, b, a)["mauve"].value
    assert ours == pytest.approx(np.mean(theirs), abs=0.04)  # two means of five k-means, each off by up to 0.03


def test_mauve_of_the_same_and_of_disjoint_texts() -> None:
    vectors = np.random.default_rng(0).normal(size=(200, 5))
    for cells in clusterings(vectors, vectors[::-1], 20):
        assert area(*(np.bincount(side).astype(float) for side in cells)) == pytest.approx(1)
    weights = np.linspace(1e-6, 1 - 1e-6, 25)
    least = np.trapezoid([0, *weights**5, 1], [-1, *(-((1 - weights) ** 5)), 0])
    assert area(np.array([1.0, 0]), np.array([0, 3.0])) == pytest.approx(least) == pytest.approx(0.004, abs=1e-3)


def test_clusters_do_not_depend_on_the_order_of_documents() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 200, 5))
    a[50:80] = a[0]
    order = rng.permutation(200)
    for (one, two), (shuffled, same) in zip(clusterings(a, b, 20), clusterings(a[order], b, 20), strict=True):
        assert (one[order] == shuffled).all() and (two == same).all()
        assert len(set(one[50:80])) == 1


# fréchet


def test_frechet_closed_forms() -> None:
    a, b = np.array([4.0, 1.0, 0.0]), np.array([1.0, 1.0, 9.0])
    apart = distance((np.zeros(3), np.diag(a)), (np.array([1.0, 2.0, 0.0]), np.diag(b)))
    assert apart == pytest.approx(5 + 1 + 0 + 9)  # |m1 - m2|^2 + sum (sd1 - sd2)^2
    rng = np.random.default_rng(0)
    one, other = (np.cov(rng.normal(size=(8, 50)) * rng.random((8, 1))) for _ in range(2))
    expected = np.trace(one + other - 2 * sqrtm(one @ other).real)
    assert distance((np.zeros(8), one), (np.zeros(8), other)) == pytest.approx(expected, rel=1e-9)
    flat = np.outer(a, a)  # of rank one
    assert distance((a, flat), (a, flat)) == pytest.approx(0, abs=1e-12)
    assert distance((a, one[:3, :3]), (b, other[:3, :3])) == distance((b, other[:3, :3]), (a, one[:3, :3]))


def test_frechet_is_the_formula_and_its_correction_the_jackknife(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 117, 3))
    found = with_vectors(monkeypatch, a, b)

    def by_hand(a: Floats, b: Floats) -> float:
        return distance((a.mean(0), np.cov(a.T)), (b.mean(0), np.cov(b.T)))

    block = np.arange(117) * BLOCKS // 117
    without = [by_hand(a[block != i], b[block != i]) for i in range(BLOCKS)]
    assert found["frechet_distance"].value == pytest.approx(by_hand(a, b))
    corrected = 20 * by_hand(a, b) - 19 * np.mean(without)
    assert found["frechet_distance_corrected"].value == pytest.approx(corrected)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_corrected_frechet_is_unbiased_and_its_interval_covers(shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    truth = 4 * shift**2 + 4 * shift**2  # of the means; of standard deviations 1 and 1 + shift
    readings = []
    for _ in range(60):
        a, b = rng.normal(size=(2, 200, 4))
        readings.append(with_vectors(monkeypatch, a, shift + (1 + shift) * b)["frechet_distance_corrected"])
    values = np.array([r.value for r in readings], float)
    assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(60)
    covered = [r.low <= truth <= r.high for r in readings if r.low is not None and r.high is not None]
    assert len(covered) == 60 and np.mean(covered) > 0.85


# semantic diversity


def test_semantic_diversity_is_the_mean_over_all_pairs() -> None:
    scene = sides(topical(90, 5) + HUMAN[:30], HUMAN)
    (found,) = semantic_diversity(*scene)
    vectors = embed(*scene, "lsa", 2000).written
    pairs = [1 - one @ other for i, one in enumerate(vectors) for other in vectors[:i]]
    assert found.value == pytest.approx(np.mean(pairs), rel=1e-12)
    assert found.value is not None and found.low is not None and found.high is not None
    assert found.low < found.value < found.high


def test_semantic_diversity_at_its_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    orthogonal = np.eye(60)
    assert with_vectors(monkeypatch, orthogonal, orthogonal)["semantic_diversity"].value == pytest.approx(1)
    opposite = np.tile([[1.0, 0.0], [-1.0, 0.0]], (30, 1))
    found = with_vectors(monkeypatch, opposite, opposite)["semantic_diversity"]
    assert found.value == pytest.approx(1 + 1 / 59)  # each has 30 others opposite, 29 alike


# what they see


@pytest.mark.parametrize("name", ["mauve", "semantic_diversity"])
def test_intervals_cover_the_mean_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    monkeypatch.setattr(mauve_module, "CLUSTERINGS", 3)
    readings = []
    for _ in range(40):
        a, b = rng.normal(size=(2, 200, 4)) + np.array([[[1, 0, 0, 0]], [[0, 1, 0, 0]]])
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
        readings.append(with_vectors(monkeypatch, a, b)[name])
    values = np.array([(r.value, r.low, r.high) for r in readings], float)
    covered = (values[:, 1] <= values[:, 0].mean()) & (values[:, 0].mean() <= values[:, 2])
    assert covered.mean() > 0.85
    assert np.mean(values[:, 2] - values[:, 1]) < 2 * 4.2 * values[:, 0].std()  # and not by being vast


def test_human_text_is_near_and_collapsed_text_far() -> None:
    human = read(topical(500, 1))
    mixed, copied = read(topical(500, 2, topics_each=4)), read(topical(25, 3) * 20)
    value = {name: [r[name].value or 0.0 for r in (human, mixed, copied)] for name in human}
    assert value["mauve"][0] > 0.9 and value["mauve"][1] < 0.5 and value["mauve"][2] < 0.5
    assert abs(value["frechet_distance_corrected"][0]) < 0.01 < 0.05 < min(value["frechet_distance_corrected"][1:])
    assert value["semantic_diversity"][1] < value["semantic_diversity"][0] - 0.1


def test_readings_are_the_same_again() -> None:
    texts = topical(150, 7, 2)
    first = read(texts)
    embeddings._vectors.cache_clear()
    embeddings._space.cache_clear()
    assert read(texts) == first


# pretrained models


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny import tiny

    return tiny("gpt2", tmp_path_factory.mktemp("models") / "gpt2")


@pytest.fixture(scope="module")
def encoder(causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("models") / "bert"
    config = BertConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    BertForMaskedLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(causal).save_pretrained(folder)
    return folder


TEXTS = ["a short text", "text of another length, by far, and so on", "xa", "a short text"]


@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_states_are_those_of_the_model(kind: str, request: pytest.FixtureRequest) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    from lmcollapse.substrates.causal_lm.embed import transformers

    folder: Path = request.getfixturevalue(kind)
    module, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    found = transformers(TEXTS, str(folder), tokens=7)
    for text, vector in zip(TEXTS, found, strict=True):
        ids = tokenizer(text).input_ids[:7]
        with torch.inference_mode():
            states = module(torch.tensor([ids])).last_hidden_state[0]
        expected = states[-1] if kind == "causal" else states.mean(0)
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)


def test_measures_with_a_model(causal: Path) -> None:
    found = read(topical(60, 1), embedding=str(causal), documents=60)
    assert all(reading.value is not None and np.isfinite(reading.value) for reading in found.values())
    assert found != read(topical(60, 1), documents=60)


def test_models_that_there_are_not(tmp_path: Path, causal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=300, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    AutoTokenizer.from_pretrained(causal).save_pretrained(tmp_path / "t5")
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("LMCOLLAPSE_CACHE", str(tmp_path / "cache"))
    for name, said in (
        ("no-such-model", "no-such-model"),
        ("smollm2", "lmcollapse fetch smollm2"),
        (str(tmp_path / "nowhere"), "no such folder"),
        (str(tmp_path / "empty"), "empty"),
        (str(tmp_path / "t5"), "neither a causal language model nor an encoder"),
        ("no.such.module:function", "cannot be imported"),
    ):
        with pytest.raises(UserError, match=said) as error:
            read(topical(60, 1), embedding=name)
        assert "\n" not in str(error.value)
