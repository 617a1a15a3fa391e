"""`lmcollapse export`: what the hub's own libraries make of the folders, and that it is what the run has."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import get_dataset_config_names, load_dataset
from huggingface_hub import DatasetCard, ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

from lmcollapse import cli, files
from lmcollapse.config import parse
from lmcollapse.export import Export, export
from lmcollapse.loop import run
from lmcollapse.parquet import read_born, read_corpus, read_part
from lmcollapse.types import UserError
from tests.tamper import edit, forge
from tests.test_verify import given
from tests.text import FEW_MEASURES
from tests.tiny import tiny

SMALL = {
    "substrate": "causal_lm",
    "generations": 3,
    "start": "previous",
    "compute": {"device": "cpu"},
    "train": {"block_size": 16, "steps": 2},
    "sampling": {"prompt": "human", "prompt_tokens": 4, "new_tokens": 16, "tokens": 700, "temperature": 0.9},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a pretrained model that each generation goes on training."""
    folder = tmp_path_factory.mktemp("export")
    model = str(tiny("llama", folder / "llama"))
    measures = {**FEW_MEASURES, "words": 100}
    return run(parse(given(folder, **SMALL, model=model, measures=measures)), folder / "a run")


@pytest.fixture(scope="module")
def exported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "out"
    export(finished, out, account="somebody")
    return out


@pytest.fixture(scope="module")
def urn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("urn")
    return run(parse(given(folder)), folder / "urn")


def facts(run: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / name / "step.json").read_text())["facts"]
    return found


def test_every_configuration_opens_with_the_rows_of_the_run(finished: Path, exported: Path, tmp_path: Path) -> None:
    folder, cache = str(exported / "corpora"), str(tmp_path / "cache")
    names = [f"generation_00{generation}" for generation in range(3)]
    assert get_dataset_config_names(folder) == [*names, "human", "human_rows"]
    for generation, name in enumerate(names):
        data = load_dataset(folder, name, split="train", cache_dir=cache)
        corpus = read_corpus(finished / name / "corpus/corpus.parquet")
        assert data["text"] == list(corpus.texts or ())
        assert data["tokens"] == [corpus.tokens(row).tolist() for row in range(len(corpus))]
        assert set(data["origin"]) == {"synthetic"} and set(data["generation"]) == {generation}
        assert data["row"] == corpus.row.tolist() and data["prompt"] == corpus.prompt.tolist()
        assert min(data["prompt"]) >= 0
        file = exported / "corpora/data" / f"{name}.parquet"
        assert read_born(file) == read_born(finished / name / "corpus/corpus.parquet") is not None
    for part in ("train", "heldout", "reserve"):
        documents = read_part(finished / f"human/{part}.parquet")
        data = load_dataset(folder, "human", split=part, cache_dir=cache)
        assert (data["text"], data["source"]) == (documents.texts, documents.sources)
    for part in ("train", "reserve"):
        rows = load_dataset(folder, "human_rows", split=part, cache_dir=cache)
        human = read_corpus(finished / f"rows/{part}.parquet")
        assert rows["text"] == list(human.texts or ())
        assert rows["row"] == human.row.tolist() and set(rows["origin"]) == {"human"}


def test_every_model_opens_and_is_the_one_of_the_run(finished: Path, exported: Path) -> None:
    for generation in range(3):
        name = f"generation_00{generation}"
        model = AutoModelForCausalLM.from_pretrained(exported / name)
        of_run = AutoModelForCausalLM.from_pretrained(finished / name / "model")
        tokenizer = AutoTokenizer.from_pretrained(exported / name)
        ids = tokenizer("ba do ki", return_tensors="pt").input_ids
        with torch.no_grad():
            assert torch.equal(model(ids).logits, of_run(ids).logits)
        assert not (exported / name / "step.json").exists()


def test_the_dataset_card_states_where_it_comes_from_in_the_fields_of_the_hub(finished: Path, exported: Path) -> None:
    card = DatasetCard.load(exported / "corpora/README.md")
    data = card.data.to_dict()
    assert {"synthetic", "model-collapse"} <= set(data["tags"])
    assert data["annotations_creators"] == ["machine-generated"]
    assert data["source_datasets"] == ["original"] and data["task_categories"] == ["text-generation"]
    rows = sum(facts(finished, f"generation_00{generation}/corpus")["rows"] for generation in range(3))
    assert rows < 1000 and data["size_categories"] == ["n<1K"]
    assert not {"license", "language"} & set(data), "nobody has said so"
    assert "written by language models" in card.text and "temperature" in card.text
    for generation in range(3):
        born = read_born(finished / f"generation_00{generation}/corpus/corpus.parquet")
        assert born is not None and f"seed {born['seed']}" in card.text
        assert data["lmcollapse"]["lineage"][generation]["sampled"] == born


