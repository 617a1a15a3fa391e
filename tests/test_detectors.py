"""Detectors of synthetic text: how they judge, how good they are, what is done with what they find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import brier_score_loss, roc_auc_score
from transformers import BertConfig, BertForSequenceClassification

from lmcollapse.catalog import find
from lmcollapse.cli import main
from lmcollapse.config import parse
from lmcollapse.detectors import Known, Suspects
from lmcollapse.detectors.actions import chosen, weights
from lmcollapse.filtering import filter_pool, synthetic_share
from lmcollapse.loop import run
from lmcollapse.metrics.detection import auc, brier_score, calibration_error, detection, rate
from lmcollapse.metrics.scene import Detected
from lmcollapse.parquet import read_corpus
from lmcollapse.substrates.causal_lm.models import LanguageModel, load_pretrained
from lmcollapse.substrates.causal_lm.options import ComputeOptions, ModelOptions, SamplingOptions, TrainOptions
from lmcollapse.substrates.causal_lm.sample import sample
from lmcollapse.types import HUMAN, Bools, Corpus, Floats, Silent, UserError
from lmcollapse.verify.same import different_files
from tests.text import FEW_MEASURES, documents, text_file
from tests.tiny import tiny
from tests.urn import urn_config

HUMAN_TEXT = documents(240, 40)


def machine(count: int, seed: int = 5) -> list[str]:
    """Text of the same words by other habits: its sentences go on and on."""
    rng = np.random.default_rng(seed)
    words = " ".join(documents(200, 40, seed)).replace(".", "").lower().split()
    return [" ".join(rng.choice(words, 40)) for _ in range(count)]


def suspects(texts: list[str], truth: Bools | None = None, **given: Any) -> Suspects:
    return Suspects(texts, np.full(len(texts), -1), truth=truth, **given)


def asked(kind: str, of: Suspects, known: Known, **options: Any) -> Floats:
    found: Floats = find("detector", kind)(of, known, Silent(), **options)
    assert found.shape == (len(of),) and ((found >= 0) & (found <= 1)).all()
    return found


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny("gpt2", tmp_path_factory.mktemp("judge") / "gpt2", positions=128)


TRUTH = np.repeat([False, True], 40)
POOL = [*HUMAN_TEXT[200:], *machine(40, 6)]
KNOWN = Known(HUMAN_TEXT[:120], machine(120))


@pytest.mark.parametrize("kind", ["ngrams", "embeddings", "likelihood", "curvature"])
def test_detectors_that_learn_tell_one_habit_from_another(kind: str, judge: Path) -> None:
    options = {"judge": str(judge)} if kind in ("likelihood", "curvature") else {}
    found = asked(kind, suspects(POOL), KNOWN, **options)
    if kind in ("ngrams", "embeddings"):
        assert auc(found, TRUTH)[0] > 0.9
    assert (found == asked(kind, suspects(POOL), KNOWN, **options)).all()


def test_no_row_is_judged_by_what_has_learned_from_it() -> None:
    """Two kinds that are one and the same: a detector that had seen the rows would tell them apart."""
    texts = documents(160, 30, seed=3)
    known = Known(texts[:80], texts[80:])
    truth = np.repeat([False, True], 80)
    inside = Suspects(texts, np.arange(160))
    found = asked("ngrams", inside, known)
    assert 0.3 < auc(found, truth)[0] < 0.7
    honest = Suspects(texts, np.full(160, -1))
    assert auc(asked("ngrams", honest, known), truth)[0] > 0.9, "the test could not fail"


def test_probabilities_are_calibrated_at_even_odds() -> None:
    """Words that are three times as frequent in one kind: what a text says is known exactly."""
    rng = np.random.default_rng(0)

    def some(count: int, share: float) -> list[str]:
        return [" ".join(np.where(rng.random(12) < share, "apple", "pear")) for _ in range(count)]

    known = Known(some(600, 0.4), some(200, 0.6))
    new, truth = [*some(400, 0.4), *some(400, 0.6)], np.repeat([False, True], 400)
    found = asked("ngrams", suspects(new), known, characters=0, words=1)
    counts = np.array([text.count("apple") for text in new])
    exact = 1 / (1 + (0.4 / 0.6) ** counts * (0.6 / 0.4) ** (12 - counts))
    assert np.abs(found - exact).mean() < 0.05
    assert calibration_error(found, truth) < 0.1


def test_learning_takes_some_text_of_either_kind() -> None:
    with pytest.raises(UserError, match="needs 20 human and 20 synthetic documents at least, and was given 240 and 3"):
        asked("ngrams", suspects(POOL), Known(HUMAN_TEXT, machine(3)))


def test_curvature_by_its_definition(judge: Path) -> None:
    from lmcollapse.substrates.causal_lm import detect

    seen: list[Any] = []

    def watching(features: Any, of: Suspects, known: Known) -> Floats:
        seen.append(features(of.texts))
        return np.zeros(len(of))

    patch = pytest.MonkeyPatch()
    patch.setattr(detect, "learned", watching)
    try:
        asked("curvature", suspects(POOL[:3]), KNOWN, judge=str(judge))
    finally:
        patch.undo()
    model = load_pretrained(ModelOptions(name=str(judge)))
    for text, value in zip(POOL[:3], seen[0][:, 0], strict=True):
        ids = model.tokenizer(text).input_ids
        with torch.no_grad():
            logs = model.module(torch.tensor([[0, *ids]])).logits[0, :-1].double().log_softmax(-1)
        chances = logs.exp()
        mean = (chances * logs).sum(-1)
        variance = (chances * (logs - mean[:, None]) ** 2).sum(-1)
        right = logs[torch.arange(len(ids)), torch.tensor(ids)]
        expected = float((right.sum() - mean.sum()) / variance.sum().sqrt())
        assert value == pytest.approx(expected, rel=1e-3)


def test_an_oracle_errs_at_the_rates_that_are_asked_for() -> None:
    truth = np.repeat([True, False], 20_000)
    found = asked("oracle", suspects([""] * 40_000, truth), KNOWN, true_positive_rate=0.8, false_positive_rate=0.05)
    assert abs(found[truth].mean() - 0.8) < 0.012 and abs(found[~truth].mean() - 0.05) < 0.007
    with pytest.raises(UserError, match="needs the truth"):
        asked("oracle", suspects(POOL), KNOWN)


@pytest.mark.parametrize("names", [["human", "AI"], ["LABEL_0", "LABEL_1"], ["fake", "real"]])
def test_any_sequence_classifier(tmp_path: Path, names: list[str], judge: Path) -> None:
    config = BertConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)},
    )  # fmt: skip
    torch.manual_seed(0)
    module = BertForSequenceClassification(config).eval()  # type: ignore[no-untyped-call]
    module.save_pretrained(tmp_path)
    tokenizer = load_pretrained(ModelOptions(name=str(judge))).tokenizer
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(tmp_path)
    options = {"synthetic_label": "LABEL_1"} if names[0] == "LABEL_0" else {}
    found = asked("classifier", suspects(POOL[:7]), KNOWN, model=str(tmp_path), tokens=32, temperature=2.0, **options)
    label = 0 if names[0] == "fake" else 1
    for text, value in zip(POOL[:7], found, strict=True):
        inputs = tokenizer(text, truncation=True, max_length=32, return_tensors="pt")
        with torch.no_grad():
            expected = (module(**inputs).logits / 2).softmax(-1)[0, label]
        assert value == pytest.approx(float(expected), abs=1e-5)
    if names[0] == "LABEL_0":
        with pytest.raises(UserError, match=r"It has 0: LABEL_0, 1: LABEL_1; give detector\.synthetic_label"):
            asked("classifier", suspects(POOL[:2]), KNOWN, model=str(tmp_path))


@pytest.mark.parametrize("scheme", ["green_list", "synthid"])
def test_a_watermark_is_found_at_its_rate_and_in_human_text_no_more_often_than_stated(
    judge: Path, tmp_path: Path, scheme: Any
) -> None:
    model: LanguageModel = load_pretrained(ModelOptions(name=str(judge)))
    rng = np.random.default_rng(0)
    human = Corpus.of_tokens([rng.integers(1, 300, 100) for _ in range(600)], HUMAN)
    marked = SamplingOptions(new_tokens=100, until_eos=False, watermark={"scheme": scheme, "key": 99})  # type: ignore[arg-type]
    compute = ComputeOptions(device="cpu", precision="float32", threads=2)
    some = human.take(np.arange(60))
    written = sample(model, some, some, 0, 0, marked.settled(TrainOptions()), True, compute, Silent(), tmp_path)

    def found(corpus: Corpus, key: int = 99) -> Floats:
        of = Suspects([""] * len(corpus), np.full(len(corpus), -1), corpus=corpus, models={"base": judge})
        return asked("watermark", of, KNOWN, scheme=scheme, key=key)

    assert (found(written) > 0.99).mean() > 0.9
    false = (found(human) > 0.99).mean()
    assert false < 0.01 + 4 * np.sqrt(0.01 * 0.99 / 600)
    assert (found(written, key=98) > 0.99).mean() < 0.1, "another key"
    assert found(human.take(np.arange(1)).take(np.array([], int))).shape == (0,)


def test_whose_watermark_must_be_known() -> None:
    with pytest.raises(UserError, match="which model wrote"):
        asked("watermark", suspects(POOL), KNOWN)


# --- how good --------------------------------------------------------------------------------------------------------


def test_quality_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(500) < 0.3
    values = np.round(np.clip(0.5 + 0.15 * truth + 0.2 * rng.normal(size=500), 0, 1), 1)  # with ties
    value, low, high = auc(values, truth)
    assert value == pytest.approx(roc_auc_score(truth, values)) and low < value < high
    both = np.where(truth, 0.5 / truth.sum(), 0.5 / (~truth).sum())
    assert brier_score(values, truth) == pytest.approx(brier_score_loss(truth, values, sample_weight=both))
    even = np.concatenate([np.flatnonzero(truth), np.flatnonzero(~truth)[: truth.sum()]])
    p, t = values[even] * 0.999, truth[even]
    gaps = [abs(np.sum((p - t)[(p >= b / 10) & (p < (b + 1) / 10)])) / len(p) for b in range(10)]
    assert calibration_error(p, t) == pytest.approx(sum(gaps))


def test_the_interval_of_the_auc_covers() -> None:
    rng, hits = np.random.default_rng(1), 0
    exact = 0.7602499  # of normals one deviation apart: Phi(1 / sqrt 2)
    for _ in range(400):
        _, low, high = auc(np.concatenate([rng.normal(size=60), rng.normal(1, 1, 60)]), np.repeat([False, True], 60))
        hits += low <= exact <= high
    assert 0.95 - 4.5 * np.sqrt(0.95 * 0.05 / 400) < hits / 400


def test_readings_of_a_detector() -> None:
    given = Detected(np.array([0.1, 0.6, 0.9, 0.4]), np.array([False, False, True, True]), 0.5)
    found = {reading.name: reading.value for reading in detection(given)}
    assert found["detector_auc"] == 0.75 and found["pool_human_fraction"] == 0.5
    assert found["detector_true_positive_rate"] == found["detector_false_positive_rate"] == 0.5
    alone = detection(Detected(np.array([0.1]), np.array([True]), 0.5))
    assert [reading.value for reading in alone[:-1]] == [None] * 5 and alone[-1].value == 0
    assert rate(np.array([True, False]))[0] == 0.5


# --- what is done ----------------------------------------------------------------------------------------------------


def test_weights_by_hand() -> None:
    given = np.array([0.0, 0.2, 0.5, 1.0])
    assert weights(given, "drop", 0.5, 10).tolist() == [1, 1, 0, 0]
    assert weights(given, "down_weight", 0.5, 10).tolist() == pytest.approx([1, 0.8, 0.5, 0])
    assert weights(given, "importance", 0.5, 10).tolist() == pytest.approx([1, 0.1073741824, 0.0009765625, 0])


def test_rows_are_drawn_by_their_weights() -> None:
    rng = np.random.default_rng(0)
    weight = np.array([1.0, 0.5, 0.25, 0.0])
    kept = np.bincount(np.concatenate([chosen(weight, "down_weight", 1, 1, rng) for _ in range(8000)]), minlength=4)
    assert np.allclose(kept / 8000, weight, atol=0.02)
    one = [chosen(weight, "importance", 0.25, 3, rng) for _ in range(8000)]  # a single row each time
    assert np.allclose(np.bincount(np.concatenate(one), minlength=4) / 8000, weight / weight.sum(), atol=0.02)
    assert chosen(weight, "drop", 1, 1, rng).tolist() == [0, 1, 2]
    many = chosen(np.ones(100), "importance", 1.5, 3, rng)
    assert len(many) == 150 and np.bincount(many).max() <= 3 and (np.diff(many) >= 0).all()
    assert np.bincount(chosen(weight, "importance", 1.5, 3, rng)).tolist()[:3] != [0, 0, 0]
    assert len(chosen(weight, "importance", 9, 3, rng)) == 9, "no more than there are with any weight"
    assert len(chosen(np.zeros(5), "importance", 1, 3, rng)) == 0


# --- in a run --------------------------------------------------------------------------------------------------------


def unlabelled(folder: Path, **detector: Any) -> dict[str, Any]:
    return urn_config(
        folder,
        urn={"smoothing": 0.01},
        policy={"kind": "mix", "human_keep": 1.0},
        detector={"kind": "oracle", **detector},
        measures=FEW_MEASURES | {"human_share": {}, "detection": {}},
    )


def measured(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_perfect_oracle_leaves_human_text_alone(tmp_path: Path) -> None:
    config = parse(unlabelled(tmp_path, true_positive_rate=1.0, false_positive_rate=0.0))
    out, again = run(config, tmp_path / "run"), run(config, tmp_path / "again")
    assert different_files(out, again) == []
    rows = measured(out)
    assert [row["human_fraction"] for row in rows] == [1, 1, 1]
    assert rows[1]["detector_auc"] == 1 and rows[1]["detector_false_positive_rate"] == 0
    assert 0.4 < rows[1]["pool_human_fraction"] < 0.6 and "detector_auc" not in rows[0]
    train = pq.read_table(out / "generation_002" / "train" / "selection.parquet")
    assert set(train.column("generation").to_pylist()) == {HUMAN}


@pytest.mark.parametrize(("true", "false"), [(0.8, 0.3), (0.0, 0.0), (0.5, 0.5)])
def test_the_share_that_is_left_follows_from_the_rates(tmp_path: Path, true: float, false: float) -> None:
    out = run(parse(unlabelled(tmp_path, true_positive_rate=true, false_positive_rate=false)), tmp_path / "run")
    facts = json.loads((out / "generation_001" / "offered" / "step.json").read_text())["facts"]
    row = measured(out)[1]
    h = row["pool_human_fraction"]
    expected = h * (1 - false) / (h * (1 - false) + (1 - h) * (1 - true))
    assert row["human_fraction"] == pytest.approx(expected, abs=4.5 * np.sqrt(0.25 / facts["rows"]) + 1e-9)
    assert row["detector_true_positive_rate"] == pytest.approx(true, abs=4.5 * np.sqrt(0.25 / (facts["rows"] / 2)))


@pytest.mark.parametrize("action", ["drop", "down_weight", "importance"])
def test_a_detector_that_learns_in_a_run(tmp_path: Path, action: str) -> None:
    given = unlabelled(tmp_path) | {"detector": {"kind": "ngrams", "action": action}, "generations": 2}
    out = run(parse(given), tmp_path / "run")
    row = measured(out)[1]
    assert row["detector_auc"] > 0.6, "words from an urn make no sentences"
    assert row["human_fraction"] > row["pool_human_fraction"]
    selection = pq.read_table(out / "generation_001" / "train" / "selection.parquet").to_pandas()
    assert selection.duplicated().any() == (action == "importance")
    detected = pq.read_table(out / "generation_001" / "detected" / "detected.parquet")
    offered = pq.read_table(out / "generation_001" / "offered" / "selection.parquet")
    assert len(detected) == len(offered)


def test_a_watermark_in_a_run_is_put_in_and_found(tmp_path: Path) -> None:
    mark = {"scheme": "green_list", "key": 5}
    given = {
        "generations": 2,
        "policy": {"kind": "mix", "human_keep": 1.0},
        "corpus": {"kind": "files", "path": str(text_file(tmp_path / "human.txt"))},
        "model": {"layers": 1, "width": 16, "heads": 2, "vocabulary": 300},
        "train": {"block_size": 64, "steps": 3},
        "sampling": {"watermark": {**mark, "bias": 5.0}},
        "detector": {"kind": "watermark", **mark, "threshold": 0.99},
        "compute": {"device": "cpu", "precision": "float32", "threads": 2},
        "measures": FEW_MEASURES | {"human_share": {}, "detection": {}},
    }
    out = run(parse(given), tmp_path / "run")
    row = measured(out)[1]
    assert row["detector_true_positive_rate"] > 0.95 and row["detector_false_positive_rate"] < 0.1
    assert row["human_fraction"] > 0.9 > row["pool_human_fraction"]


def test_no_held_out_text_is_trained_on_whatever_a_detector_says(tmp_path: Path) -> None:
    out = run(parse(unlabelled(tmp_path, true_positive_rate=0.3, false_positive_rate=0.6)), tmp_path / "run")
    heldout = set(read_corpus(out / "rows" / "heldout.parquet").texts or ())
    train = set(read_corpus(out / "rows" / "train.parquet").texts or ())
    assert heldout.isdisjoint(train)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"detector": {"kind": "oracle", "threshold": 2}}, "threshold"),
        ({"detector": "ngram"}, "unknown detector 'ngram'; did you mean 'ngrams'"),
        ({"detector": {"kind": "oracle", "true_positive_rate": 1, "false_positive_rate": 1}}, "leaves none of"),
    ],
)
def test_what_is_refused_of_detectors(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(parse(unlabelled(tmp_path) | given), tmp_path / "run")


def test_images_and_chains_have_no_text_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="detector ngrams reads text, and vae writes images"):
        run(parse({"substrate": "vae", "detector": "ngrams"}), tmp_path / "run")
    with pytest.raises(UserError, match="'detector' has no effect with substrate gaussian"):
        parse({"substrate": "gaussian", "detector": "oracle"})


# --- a user's own pool -----------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Path:
    pool = [{"text": text, "id": i, "url": None} for i, text in enumerate(POOL)]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pool))
    pq.write_table(pa.Table.from_pylist(pool), tmp_path / "pool.parquet")
    (tmp_path / "human.txt").write_text("\n\n".join(HUMAN_TEXT[:120]))
    (tmp_path / "machine.txt").write_text("\n\n".join(machine(120)))
    return tmp_path


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_pool_is_scored_and_filtered(files: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["filter", str(files / f"pool.{kind}"), "--human", str(files / "human.txt"), "--synthetic"]
    out = files / f"clean.{kind}"
    main([*command, str(files / "machine.txt"), "--out", str(out), "--json"])
    found = json.loads(capsys.readouterr().out)
    if kind == "parquet":
        rows = pq.read_table(out).to_pylist()
    else:
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert found["rows"] == 80 and found["kept"] == len(rows) and found["auc"][0] > 0.9
    assert found["share"][1] <= 0.5 <= found["share"][2]
    assert all(row["synthetic_probability"] < 0.5 and row["weight"] == 1 for row in rows)
    assert all(POOL[row["id"]] == row["text"] and "url" in row for row in rows)
    assert np.mean([row["id"] < 40 for row in rows]) > 0.85
    main([*command, str(files / "machine.txt"), "--out", str(out), "--keep-all", "action=importance", "bias=2"])
    assert "written                            80" in capsys.readouterr().out


def test_the_synthetic_share_of_a_pool_is_corrected_for_errors() -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(300):
        truth = rng.random(500) < 0.3
        flagged = rng.random(500) < np.where(truth, 0.8, 0.1)
        found = synthetic_share(flagged, rng.random(300) < 0.8, rng.random(300) < 0.1)
        assert found is not None
        hits += found[1] <= 0.3 <= found[2]
    assert hits / 300 > 0.95 - 4.5 * np.sqrt(0.95 * 0.05 / 300)
    assert synthetic_share(np.ones(5, bool), np.zeros(5, bool), np.ones(5, bool)) is None


def test_what_is_refused_of_a_pool(files: Path) -> None:
    pool, human = files / "pool.jsonl", files / "human.txt"
    with pytest.raises(UserError, match=r"ends in \.parquet or \.jsonl"):
        filter_pool(pool, human, "ngrams", files / "out.txt")
    with pytest.raises(UserError, match="is one of the files that are read"):
        filter_pool(pool, human, "ngrams", pool)
    with pytest.raises(UserError, match="needs 20 human and 20 synthetic"):
        filter_pool(pool, human, "ngrams", files / "out.jsonl")
    with pytest.raises(UserError, match="unknown key 'wrods'; did you mean 'words'"):
        filter_pool(pool, human, "ngrams", files / "out.jsonl", options={"wrods": 3})
    with pytest.raises(UserError, match="unknown detector"):
        filter_pool(pool, human, "nobody", files / "out.jsonl")
    assert not (files / "out.jsonl").exists()
