"""Numbers that are none, and corpora of nothing: recorded as what they are, and the run ends cleanly or goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from lmcollapse import cli
from lmcollapse.chains import trajectories
from lmcollapse.config import parse
from lmcollapse.detectors import Known, Suspects
from lmcollapse.detectors.actions import chosen
from lmcollapse.files import files_in, parse_json
from lmcollapse.loop import run
from lmcollapse.readings import load_readings, write_readings
from lmcollapse.records import ENDINGS, read_manifest, read_metrics, read_record
from lmcollapse.scorers import Candidates
from lmcollapse.status import status_of
from lmcollapse.substrates.causal_lm.decoding import NOTHING, ancestral, greedy
from lmcollapse.substrates.ngram import NGram
from lmcollapse.substrates.ngram.model import contexts_and_tokens
from lmcollapse.types import Corpus, Emptied, Ended, Floats, Progress, Reading, Scores, Silent, UserError
from lmcollapse.verify import verify
from tests.text import FEW_MEASURES, documents, text_file
from tests.tiny import human, tiny
from tests.urn import Urn

NAN, INF = math.nan, math.inf
URN = {"substrate": "tests.urn:Urn", "start": "scratch", "generations": 3}
SCRATCH = {
    "start": "previous",
    "generations": 2,
    "model": {"name": "scratch", "layers": 1, "width": 16, "heads": 2, "vocabulary": 280},
    "train": {"block_size": 32, "epochs": 1, "batch_size": 16},
    "sampling": {"tokens": 500, "new_tokens": 20},
    "compute": {"device": "cpu", "threads": 1},
}
ONE_STEP = {"steps": 1, "warmup": 0, "schedule": "constant"}


class NoRows(Urn):
    """Writes nothing."""

    def sample(self, model: Any, human: Corpus, *rest: Any) -> Corpus:
        return Corpus.of_tokens([], rest[1], texts=[])

    def score(self, model: Any, corpus: Corpus, progress: Progress, *, by_token: bool = False) -> Scores:
        if not len(corpus.values):
            return Scores(np.zeros(len(corpus)), np.zeros(len(corpus), np.int64))
        return Urn.score(self, model, corpus, progress, by_token=by_token)


class NoWords(NoRows):
    """Writes documents with nothing in them."""

    def sample(self, model: Any, human: Corpus, *rest: Any) -> Corpus:
        return Corpus.of_tokens([[]] * len(human), rest[1], texts=[""] * len(human))


def takes_all(suspects: Suspects, known: Known, progress: Progress) -> Floats:
    """A detector that finds everything synthetic."""
    return np.ones(len(suspects))


def at_a_loss(suspects: Suspects, known: Known, progress: Progress) -> Floats:
    """A detector that gives no probabilities."""
    return np.full(len(suspects), NAN)


def extreme(candidates: Candidates) -> Floats:
    """A scorer without finite numbers."""
    return np.where(np.arange(len(candidates.corpus)) % 2, INF, -INF)


def undecided(candidates: Candidates) -> Floats:
    """A scorer without numbers."""
    return np.full(len(candidates.corpus), NAN)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = text_file(tmp_path_factory.mktemp("text") / "human.txt", count=60)
    return {"corpus": {"kind": "files", "path": str(path), "heldout_fraction": 0.3}}


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """A configuration with another one laid over it; few measures unless it says which."""
    found = {"measures": {**FEW_MEASURES, "words": 500}} | base
    for key, value in over.items():
        found[key] = found[key] | value if isinstance(value, dict) and isinstance(found.get(key), dict) else value
    return found


def told(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command; whatever else it raises fails the test."""
    capsys.readouterr()
    status = 0
    try:
        cli.main([str(word) for word in words])
    except SystemExit as end:
        status = int(end.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


def is_read(capsys: pytest.CaptureFixture[str], folder: Path, place: Path, *, drawn: bool = True) -> None:
    """Every reader gets through a run directory, and all JSON that there is, is strict.

    drawn : draw its figures, too, which takes longest.
    """
    commands: list[tuple[object, ...]] = [
        ("status", folder),
        ("watch", folder, "--once"),
        ("plot", folder, "--out", place / "figures"),
        ("report", folder, "--out", place / "report.html"),
        ("verdicts", folder, "--json"),
        ("verify", folder, "--json"),
    ]
    for command in commands:
        if command[0] == "plot" and not drawn:
            continue
        status, out, err = told(capsys, *command)
        assert status == 0, (command, err)
        assert "Warning" not in err, (command, err)
        if "--json" in command:
            parse_json(out)
    for file in files_in(folder):
        if file.suffix in (".json", ".jsonl"):
            for line in file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]:
                parse_json(line)