def test_lineage_is_what_the_records_say(finished: Path, exported: Path) -> None:
    whole = DatasetCard.load(exported / "corpora/README.md").data.to_dict()["lmcollapse"]["lineage"]
    assert len(whole) == 3
    for generation, entry in enumerate(whole):
        folder = f"generation_00{generation}"
        train, model, corpus = (facts(finished, f"{folder}/{step}") for step in ("train", "model", "corpus"))
        trained = entry["trained_on"]
        origins = {-1: "human"} | {number: f"generation_00{number}" for number in range(3)}
        assert trained["origins"] == {origins[int(origin)]: rows for origin, rows in train["origins"].items()}
        assert (trained["rows"], trained["human_fraction"]) == (train["rows"], train["human_fraction"])
        assert trained["tokens"] == model["tokens"]
        assert trained["human_fraction_of_tokens"] == model["human_fraction_of_tokens"]
        assert entry["wrote"] == corpus
        card = ModelCard.load(exported / folder / "README.md")
        assert card.data.to_dict()["lmcollapse"]["lineage"] == whole[: generation + 1]
        for origin, rows in trained["origins"].items():
            assert f"{rows:,} rows of {origin}" in card.text
    assert [entry["start"] for entry in whole] == ["base", "previous", "previous"]


def test_model_cards_have_the_fields_of_the_hub_and_what_was_measured(finished: Path, exported: Path) -> None:
    measures = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    for generation in range(3):
        folder = f"generation_00{generation}"
        card = ModelCard.load(exported / folder / "README.md")
        data = card.data.to_dict()
        assert data["library_name"] == "transformers" and data["pipeline_tag"] == "text-generation"
        assert {"synthetic", "model-collapse"} <= set(data["tags"])
        assert data["datasets"] == ["somebody/a-run-corpora"]
        assert "license" not in data
        results = {result.metric_type: result for result in card.data.eval_results or ()}
        assert results["perplexity"].metric_value == measures[generation]["perplexity"]
        assert (results["perplexity"].dataset_config, results["perplexity"].dataset_split) == ("human", "heldout")
        assert results["distinct_2"].metric_value == measures[generation]["distinct_2"]
        assert results["distinct_2"].dataset_config == folder
        if generation:
            assert data["base_model"] == f"somebody/a-run-generation-00{generation - 1}"
            assert data["base_model_relation"] == "finetune"
        else:
            assert "base_model" not in data, "a local folder is nothing that the hub knows"
            assert json.loads((finished / "base/pretrained.json").read_text())["sha256"] in card.text


def test_no_card_tells_paths_of_this_machine(finished: Path, exported: Path) -> None:
    for card in exported.rglob("README.md"):
        assert str(finished.parent) not in card.read_text()


def test_what_the_hub_has_is_named_by_its_id(finished: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    forge(copy / "base/pretrained.json", lambda named: named.update(name="openai-community/gpt2", commit="c" * 40))
    corpus = {"kind": "datasets", "path": "Salesforce/wikitext"}
    edit(copy / "manifest.json", lambda m: m["config"].update(corpus=corpus) or m["human"].update(commits=["d" * 40]))
    out = tmp_path / "out"
    export(copy, out)
    first, second = (ModelCard.load(out / f"generation_00{g}/README.md").data.to_dict() for g in (0, 1))
    assert first["base_model"] == "openai-community/gpt2" and first["base_model_relation"] == "finetune"
    assert first["datasets"] == ["copy-corpora", "Salesforce/wikitext"]
    assert second["base_model"] == "copy-generation-000"
    assert DatasetCard.load(out / "corpora/README.md").data.source_datasets == ["Salesforce/wikitext"]
    forge(copy / "base/pretrained.json", lambda named: named.update(name="smollm2", commit=None))
    export(copy, out)
    card = ModelCard.load(out / "generation_000/README.md").data
    assert card.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_models_that_transformers_does_not_know_are_left_out(urn: Path, tmp_path: Path) -> None:
    made = export(urn, tmp_path / "out")
    assert [kind for _, _, kind in made.folders] == ["dataset"]
    assert "models are left out" in made.notes[0]
    data = load_dataset(str(tmp_path / "out/corpora"), "generation_001", split="train", cache_dir=str(tmp_path / "c"))
    assert data["text"] == list(read_corpus(urn / "generation_001/corpus/corpus.parquet").texts or ())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in files.files_in(folder)}


