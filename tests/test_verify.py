"""`lmcollapse verify`: a clean run passes, and whatever is tampered with is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmcollapse import cli, files
from lmcollapse.config import parse
from lmcollapse.loop import run
from lmcollapse.parquet import read_born, read_corpus, read_human, write_corpus, write_human
from lmcollapse.records import content_digest
from lmcollapse.types import Documents, Images, UserError
from lmcollapse.verify import verify
from tests.tamper import edit, rehash
from tests.text import text_file
from tests.tiny import tiny
from tests.urn import urn_config

GENERATIONS = 3


def given(folder: Path, **changes: Any) -> dict[str, Any]:
    usual = urn_config(folder, generations=GENERATIONS, policy={"kind": "mix", "human_fraction": 0.3})
    usual["corpus"]["reserve_words"] = 1500
    return {**usual, **changes}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    return run(parse(given(folder)), folder / "run")


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(file): (file.read_bytes(), file.stat().st_mtime_ns) for file in files.files_in(folder)}


def edit_table(file: Path, **columns: Callable[[list[Any]], list[Any]]) -> None:
    table = pq.read_table(file)
    for name, change in columns.items():
        field = table.schema.field(name)
        values = pa.array(change(table.column(name).to_pylist()), field.type)
        table = table.set_column(table.schema.get_field_index(name), field, values)
    pq.write_table(table, file, compression="zstd")


def one_word_more(texts: list[str]) -> list[str]:
    return [texts[0] + " word", *texts[1:]]


def test_a_clean_run_verifies_and_is_left_as_it_was(finished: Path) -> None:
    before = contents(finished)
    found = verify(finished)
    assert found.mismatches == () and found.notes == ()
    assert found.checked["steps"] == 4 + 5 * GENERATIONS
    assert found.checked["training sets"] == found.checked["rows of the table"] == GENERATIONS
    recorded = [json.loads(file.read_text()) for file in finished.rglob("step.json")]
    assert found.checked["links"] == sum(len(record["ingredients"]["inputs"]) for record in recorded)
    assert found.lines()[-1].endswith("all as recorded")
    assert contents(finished) == before


def tampered(copy: Path, change: Callable[[Path], None]) -> list[str]:
    change(copy)
    found = verify(copy)
    assert found.mismatches
    assert found.lines()[-1].endswith(f"{len(found.mismatches):,} things do not match")
    return found.lines()


def corpus_with_a_word_more(run: Path) -> None:
    edit_table(run / "generation_001/corpus/corpus.parquet", text=one_word_more)


def corpus_and_its_record(run: Path) -> None:
    corpus_with_a_word_more(run)
    rehash(run / "generation_001/corpus")


def swapped_selection(run: Path) -> None:
    one, two = (run / f"generation_00{g}/train/selection.parquet" for g in (1, 2))
    here, there = one.read_bytes(), two.read_bytes()
    one.write_bytes(there)
    two.write_bytes(here)
    rehash(one.parent)
    rehash(two.parent)


def one_human_row_less(run: Path) -> None:
    def change(origins: list[int]) -> list[int]:
        return [0, *origins[1:]]

    edit_table(run / "generation_001/train/selection.parquet", generation=change)
    rehash(run / "generation_001/train")


def row_that_is_not_there(run: Path) -> None:
    edit_table(run / "generation_002/train/selection.parquet", row=lambda rows: [10**6, *rows[1:]])


def row_of_a_later_generation(run: Path) -> None:
    edit_table(run / "generation_001/train/selection.parquet", generation=lambda origins: [*origins[1:], 2])


def human_text(run: Path) -> None:
    human = read_human(run / "human")
    train = Documents(one_word_more(human.train.texts), human.train.sources)
    write_human(replace(human, train=train), run / "human")
    rehash(run / "human")


def heldout_document_in_training(run: Path) -> None:
    human = read_human(run / "human")
    texts = [human.heldout.texts[0].upper(), *human.train.texts[1:]]
    write_human(replace(human, train=Documents(texts, human.train.sources)), run / "human")


def heldout_row_in_training(run: Path) -> None:
    heldout = read_human(run / "human").heldout.texts[0]
    edit_table(run / "rows/train.parquet", text=lambda texts: [heldout, *texts[1:]])


def origin_of_a_row(run: Path) -> None:
    edit_table(run / "generation_000/corpus/corpus.parquet", origin=lambda marks: ["human", *marks[1:]])


def generation_of_a_row(run: Path) -> None:
    edit_table(run / "generation_000/corpus/corpus.parquet", generation=lambda numbers: [1, *numbers[1:]])


def seed_in_a_corpus(run: Path) -> None:
    file = run / "generation_002/corpus/corpus.parquet"
    born = read_born(file)
    assert born is not None
    write_corpus(read_corpus(file), file, born | {"seed": 1})


def sampling_in_a_corpus(run: Path) -> None:
    file = run / "generation_002/corpus/corpus.parquet"
    born = read_born(file)
    assert born is not None
    write_corpus(read_corpus(file), file, born | {"sampling": {"temperature": 2.0}})


def share_in_a_record(run: Path) -> None:
    edit(run / "generation_001/train/step.json", lambda record: record["facts"].update(human_fraction=0.5))


def token_share_in_a_record(run: Path) -> None:
    edit(run / "generation_001/model/step.json", lambda r: r["facts"].update(human_fraction_of_tokens=0.5))


def seed_in_a_record(run: Path) -> None:
    edit(run / "generation_001/model/step.json", lambda record: record["ingredients"].update(seed=5))


def policy_in_the_manifest(run: Path) -> None:
    edit(run / "manifest.json", lambda manifest: manifest["config"]["policy"].update(human_fraction=0.6))


def fingerprint_in_the_manifest(run: Path) -> None:
    edit(run / "manifest.json", lambda manifest: manifest["human"]["heldout"].update(sha256="0" * 64))


def number_in_the_table(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows[1]["perplexity"] *= 0.9
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def line_of_the_table(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join([*lines, lines[-1]]))


TAMPERING = [
    (corpus_with_a_word_more, "generation_001/corpus/corpus.parquet: SHA-256"),
    (corpus_and_its_record, "generation_001/corpus: content digest that generation_001/scores and 5 more steps were"),
    (swapped_selection, "generation_002/train: content digest that generation_002/model and 1 more steps"),
    (one_human_row_less, "generation_001/train/step.json: human_fraction: found 0.3"),
    (row_that_is_not_there, "generation_002/train/selection.parquet: rows of origin -1 that do not exist: found 1"),
    (row_of_a_later_generation, "train/selection.parquet: rows of generation 2, of which there is no corpus: found 1"),
    (human_text, "human/train.parquet: sha256 (manifest.json)"),
    (heldout_document_in_training, "human/train.parquet: rows that are in heldout.parquet, too: found 1"),
    (heldout_row_in_training, "generation_000/train/selection.parquet: human rows that are held out: found 1"),
    (origin_of_a_row, "corpus/corpus.parquet: rows that are not marked synthetic: found 1, expected 0"),
    (generation_of_a_row, "generation_000/corpus/corpus.parquet: rows of another generation: found 1, expected 0"),
    (seed_in_a_corpus, "generation_002/corpus/corpus.parquet: seed in its metadata: found 1"),
    (
        sampling_in_a_corpus,
        "generation_002/corpus/corpus.parquet: sampling in its metadata: found {'temperature': 2.0}",
    ),
    (share_in_a_record, "generation_001/train/step.json: human_fraction: found 0.5"),
    (token_share_in_a_record, "generation_001/model/step.json: human_fraction_of_tokens: found 0.5"),
    (seed_in_a_record, "generation_001/model/step.json: seed: found 5"),
    (policy_in_the_manifest, "generation_001/train/step.json: option human_fraction: found 0.3, expected 0.6"),
    (fingerprint_in_the_manifest, "human/heldout.parquet: sha256 (manifest.json)"),
    (number_in_the_table, "metrics.jsonl line 2: perplexity"),
    (line_of_the_table, "metrics.jsonl: generations: found 4, expected 3"),
]


@pytest.mark.parametrize(("change", "line"), TAMPERING, ids=lambda value: getattr(value, "__name__", ""))
def test_what_was_tampered_with_is_named(copy: Path, change: Callable[[Path], None], line: str) -> None:
    lines = tampered(copy, change)
    assert any(line in found for found in lines), "\n".join(lines)


def test_a_corpus_hashed_anew_is_told_by_the_chain_alone(copy: Path) -> None:
    """Its own record fits it; what shows is that its readers were made from another one."""
    lines = tampered(copy, corpus_and_its_record)
    assert len(lines) == 2 and lines[0].startswith("generation_001/corpus: content digest")


@pytest.mark.parametrize(
    "name", ["generation_001/corpus/note.txt", "generation_001/note.txt", "human/note.txt", "base/inner/note.txt"]
)
def test_an_extra_file_is_found(copy: Path, name: str) -> None:
    def add(run: Path) -> None:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("hello")

    lines = tampered(copy, add)
    assert lines[0].startswith(f"{name}: "), lines


def test_every_deleted_file_is_found(finished: Path, copy: Path) -> None:
    names = [str(file.relative_to(copy)) for file in files.files_in(copy) if not file.name.startswith(".")]
    for name in names:
        (copy / name).unlink()
        found = verify(copy)
        assert any(name in line or str(Path(name).parent) in line for line in found.lines()), name
        assert found.mismatches or name == "metrics.jsonl"
        shutil.copy(finished / name, copy / name)
    assert not verify(copy).mismatches


def test_a_deleted_step_and_a_deleted_table_are_found(finished: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("generation_000/corpus", "generation_002", "rows", "metrics.jsonl")):
        copy = Path(shutil.copytree(finished, tmp_path / str(number)))
        files.remove(copy / name)
        assert verify(copy).mismatches, name


def test_no_damage_ends_in_a_traceback(finished: Path, copy: Path) -> None:
    """Every file cut, replaced by other bytes, by other JSON, and by another parquet file."""
    other = copy.parent / "other.parquet"
    columns = ("text", "source", "tokens", "origin", "generation", "row", "prompt", "nats")
    pq.write_table(pa.table({name: [None, "x"] for name in columns}), other)
    names = [str(file.relative_to(copy)) for file in files.files_in(copy) if not file.name.startswith(".")]
    for name in names:
        whole = (copy / name).read_bytes()
        for bad in (
            b"",
            whole[: len(whole) // 2],
            b"\xff\xfe" + whole,
            b"[[1, 2]]",
            b'{"format": 1}',
            other.read_bytes(),
        ):
            (copy / name).write_bytes(bad)
            assert any(name in str(mismatch) for mismatch in verify(copy).mismatches), (name, bad[:10])
        (copy / name).write_bytes(whole)


def test_records_with_other_types_end_in_no_traceback(copy: Path) -> None:
    for name in ("human", "rows", "generation_001/train", "generation_001/model", "generation_001/corpus"):
        file = copy / name / "step.json"
        whole = file.read_text()
        for key in ("ingredients", "facts", "files", "logs"):
            for value in (None, [], [1], {"inputs": 3}, {"rows": "many", "generations": 1}, {"a": 1}, "text"):
                record = json.loads(whole)
                record[key] = value
                file.write_text(json.dumps(record))
                assert bool(verify(copy).mismatches) == (record != json.loads(whole)), (name, key, value)
        file.write_text(whole)


@pytest.mark.parametrize("steps", [0, 1, 3, 6, 8, 12, 13])
def test_a_killed_run_is_verified_as_far_as_it_goes(
    tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = files.write_json, []

    def write_json(file: Path, value: Any) -> None:
        if file.name == "step.json":
            made.append(file)
            if len(made) > steps:
                raise KeyboardInterrupt
        real(file, value)

    monkeypatch.setattr(files, "write_json", write_json)
    with pytest.raises(KeyboardInterrupt):
        run(parse(given(tmp_path)), tmp_path / "run")
    (tmp_path / "run" / "generation_001").mkdir(exist_ok=True)
    (tmp_path / "run" / "generation_001" / ".corpus.partial").mkdir()
    (tmp_path / "run" / "generation_001" / ".corpus.partial" / "corpus.parquet").write_bytes(b"half")
    found = verify(tmp_path / "run")
    assert found.mismatches == ()
    assert found.checked["steps"] == steps


def test_a_table_that_lags_behind_by_a_generation_is_a_note(copy: Path) -> None:
    lines = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_text("".join(lines[:-1]))
    found = verify(copy)
    assert not found.mismatches and "lacks the newest generation" in found.notes[0]
    (copy / "metrics.jsonl").write_text("".join(lines[:-2]))
    assert verify(copy).mismatches


def test_a_run_of_chains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmcollapse.chains.SPAN", 40 * 20 * 5)
    chains = {"substrate": "gaussian", "generations": 12, "chains": 40, "rows": 20, "policy": "replace"}
    out = run(parse(chains), tmp_path / "run")
    found = verify(out)
    assert found.mismatches == () and found.checked["steps"] == 4 and found.checked["rows of the table"] == 12
    edit(out / "generations_000005/summary.json", lambda rows: rows[2].update(variance=2.0))
    rehash(out / "generations_000005")
    lines = verify(out).lines()
    assert any(line.startswith("generations_000005: content digest that generations_000010 was") for line in lines)
    assert any(line.startswith("metrics.jsonl line 8: variance") for line in lines)


def test_a_run_of_chains_that_reads_text(tmp_path: Path) -> None:
    corpus = {"kind": "files", "path": str(text_file(tmp_path / "human.txt"))}
    chains = {"substrate": "discrete", "distribution": "corpus", "generations": 4, "chains": 4, "rows": 200}
    out = run(parse({**chains, "corpus": corpus, "policy": "replace"}), tmp_path / "run")
    assert verify(out).mismatches == ()
    human_text(out)
    lines = verify(out).lines()
    assert any(line.startswith("human: content digest that generations_000000 was") for line in lines)


def test_a_pretrained_model_is_hashed_where_it_is_found(tmp_path: Path) -> None:
    model = tiny("gpt2", tmp_path / "gpt2")
    changes = {
        "substrate": "causal_lm",
        "model": str(model),
        "start": "previous",
        "generations": 2,
        "compute": {"device": "cpu"},
        "train": {"block_size": 16, "steps": 2},
        "sampling": {"prompt": "previous", "prompt_tokens": 4, "tokens": 500},
    }
    out = run(parse(given(tmp_path, **changes)), tmp_path / "run")
    found = verify(out)
    assert found.mismatches == () and found.notes == () and found.checked["pretrained models"] == 1
    born = read_born(out / "generation_001/corpus/corpus.parquet")
    record = json.loads((out / "generation_001/corpus/step.json").read_text())
    model_record = json.loads((out / "generation_001/model/step.json").read_text())
    assert born is not None and born["seed"] == record["ingredients"]["seed"]
    assert born["model"] == content_digest(model_record["files"])
    configured = json.loads((out / "manifest.json").read_text())["config"]["sampling"]
    decided = record["ingredients"]["options"]["sampling"]
    assert born["sampling"] == configured and configured["batch_size"] is None
    assert {key for key in decided if decided[key] != configured[key]} == {"batch_size"}
    edit_table(out / "generation_001/corpus/corpus.parquet", prompt=lambda prompts: [10**6, *prompts[1:]])
    assert any("rows with a prompt that does not exist: found 1" in line for line in verify(out).lines())
    tiny("gpt2", model, seed=1)
    assert any(line.startswith(f"weights of '{model}': SHA-256") for line in verify(out).lines())
    shutil.rmtree(model)
    assert verify(out).notes == (f"the weights of the pretrained model '{model}' are not on this machine: not checked",)


def test_what_wrote_a_corpus_is_in_the_file_and_the_bytes_are_the_same_again(finished: Path, tmp_path: Path) -> None:
    file = finished / "generation_001/corpus/corpus.parquet"
    write_corpus(read_corpus(file), tmp_path / "again.parquet", read_born(file))
    assert (tmp_path / "again.parquet").read_bytes() == file.read_bytes()
    born = read_born(file)
    assert born is not None and born["generation"] == 1
    assert born["sampling"] == {"urn": {"row_words": 20, "smoothing": 0.0}, "workers": None}
    assert read_born(finished / "rows/train.parquet") is None
    assert np.array_equal(read_corpus(file).row, np.arange(len(read_corpus(file))))


def test_the_command_says_it_and_exits_with_1(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["verify", str(copy)])
    assert "all as recorded" in capsys.readouterr().out
    number_in_the_table(copy)
    with pytest.raises(SystemExit) as end:
        cli.main(["verify", str(copy), "--json"])
    assert end.value.code == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["matches"] and found["mismatches"][0]["what"] == "perplexity"


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "notes.txt"):
        with pytest.raises(UserError, match="holds no run"):
            verify(path)
    with pytest.raises(SystemExit) as end:
        cli.main(["verify", str(tmp_path)])
    assert end.value.code == 2


def test_another_format_is_refused(copy: Path) -> None:
    edit(copy / "manifest.json", lambda manifest: manifest.update(format=0))
    with pytest.raises(UserError, match="has format 0"):
        verify(copy)


# --- runs of other kinds ---------------------------------------------------------------------------------------------


def run_of(kind: str, folder: Path) -> Path:
    from tests.test_detectors import unlabelled
    from tests.test_regimes import language_model, members
    from tests.test_vae import SMALL

    kinds: dict[str, dict[str, Any]] = {
        "images": {**SMALL, "generations": 2, "epochs": 1},
        "images, fresh": {**SMALL, "generations": 2, "epochs": 1, "policy": {"kind": "fresh", "human_fraction": 0.5}},
        "ring": members(folder, "ring"),
        "shared": members(folder, "shared", policy="accumulate"),
        "curated": language_model(folder, curation={"kind": "length", "candidates": 2}),
        "edited": language_model(folder, sampling={"edit_above": 0.05}),
        "unlabelled": unlabelled(folder),
    }
    return run(parse(kinds[kind]), folder / "run")


@pytest.mark.parametrize("kind", ["images", "images, fresh", "ring", "shared", "curated", "edited", "unlabelled"])
def test_runs_of_every_kind_verify(kind: str, tmp_path: Path) -> None:
    out = run_of(kind, tmp_path)
    found = verify(out)
    assert found.mismatches == (), found.lines()[:5]
    assert found.checked["rows"] > 0 and found.checked["training sets"] > 0


def test_tampering_with_runs_of_other_kinds_is_found(tmp_path: Path) -> None:
    def with_other_rows(file: Path) -> None:
        table = pq.read_table(file)
        pq.write_table(table.take(list(range(len(table)))[::-1]), file, compression="zstd")
        rehash(file.parent)

    (tmp_path / "a").mkdir()
    curated = run_of("curated", tmp_path / "a")
    edit_table(curated / "generation_001/corpus/chosen.parquet", candidate=lambda rows: [*rows[1:], rows[0] ^ 1])
    rehash(curated / "generation_001/corpus")
    assert any("against the candidates" in line for line in verify(curated).lines())
    (tmp_path / "b").mkdir()
    shared = run_of("shared", tmp_path / "b")
    with_other_rows(shared / "member_01/generation_000/pool/corpus.parquet")
    lines = verify(shared).lines()
    assert any(line.startswith("member_01/generation_000/pool") for line in lines)
    assert not any(line.startswith("member_00") for line in lines)
    (tmp_path / "c").mkdir()
    ring = run_of("ring", tmp_path / "c")
    with_other_rows(ring / "member_00/generation_000/corpus/corpus.parquet")
    lines = verify(ring).lines()
    assert any(line.startswith("member_00/generation_000/corpus") for line in lines)
    assert any(line.startswith("member_01/../member_00/generation_000/corpus") for line in lines), (
        "its neighbour read it"
    )
    (tmp_path / "d").mkdir()
    images = run_of("images", tmp_path / "d")
    human = read_human(images / "human")
    pixels = human.train.pixels.copy()
    pixels[0, 0, 0] ^= 255
    write_human(replace(human, train=Images(pixels, human.train.sources)), images / "human")
    rehash(images / "human")
    assert any("human/train.parquet: sha256" in line for line in verify(images).lines())


def test_what_no_later_step_is_made_from_is_missed_all_the_same(tmp_path: Path) -> None:
    config = parse({"substrate": "gaussian", "generations": 3, "chains": 4, "rows": 20})
    out = run(config, tmp_path / "run")
    assert not verify(out).mismatches
    shutil.rmtree(out / "reference")
    assert ["reference" in str(each) for each in verify(out).mismatches] == [True]