def ends(given: dict[str, Any], out: Path, state: str, where: str, message: str) -> str:
    """A run ends early in the same way each time, with nothing made again, and its directory says where and why."""
    said = []
    for _ in range(2):
        with pytest.raises(Ended, match=message) as ended:
            run(parse(given), out)
        said.append(str(ended.value))
        assert "\n" not in said[-1] and status_of(out, "run").state == f"{state}: {where}"
        steps = {file: file.stat().st_mtime_ns for file in out.rglob("step.json")}
        said.append(str(sorted(steps.items())))
    assert said[0] == said[2] and said[1] == said[3]
    manifest = read_manifest(out) or {}
    assert manifest[state]["why"] == said[0] and sum(key in manifest for key in ENDINGS) == 1
    assert not verify(out).mismatches
    return said[0]


# a fit that diverges, a model that can write nothing


@pytest.mark.parametrize(
    ("over", "where", "message"),
    [
        ({"train": {"learning_rate": 1e3}}, r"step 4 of the fit", "gradient is inf|loss is"),
        ({"train": {"learning_rate": 1e38, **ONE_STEP}}, "step 1 of the fit", "the weight .* is not finite at step 1"),
        (
            {"train": {"learning_rate": 1e38, **ONE_STEP, "steps": 2, "validation": 0.2, "validation_steps": 1}},
            "step 1 of the fit",
            "its validation loss is nan at step 1; lower train.learning_rate",
        ),
        ({"train": {"learning_rate": 1e20, **ONE_STEP}}, "corpus", "can write nothing: its logits are not finite"),
        ({"sampling": {"temperature": 1e-45}}, "corpus", "can write nothing"),
        ({"sampling": {"temperature": 1e-45, "until_eos": True}}, "corpus", "can write nothing"),
        ({"sampling": {"temperature": 1e-45, "watermark": {"scheme": "green_list"}}}, "corpus", "can write nothing"),
        ({"sampling": {"edit_above": 1e-3, "temperature": 1e-45, "tokens": None, "new_tokens": None}}, "corpus", "can"),
        (
            {"sampling": {"decoder": "greedy", "repetition_penalty": 1e-45, "prompt": "human", "prompt_tokens": 4}},
            "corpus",
            "can write nothing",
        ),
        (
            {"sampling": {"precision": "float16"}, "train": {"learning_rate": 30, **ONE_STEP, "steps": 3}},
            "corpus",
            "raise sampling.precision",
        ),
    ],
    ids=lambda given: json.dumps(given) if isinstance(given, dict) else "",
)
def test_a_language_model_that_overflows_ends_the_run_there(
    over: dict[str, Any], where: str, message: str, corpus: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    if where.startswith("step 4"):  # the step at which it overflows is the machine's
        with pytest.raises(Ended):
            run(parse(merged({**SCRATCH, **corpus}, over)), tmp_path / "first")
        where = (read_manifest(tmp_path / "first") or {})["diverged"]["where"]
    ends(merged({**SCRATCH, **corpus}, over), out, "diverged", f"generation 0, {where}", message)
    assert where == "corpus" or not (out / "generation_000" / "model").exists(), "no broken model is kept"


def test_only_what_is_no_distribution_chooses_nothing() -> None:
    logits = torch.tensor([[0.0, 1.0], [NAN, 1.0], [INF, 1.0], [-INF, -INF], [-INF, 1.0], [3e38, -3e38]])
    draws = torch.full((6,), 0.9, dtype=torch.float64)
    assert ancestral(logits, draws).tolist() == [1, NOTHING, NOTHING, NOTHING, 1, 0]
    assert greedy(logits).tolist() == [1, NOTHING, NOTHING, NOTHING, 1, 0]


def test_a_model_of_images_that_overflows_ends_the_run_there(tmp_path: Path) -> None:
    given = {"substrate": "vae", "corpus": "digits", "generations": 2, "latent": 3, "filters": [4], "hidden": 8}
    given |= {"epochs": 1, "device": "cpu", "threads": 1}
    several = {**given, "learning_rate": 1e30}
    ends(several, tmp_path / "several", "diverged", "generation 0, step 23 of the fit", "; lower learning_rate$")
    at_last = {**given, "learning_rate": 1e30, "batch_size": 10**5}  # no loss is computed after the only step
    ends(at_last, tmp_path / "last", "diverged", "generation 0, corpus", "its pixels are not finite numbers")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Model folders by what is wrong with them."""
    folder = tmp_path_factory.mktemp("models")

    def nothing_but_eos(module: Any) -> None:
        weights = module.transformer
        weights.wte.weight[:, 0] = -5
        weights.wte.weight[0] = torch.eye(16)[0] * 5
        weights.ln_f.weight.zero_()
        weights.ln_f.bias.copy_(torch.eye(16)[0] * 50)

    changes: dict[str, Callable[[Any], Any]] = {
        "nan": lambda module: module.transformer.h[0].mlp.c_fc.weight[0, :2].fill_(NAN),
        "inf": lambda module: module.transformer.h[0].mlp.c_fc.weight[0, :2].fill_(INF),
        "large": lambda module: module.transformer.wte.weight.mul_(1e30),
        "eos": nothing_but_eos,
    }

    def model(name: str) -> Path:
        if not (folder / name).exists():
            module = AutoModelForCausalLM.from_pretrained(tiny("gpt2", folder / name))
            with torch.no_grad():
                changes[name](module)
            module.save_pretrained(folder / name)
        return folder / name

    return model


@pytest.mark.parametrize("name", ["nan", "inf"])
def test_a_pretrained_model_with_broken_weights_is_refused_by_all_that_read_it(
    name: str,
    models: Callable[[str], Path],
    corpus: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = corpus["corpus"]["path"]
    as_base = merged({**SCRATCH, **corpus}, {"start": "base"}) | {"model": {"name": str(models(name))}}
    as_judge = merged({**SCRATCH, **corpus}, {"scoring": {"judges": [str(models(name))]}})
    for number, given in enumerate((as_base, as_judge)):
        (tmp_path / f"{number}.yaml").write_text(json.dumps(given))
    for command in (
        ("run", tmp_path / "0.yaml", "--out", tmp_path / "base"),
        ("run", tmp_path / "1.yaml", "--out", tmp_path / "judge"),
        ("evaluate", models(name), "--text", text),
        ("sample", models(name), "-n", "1"),
    ):
        status, _, err = told(capsys, *command)
        assert status == 2 and err.count("lmcollapse: ") == 1, err
        assert "the weight transformer.h.0.mlp.c_fc.weight (2 of its 1,024 numbers) is not finite" in err
    assert not (tmp_path / "base").exists()


def test_a_model_whose_logits_overflow_has_no_perplexity_and_writes_nothing(
    models: Callable[[str], Path], corpus: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = told(capsys, "evaluate", models("large"), "--text", corpus["corpus"]["path"], "--json")
    found = parse_json(out)
    assert status == 0 and found["perplexity"] is None and found["nats"] is None and found["tokens"] > 1000
    status, out, err = told(capsys, "sample", models("large"), "-n", "2")
    assert status == 2 and not out and "can write nothing" in err
    given = merged({**SCRATCH, **corpus}, {"start": "base"}) | {"model": {"name": str(models("large"))}}
    message = "its loss is nan at step 1; no weight has changed yet"
    ends(given, tmp_path / "run", "diverged", "generation 0, step 1 of the fit", message)


# nothing is written


@pytest.mark.parametrize("unit", ["block", "document"])
def test_a_model_that_writes_only_the_end_of_the_text_is_recorded_as_that(
    unit: str,
    models: Callable[[str], Path],
    corpus: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = merged({**SCRATCH, **corpus}, {"start": "base", "train": {"unit": unit, "learning_rate": 1e-9}})
    given |= {"model": {"name": str(models("eos"))}, "measures": {"words": 500}}
    out = run(parse(given), tmp_path / "run")
    rows = read_metrics(out)
    assert len(rows) == 2
    assert (rows[1]["perplexity"] or INF) > 1e100 and rows[1]["sequence_perplexity_median"] == 1
    notes = {reading.name: reading.note for reading in load_readings(out / "generation_001" / "measures")}
    for name in ("distinct_1", "tail_coverage", "self_bleu", "zipf_exponent", "mauve"):
        assert rows[1][name] is None and notes[name], name
    if unit == "document":
        is_read(capsys, out, tmp_path)
        status, _, err = told(capsys, "measure", out / "generation_001", "--reference", corpus["corpus"]["path"])
        assert status == 2 and "holds no word" in err and "nothing can be measured" in err
        prompted = merged(given, {"sampling": {"prompt": "previous", "prompt_tokens": 4}, "measures": FEW_MEASURES})
        message = "no row of the previous corpus has 4 tokens"
        ends(prompted, tmp_path / "prompted", "emptied", "generation 1, corpus", message)


@pytest.mark.parametrize(
    ("over", "where", "message"),
    [
        ({"substrate": "tests.test_numbers:NoRows"}, "train", "policy replace leaves no row to train on"),
        (
            {"substrate": "tests.test_numbers:NoRows", "policy": {"kind": "mix", "human_fraction": 0.5}},
            "train",
            "wants .* rows of generation 0, which has none",
        ),
        ({"substrate": "tests.test_numbers:NoRows", "curation": {"kind": "length"}}, "train", "leaves no row"),
        ({"substrate": "tests.test_numbers:NoWords"}, "model", "rows to train on have no token"),
        ({"detector": {"kind": "tests.test_numbers:takes_all"}}, "train", "the detector leaves none of"),
        (
            {"detector": {"kind": "tests.test_numbers:takes_all", "action": "down_weight"}},
            "train",
            "the detector leaves none of",
        ),
        (
            {"detector": {"kind": "ngrams", "action": "importance", "bias": 1e308}},
            "train",
            "lower detector.bias",
        ),
    ],
    ids=lambda given: json.dumps(given) if isinstance(given, dict) else "",
)
def test_a_run_ends_where_nothing_is_left_to_train_on(
    over: dict[str, Any], where: str, message: str, corpus: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    ends(merged({**URN, **corpus}, over), out, "emptied", f"generation 1, {where}", message)
    assert len(read_metrics(out)) == 1


def test_what_was_finished_before_is_shown(
    corpus: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = merged({**URN, **corpus}, {"substrate": "tests.test_numbers:NoRows"})
    (tmp_path / "c.yaml").write_text(json.dumps(given))
    status, _, err = told(capsys, "run", tmp_path / "c.yaml", "--out", tmp_path / "run")
    assert status == 2 and err.count("lmcollapse: ") == 1 and "leaves no row to train on" in err
    assert (tmp_path / "run" / "figures" / "measures.png").is_file()
    is_read(capsys, tmp_path / "run", tmp_path, drawn=False)
    assert "emptied in generation 1" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("policy", ["accumulate", "accumulate_subsample", "filling"])
@pytest.mark.parametrize("substrate", ["NoRows", "NoWords"])
def test_a_run_goes_on_where_human_text_is_left(
    policy: str, substrate: str, corpus: dict[str, Any], tmp_path: Path
) -> None:
    given = merged({**URN, **corpus}, {"substrate": f"tests.test_numbers:{substrate}", "policy": policy})
    rows = read_metrics(run(parse(given), tmp_path / "run"))
    assert len(rows) == 3 and all(row["distinct_1"] is None and row["perplexity"] for row in rows)


def test_a_population_that_writes_nothing_ends(corpus: dict[str, Any], tmp_path: Path) -> None:
    given = merged({**URN, **corpus}, {"substrate": "tests.test_numbers:NoRows"})
    given |= {"population": {"exchange": "shared", "members": 2}}
    with pytest.raises(Emptied):
        run(parse(given), tmp_path / "run")
    assert status_of(tmp_path / "run" / "member_00", "run").state == "emptied: generation 1, train"


def test_too_little_for_generation_0_is_a_configuration_that_cannot_work(
    corpus: dict[str, Any], tmp_path: Path
) -> None:
    given = merged({**SCRATCH, **corpus}, {"train": {"validation": 1e-4}})
    with pytest.raises(UserError, match="which is 0 of") as refused:
        run(parse(given), tmp_path / "run")
    assert not isinstance(refused.value, Ended) and status_of(tmp_path / "run", "run").state.startswith("stopped")


# others go on


def test_a_sweep_goes_on_beside_runs_that_end_early(
    corpus: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conditions = {
        "good": {},
        "broken": {"train": {"learning_rate": 1e38, **ONE_STEP}},
        "mute": {"sampling": {"temperature": 1e-45}},
        "emptied": {"detector": {"kind": "tests.test_numbers:takes_all"}},
    }
    given = {**merged({**SCRATCH, **corpus}, {}), "sweep": {"seeds": 1, "conditions": conditions}}
    (tmp_path / "sweep.yaml").write_text(json.dumps(given))
    out = tmp_path / "out"
    made = []
    for _ in range(2):
        status, said, err = told(capsys, "sweep", tmp_path / "sweep.yaml", "--out", out, "--no-figures")
        assert status == 0 and not err, err
        made.append({file: file.stat().st_mtime_ns for file in out.rglob("manifest.json")})
    assert made[0] == made[1] and len(made[0]) == 4, "what has ended is not made again"
    states = {name: status_of(out / name / "seed_0", name).state for name in conditions}
    assert states == {
        "good": "finished",
        "broken": "diverged: generation 0, step 1 of the fit",
        "mute": "diverged: generation 0, corpus",
        "emptied": "emptied: generation 1, train",
    }
    assert not (out / "errors").exists()
    _, said, _ = told(capsys, "watch", out, "--once")
    assert "2 diverged · 1 emptied · 1 finished" in said and "3/3 generations" in said
    for command in (("verdicts", out), ("report", out, "--out", tmp_path / "report.html")):
        assert told(capsys, *command)[0] == 0
    for command in (("plot", out / "mute" / "seed_0"), ("export", out / "mute" / "seed_0")):
        status, _, err = told(capsys, *command, "--out", tmp_path / "unused")
        assert status == 2 and "has no finished generation: diverged in generation 0, corpus" in err


def test_advice_without_a_baseline_says_so(
    corpus: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = merged({**SCRATCH, **corpus}, {"train": {"learning_rate": 1e38, **ONE_STEP}})
    (tmp_path / "c.yaml").write_text(json.dumps(given))
    command = ("advise", tmp_path / "c.yaml", "--out", tmp_path / "out", "--shares", "0,1", "--seeds", "2")
    status, out, err = told(capsys, *command)
    assert status == 2 and "has no value in generation 1 for 2 of 2 seeds" in err
    assert "its loss counts as unknown" in out


# scorers and detectors


def test_scores_that_are_not_finite_choose_and_scores_that_are_none_are_refused(
    corpus: dict[str, Any], tmp_path: Path
) -> None:
    given = merged({**URN, **corpus}, {"generations": 1})
    out = run(parse({**given, "curation": {"kind": "tests.test_numbers:extreme"}}), tmp_path / "extreme")
    facts = (read_record(out / "generation_000" / "corpus") or {})["facts"]
    assert facts["rows"] and facts["mean_score"] is None and facts["mean_of_all"] is None
    with pytest.raises(UserError, match="must give one number for each"):
        run(parse({**given, "curation": {"kind": "tests.test_numbers:undecided"}}), tmp_path / "undecided")
    given |= {"generations": 2, "detector": {"kind": "tests.test_numbers:at_a_loss"}}
    with pytest.raises(UserError, match="must give a probability for each"):
        run(parse(given), tmp_path / "at_a_loss")


def test_weights_at_the_edge_of_what_numbers_can_be() -> None:
    rng = np.random.default_rng(0)
    assert sorted(chosen(np.array([0.5, 0, 1e-300]), "importance", 1e308, 2, rng).tolist()) == [0, 0, 2, 2]
    assert not len(chosen(np.zeros(3), "importance", 1.5, 3, rng))


def test_a_filter_may_leave_nothing_and_takes_no_detector_without_probabilities(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [text_file(tmp_path / f"{seed}.txt", 30, seed=seed) for seed in range(3)]
    command = ("filter", files[0], "threshold=0", "--human", files[1], "--synthetic", files[2])
    left = tmp_path / "left.parquet"
    status, out, _ = told(capsys, *command, "--out", left, "--json")
    assert status == 0 and parse_json(out)["kept"] == 0 and left.is_file()
    status, _, err = told(capsys, "measure", left, "--reference", files[1])
    assert status == 2 and "holds no word" in err
    detector = ("--detector", "tests.test_numbers:at_a_loss", "--out", tmp_path / "none.jsonl")
    status, out, err = told(capsys, "filter", files[0], "--human", files[1], *detector)
    assert status == 2 and "must give a probability" in err and not (tmp_path / "none.jsonl").exists()


@pytest.mark.parametrize("texts", [["a"], ["a"] * 30, [""] * 29 + ["a b c"], documents(1), documents(1) * 20])
def test_measures_of_hardly_any_text_are_numbers_or_null(
    texts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    reference = text_file(tmp_path / "human.txt", 30)
    status, out, err = told(capsys, "measure", tmp_path / "pool.jsonl", "--reference", reference, "--json")
    assert status == 0 and parse_json(out), err


def test_a_reading_that_is_no_number_is_undefined_and_says_why(tmp_path: Path) -> None:
    whole = Reading("whole", 1.0, "", 0.5, 1.5)
    write_readings([whole, Reading("a", NAN), Reading("b", INF, "so it is"), Reading("c", 1.0, "", -INF, 2)], tmp_path)
    assert load_readings(tmp_path) == [
        whole,
        Reading("a", None, "it is nan, which is no finite number"),
        Reading("b", None, "so it is"),
        Reading("c", 1.0),
    ]


# simple models


def test_n_grams_write_the_likeliest_tokens_however_low_the_temperature(tmp_path: Path) -> None:
    texts = human(train=10, words=12)
    substrate = NGram.model_validate({"order": 2, "vocabulary": 300})
    substrate.prepare(texts, tmp_path, 0)
    rows, heldout = substrate.encode(tmp_path, texts)
    fitted = substrate.fit(tmp_path, rows, "base", None, 0, Silent())
    for temperature in (1e-30, 1e-320):
        cold = substrate.model_copy(update={"temperature": temperature})
        written = cold.sample(fitted, rows, rows, 0, 0, Silent())
        ngrams = contexts_and_tokens(list(written.rows()), fitted.tokenizer.eos_token_id, 2)
        chances = fitted.model.distributions(ngrams[:, :-1])
        assert (chances[np.arange(len(ngrams)), ngrams[:, -1]] >= chances.max(axis=1) * (1 - 1e-9)).all()
    empty = substrate.score(fitted, heldout.take(np.arange(0)), Silent())
    assert len(empty.nats) == 0


def test_a_variance_that_underflows_is_recorded_as_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(parse({"substrate": "gaussian", "rows": 2, "chains": 3, "generations": 2500}), tmp_path / "run")
    last = read_metrics(out)[-1]
    assert last["variance"] == 0 and last["log_variance"] is None and last["collapsed"] == 1
    is_read(capsys, out, tmp_path, drawn=False)


@pytest.mark.parametrize(
    "given",
    [
        {"substrate": "gaussian_mixture", "components": 3, "rows": 12, "floor": 1e-300, "generations": 60},
        {"substrate": "gaussian_mixture", "components": 3, "rows": 12, "separation": 1e6, "floor": 1e-300},
        {"substrate": "kde", "bandwidth": 1e100},
        {"substrate": "kde", "bandwidth": 1e-320},
        {"substrate": "linear_regression", "features": 3, "noise": 1e100},
        {"substrate": "discrete", "distribution": "given", "probabilities": [1e-320, 1e-320, 1.0]},
    ],
    ids=str,
)
def test_simple_models_at_the_edge_of_what_numbers_can_be(
    given: dict[str, Any], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    config = parse({"generations": 5, "chains": 4, "rows": 20, **given})
    measures = trajectories(config).measures
    assert all(not np.isnan(values).any() for values in measures.values())
    assert len(read_metrics(run(config, tmp_path / "run"))) == config.generations
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]


def test_a_mixture_too_wide_for_its_floor_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"substrate": "gaussian_mixture", "components": 3, "rows": 12, "separation": 1e6, "floor": 1e-300}
    out = run(parse({"generations": 20, "chains": 4, **given}), tmp_path / "run")
    is_read(capsys, out, tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"substrate": "discrete", "distribution": "zipf", "exponent": 1000}, "too small for numbers"),
        ({"substrate": "kde", "bandwidth": 1e200}, "bandwidth"),
        ({"substrate": "linear_regression", "noise": 1e200}, "noise"),
        ({"substrate": "gaussian_mixture", "separation": 1e200}, "separation"),
        ({"substrate": "ngram", "smoothing": "add", "add": 1e308, "corpus": "docs"}, "add"),
        ({"substrate": "ngram", "smoothing": "add", "add": 1e-320, "corpus": "docs"}, "add"),
    ],
    ids=str,
)
def test_what_no_number_can_hold_is_refused_beforehand(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        run(parse({"generations": 2, **given}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