def test_an_export_may_be_made_again_and_replaces_only_what_is_its_own(urn: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(urn, out)
    before = contents(out)
    (out / "notes.txt").write_text("mine")
    export(urn, out)
    assert contents(out) == before | {str(out / "notes.txt"): b"mine"}
    export(urn, out, account="somebody")
    changed = {name for name, content in contents(out).items() if content != before.get(name)}
    assert changed == {str(out / name) for name in ("corpora/README.md", "export.json", "notes.txt")}
    shorter = Path(shutil.copytree(urn, tmp_path / "shorter"))
    files.remove(shorter / "generation_002/measures")
    export(shorter, out)
    assert not (out / "corpora/data/generation_002.parquet").exists()
    assert (out / "corpora/data/generation_001.parquet").exists() and (out / "notes.txt").exists()


@pytest.mark.parametrize("name", ["corpora/README.md", "corpora/data/generation_001.parquet"])
@pytest.mark.parametrize("earlier", [True, False])
def test_files_of_others_are_not_overwritten(urn: Path, tmp_path: Path, name: str, earlier: bool) -> None:
    out = tmp_path / "out"
    if earlier:
        export(urn, out)
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).write_text("mine")
    before = contents(out)
    with pytest.raises(UserError, match=r"is not what an export of this run wrote; move it away"):
        export(urn, out, account="somebody")
    assert contents(out) == before


def test_what_was_left_half_done_goes_on(urn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    export(urn, whole)
    real, done = files.flush, []

    def flush(path: Path) -> None:
        done.append(path)
        if len(done) == 3:
            raise KeyboardInterrupt
        real(path)

    monkeypatch.setattr(files, "flush", flush)
    with pytest.raises(KeyboardInterrupt):
        export(urn, out)
    monkeypatch.undo()
    assert not (out / "export.json").exists()
    export(urn, out)
    assert {name.removeprefix(str(out)): content for name, content in contents(out).items()} == {
        name.removeprefix(str(whole)): content for name, content in contents(whole).items()
    }


def refused(run: Path, tmp_path: Path, message: str, **more: Any) -> None:
    with pytest.raises(UserError, match=message) as error:
        export(run, **{"out": tmp_path / "out", **more})
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported_is_refused_before_anything_is_written(urn: Path, tmp_path: Path) -> None:
    chains = {"substrate": "gaussian", "generations": 3, "chains": 4, "rows": 20, "policy": "replace"}
    refused(run(parse(chains), tmp_path / "gaussian"), tmp_path, "run of chains")
    refused(tmp_path, tmp_path, "holds no run")
    refused(urn, tmp_path, "in the run directory", out=urn / "export")
    refused(urn, tmp_path, "no id of the hub", account="some body")
    copy = Path(shutil.copytree(urn, tmp_path / "copy"))
    (copy / "generation_001/corpus/corpus.parquet").write_bytes(b"damaged")
    refused(copy, tmp_path, r"corpus\.parquet not as recorded; `lmcollapse verify")
    files.remove(copy / "generation_000/measures")
    refused(copy, tmp_path, "no finished generation")
    damaged = Path(shutil.copytree(urn, tmp_path / "damaged"))
    edit(damaged / "generation_000/train/step.json", lambda record: record.update(facts={"origins": 3}))
    refused(damaged, tmp_path, "is damaged")


def test_the_commands_that_it_prints_are_hf_s_own(
    urn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out with blanks"
    cli.main(["export", str(urn), "--out", str(out), "--account", "somebody"])
    printed = capsys.readouterr().out
    command = next(line.strip() for line in printed.splitlines() if line.strip().startswith("hf "))
    assert shlex.split(command) == [
        *("hf", "upload", "somebody/urn-corpora", str(out / "corpora"), ".", "--repo-type", "dataset")
    ]
    help_of_hf = [sys.executable, "-m", "huggingface_hub.cli.hf", "upload", "--help"]
    known = subprocess.run(help_of_hf, capture_output=True, text=True, check=True).stdout
    assert "REPO_ID [LOCAL_PATH]" in known and "--repo-type" in known
    assert Export(((out, "urn-corpora", "dataset"),), ()).commands()[0].startswith("hf upload ACCOUNT/urn-corpora ")


def test_images_are_exported_as_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    from tests.test_vae import SMALL

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")
    out = run(parse({**SMALL, "generations": 1, "epochs": 1}), tmp_path / "pictures")
    made = export(out, tmp_path / "export")
    assert [kind for *_, kind in made.folders] == ["dataset"] and "substrate vae" in made.notes[0]
    rows = datasets.load_dataset(str(tmp_path / "export" / "corpora"), "generation_000")["train"]
    pixels = read_corpus(out / "generation_000" / "corpus" / "corpus.parquet").values
    assert (np.asarray(rows[3]["image"]) == pixels[3, ..., 0]).all() and rows[3]["origin"] == "synthetic"
    card = (tmp_path / "export" / "corpora" / "README.md").read_text()
    assert "unconditional-image-generation" in card and "150 images" in card


def test_a_population_is_exported_member_by_member(tmp_path: Path) -> None:
    from tests.test_regimes import members

    out = run(parse(members(tmp_path, "ring", generations=1)), tmp_path / "ring")
    with pytest.raises(UserError, match="is a population; export its members one by one"):
        export(out, tmp_path / "export")
    assert export(out / "member_01", tmp_path / "export").folders
