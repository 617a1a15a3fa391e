"""Folders, files and run directories from strangers: nothing that they bring is run, nothing outside is touched."""

from __future__ import annotations

import ast
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from lmcollapse.catalog import find, only_own
from lmcollapse.cli import main
from lmcollapse.config import load, recorded
from lmcollapse.export import export
from lmcollapse.files import write_json
from lmcollapse.loop import run
from lmcollapse.records import LOCK, RECORD, read_record
from lmcollapse.report import report
from lmcollapse.results import table
from lmcollapse.store import open_run
from lmcollapse.types import Silent, UserError
from tests.reported import STEERING, hostile, urn_run
from tests.tamper import edit, rehash, step_of
from tests.text import text_file
from tests.tiny import tiny

ROOT = Path(__file__).parent.parent


class Bomb:
    """Makes a file when it is read from a pickle."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.canary),)


CODE = "import os\nos.mkdir({canary!r})\nclass Evil: pass\n"
"""A module that makes a folder when it is imported."""


def called(*words: object) -> int:
    """The exit status of a command."""
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder."""
    return {
        str(file.relative_to(folder)): file.read_bytes() if file.is_file() and not file.is_symlink() else None
        for file in sorted(folder.rglob("*"))
    }


# models from strangers


def armed(folder: Path, canary: Path, how: str) -> Path:
    """A model folder that attacks whoever opens it."""
    tiny("gpt2", folder)
    weights = folder / "model.safetensors"
    if how == "pickle in the place of weights":
        weights.unlink()
        torch.save(Bomb(canary), folder / "pytorch_model.bin")
    elif how == "pickle by the name of safetensors":
        torch.save(Bomb(canary), weights)
    elif how == "pickle beside the weights":
        for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "tokenizer.pkl", "adapter_model.bin"):
            (folder / name).write_bytes(pickle.dumps(Bomb(canary)))
    elif how == "code of its own":
        (folder / "evil.py").write_text(CODE.format(canary=str(canary)))
        names = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]}
        for file in ("config.json", "tokenizer_config.json"):
            edit(folder / file, lambda content: content.update(auto_map=names, model_type="evil"))
    elif how in ("an index that leads to a pickle", "an index that leads elsewhere"):
        name = "shard.bin" if how.endswith("pickle") else "../elsewhere.safetensors"
        if how.endswith("pickle"):
            torch.save(Bomb(canary), folder / name)
        else:
            shutil.copy(weights, folder / name)
        keys = list(load_file(weights))
        weights.rename(folder / "another.safetensors")
        index = {"metadata": {}, "weight_map": dict.fromkeys(keys, name)}
        write_json(folder / "model.safetensors.index.json", index)
    elif how == "an adapter with a pickle":
        (folder / "adapter_model.bin").write_bytes(pickle.dumps(Bomb(canary)))
        write_json(
            folder / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": str(folder), "r": 1}
        )
    elif how == "a header that lies":
        content = bytearray(weights.read_bytes())
        content[:8] = (2**62).to_bytes(8, "little")
        weights.write_bytes(bytes(content))
    return folder


ATTACKS = (
    "pickle in the place of weights",
    "pickle by the name of safetensors",
    "pickle beside the weights",
    "code of its own",
    "an index that leads to a pickle",
    "an index that leads elsewhere",
    "an adapter with a pickle",
    "a header that lies",
)


@pytest.mark.parametrize("how", ATTACKS)
def test_no_command_runs_what_a_model_folder_brings(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    canary, text = tmp_path / "canary", text_file(tmp_path / "human.txt", count=60)
    model = armed(tmp_path / "model", canary, how)
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "config.yaml"
    given = {
        "generations": 1,
        "corpus": {"kind": "files", "path": str(text)},
        "model": {"name": str(model)},
        "train": {"steps": 1, "block_size": 32},
        "sampling": {"tokens": 200},
        "compute": {"device": "cpu"},
    }
    file.write_text(yaml.safe_dump(given))
    whole = how == "pickle beside the weights"
    judged = {**given, "model": {"name": "scratch", "layers": 1, "width": 16, "heads": 1, "vocabulary": 300}}
    judged |= {"train": {"steps": 1, "block_size": 32}, "scoring": {"judges": [str(model)]}}
    (tmp_path / "judged.yaml").write_text(yaml.safe_dump(judged))
    embedding = f"measures.mauve.embedding={model}"
    for words in (
        ("evaluate", model, "--text", text, "--json"),
        ("sample", model, "-n", "1"),
        ("run", file, "--out", tmp_path / "run", "--no-figures"),
        ("run", tmp_path / "judged.yaml", "--out", tmp_path / "judged", "--no-figures"),
        ("run", tmp_path / "judged.yaml", "scoring.judges=[]", embedding, "--out", tmp_path / "mauve", "--no-figures"),
        (
            "filter",
            text,
            "--human",
            text,
            "--out",
            tmp_path / "clean.jsonl",
            "--detector",
            "likelihood",
            f"judge={model}",
        ),
    ):
        status = called(*words)
        said = capsys.readouterr().err
        assert not canary.exists(), words
        assert "Traceback" not in said, (words, said)
        if words[0] in ("evaluate", "sample") or words[1] == file:
            assert status == (0 if whole else 2), (words, said)
            assert whole or said.count("\n") == 1, said
        # so little text has no MAUVE, whatever it would be embedded by
        assert whole or status == 2 or embedding in words, (words, said)
    if not whole:
        assert not (tmp_path / "run").exists()


def changed(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """A change of a JSON file in a model folder."""
    return lambda folder: edit(folder / name, change)


LIES: dict[str, tuple[Callable[[Path], None], str]] = {
    "attention from the hub": (
        changed("config.json", lambda c: c.update(_attn_implementation="evil/kernel")),
        "fetch and run code",
    ),
    "attention from the hub, further in": (
        changed("config.json", lambda c: c.update(text_config={"attn_implementation": "kernels-community/x"})),
        "fetch and run code",
    ),
    "layers without end": (changed("config.json", lambda c: c.update(n_layer=10**9)), "n_layer 1,000,000,000"),
    "fewer layers than none": (changed("config.json", lambda c: c.update(n_layer=-1)), "n_layer -1"),
    "no heads": (changed("config.json", lambda c: c.update(n_head=0)), "cannot be loaded"),
    "a width that is a list": (changed("config.json", lambda c: c.update(n_embd=[1])), "cannot be loaded"),
    "nested without end": (lambda folder: (folder / "config.json").write_text("[" * 10**5), "cannot be loaded"),  # type: ignore[dict-item]
    "ids below zero": (changed("tokenizer.json", lambda c: c["model"]["vocab"].update(a=-5)), "cannot be loaded"),
    "ids beyond all": (changed("tokenizer.json", lambda c: c["model"]["vocab"].update(a=4 * 10**9)), "beyond 31 bits"),
    "ids that the model lacks": (
        changed("tokenizer.json", lambda c: c["model"]["vocab"].update(a=5000)),
        "token 5,000",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_model_folder_that_lies_is_refused(
    lie: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is fetched, built or waited for without end on the word of its configuration."""
    monkeypatch.setattr("transformers.integrations.hub_kernels.get_kernel", lambda *_, **__: pytest.fail("fetched"))
    change, message = LIES[lie]
    model, text = tiny("gpt2", tmp_path / "model"), text_file(tmp_path / "human.txt", count=60)
    change(model)
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump(
            {
                "generations": 1,
                "corpus": {"kind": "files", "path": str(text)},
                "model": {"name": str(model)},
                "train": {"steps": 1, "block_size": 32},
                "compute": {"device": "cpu"},
            }
        )
    )
    began = time.monotonic()
    for words in (
        ("evaluate", model, "--text", text),
        ("run", tmp_path / "c.yaml", "--out", tmp_path / "run", "--no-figures"),
    ):
        capsys.readouterr()
        assert called(*words) == 2, words
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lmcollapse: ")]
        assert len(said) == 1 and message in said[0], said
    assert time.monotonic() - began < 60 and not (tmp_path / "run").exists()


def test_code_of_a_model_runs_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack above is one: by the flag it comes through."""
    canary = tmp_path / "canary"
    model = armed(tmp_path / "model", canary, "code of its own")
    text = text_file(tmp_path / "human.txt", count=60)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "lmcollapse", "evaluate", str(model), "--text", str(text), "--trust-remote-code"]
    subprocess.run(words, capture_output=True, check=False, env=environment, cwd=tmp_path)
    assert canary.exists()


# corpora from strangers


@pytest.mark.parametrize("name", ["evil.py", "data.pkl", "state.json", "dataset.arrow"])
def test_no_data_set_runs_code(name: str, tmp_path: Path) -> None:
    """Beside a file that can be read, so that the folder is opened."""
    canary, folder = tmp_path / "canary", tmp_path / "evil"
    folder.mkdir()
    text = [{"text": text} for text in text_file(tmp_path / "human.txt", count=60).read_text().split("\n\n")]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in text))
    (folder / name).write_bytes(pickle.dumps(Bomb(canary)))
    if name == "evil.py":
        (folder / name).write_text(CODE.format(canary=str(canary)))
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"substrate": "ngram", "corpus": {"kind": "datasets", "path": str(folder)}}))
    status = called("run", file, "--out", tmp_path / "run", "--no-figures")
    assert not canary.exists() and status in (0, 2)


def test_arrays_of_chains_are_no_pickles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, canary = tmp_path / "config.yaml", tmp_path / "canary"
    file.write_text("substrate: gaussian\ngenerations: 20\nchains: 4\nrows: 10\n")
    out = run(load(file), tmp_path / "run")
    arrays = sorted(out.rglob("*.safetensors"))
    assert arrays
    for array in arrays:
        with array.open("wb") as stream:
            np.save(stream, np.array([Bomb(canary)], dtype=object), allow_pickle=True)
        rehash(step_of(array))
    capsys.readouterr()
    assert called("plot", out, "--out", tmp_path / "figures") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "safetensors: damaged" in said and not canary.exists(), said


FORBIDDEN = re.compile(
    r"pickle\.|joblib|dill|cloudpickle|torch\.(load|save|jit\.load)|os\.(system|popen)|(eval|exec|__import__)$|"
    r"yaml\.(load_all|unsafe_load|full_load)|\w+\.extractall"
)


def test_the_package_calls_nothing_that_runs_what_it_reads() -> None:
    """Whatever is read as a pickle, unpacked or run in a shell is called by its name somewhere."""
    calls = 0
    for file in sorted((ROOT / "lmcollapse").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not names & {"pickle", "joblib", "dill", "cloudpickle", "marshal", "shelve"}, (file, node.lineno)
            elif isinstance(node, ast.Call):
                calls += 1
                assert not FORBIDDEN.match(ast.unparse(node.func)), (file, node.lineno)
                for keyword in node.keywords:
                    true = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
                    assert not (true and keyword.arg in ("shell", "allow_pickle", "trust_remote_code")), (
                        file,
                        node.lineno,
                    )
    assert calls > 5000


# run directories from strangers


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A canary that a module `stranger` makes when it is imported, which it can be."""
    canary = tmp_path / "canary"
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "stranger.py").write_text(CODE.format(canary=str(canary)))
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    return canary


@pytest.mark.parametrize("what", ["substrate", "policy", "corpus", "measures"])
def test_looking_at_a_run_imports_nothing_that_it_names(what: str, evil: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("substrate: gaussian\ngenerations: 5\nchains: 4\nrows: 10\n")
    out = run(load(file), tmp_path / "run")
    named: dict[str, Any] = {
        "substrate": "stranger:Evil",
        "policy": {"kind": "stranger:Evil"},
        "corpus": {"kind": "stranger:Evil"},
        "measures": {"stranger:Evil": {}},
    }
    edit(out / "manifest.json", lambda manifest: manifest["config"].update({what: named[what]}))
    for words in (
        ("status", tmp_path),
        ("plot", out, "--out", tmp_path / "figures"),
        ("report", out, "--out", tmp_path / "report.html"),
        ("verdicts", out),
        ("verify", out),
        ("export", out, "--out", tmp_path / "export"),
        ("sample", out / "generation_000"),
    ):
        called(*words)
        assert not evil.exists(), words
    with pytest.raises(UserError), only_own():
        find("substrate", "stranger:Evil")
    with pytest.raises(UserError):
        recorded({"substrate": "stranger:Evil"})
    assert not evil.exists()
    find("substrate", "stranger:Evil")  # a configuration of one's own may
    assert evil.exists()


@pytest.mark.parametrize("name", ["../../../outside/precious", "{outside}/precious"])
def test_a_record_cannot_name_files_elsewhere(name: str, tmp_path: Path) -> None:
    """Pruning removes what a record names."""
    precious = tmp_path / "outside" / "precious"
    precious.parent.mkdir()
    precious.write_text("mine")
    out = urn_run(tmp_path, tmp_path / "runs" / "run", policy="replace")
    step = out / "generation_001" / "model"
    edit(step / RECORD, lambda record: record.update(pruned=True, files={name.format(outside=precious.parent): "0"}))
    assert read_record(step) is None
    with open_run(out, Silent()) as opened:
        opened.prune("generation_001/model")
    assert precious.read_text() == "mine"
    urn_run(tmp_path, out, policy="replace")
    assert precious.read_text() == "mine" and read_record(step) is not None


@pytest.mark.parametrize(
    "what", ["generation_001", "generation_001/model", "human", "base", LOCK, "generation_001/corpus/corpus.parquet"]
)
def test_links_do_not_lead_out_of_a_run(what: str, tmp_path: Path) -> None:
    out, outside = urn_run(tmp_path, tmp_path / "run", policy="replace"), tmp_path / "outside"
    before = {line: (out / line).read_bytes() for line in ("metrics.jsonl",)}
    if (out / what).is_dir():
        shutil.move(out / what, outside)
        # of what was moved away something is damaged, so that it would be made again
        victim = next(file for file in sorted(outside.rglob("*")) if file.is_file() and file.name != RECORD)
        victim.write_bytes(b"mine")
        (outside / "mine").write_text("mine")
    else:
        (out / what).unlink()
        outside.write_text("mine")
    (out / what).symlink_to(outside)
    there = snapshot(outside) if outside.is_dir() else outside.read_bytes()
    try:
        urn_run(tmp_path, out, policy="replace")
    except UserError as error:
        assert "link" in str(error) and "\n" not in str(error)
    else:
        assert not (out / what).is_symlink() and (out / "metrics.jsonl").read_bytes() == before["metrics.jsonl"]
    assert there == (snapshot(outside) if outside.is_dir() else outside.read_bytes())


def test_a_link_in_a_model_is_not_exported(tmp_path: Path) -> None:
    """Records of fits are in no hash, since they tell times: a link by such a name would bring a secret to the hub."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    out = urn_run(tmp_path, tmp_path / "run", policy="replace")
    step = out / "generation_000" / "corpus"
    edit(step / RECORD, lambda record: record.update(logs=["fit.jsonl"]))
    (step / "fit.jsonl").symlink_to(secret)
    with pytest.raises(UserError, match=r"fit\.jsonl"):
        export(out, tmp_path / "export")
    assert not (tmp_path / "export").exists()


# configurations


@pytest.mark.parametrize(
    "text",
    [
        "seed: !!python/object/apply:os.mkdir [{canary}]",
        "!!python/object/new:os.mkdir [{canary}]: 1",
        "seed: !!python/name:os.mkdir",
        "extends: !!python/object/apply:os.mkdir [{canary}]",
    ],
)
def test_yaml_makes_no_objects(text: str, tmp_path: Path) -> None:
    canary, file = tmp_path / "canary", tmp_path / "config.yaml"
    file.write_text(text.format(canary=canary))
    with pytest.raises(UserError, match="not valid YAML"):
        load(file)
    with pytest.raises(UserError):
        load(ROOT / "configs" / "gaussian.yaml", [f"seed=!!python/object/apply:os.mkdir [{canary}]"])
    assert not canary.exists()


# what is shown


def test_no_command_lets_a_run_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = hostile(tmp_path)
    edit(out / "manifest.json", lambda manifest: manifest.update(condition="[/] [red]a\x1b]52;c;eA==\x07[/red] \x9b2J"))
    for words in (
        ("status", tmp_path),
        ("plot", out, "--out", tmp_path / "figures"),
        ("report", out, "--out", tmp_path / "report.html"),
        ("verdicts", out),
        ("verify", out),
        ("export", out, "--out", tmp_path / "export"),
        ("measure", out / "generation_000", "--reference", out),
        ("evaluate", out / "generation_000", "--text", tmp_path / "a\x1b[2Jb"),
        ("sample", out / "generation_000"),
    ):
        assert called(*words) in (0, 1, 2), words
        shown = capsys.readouterr()
        steering = re.findall(STEERING, (shown.out + shown.err).replace("\t", " "))
        assert not steering and "Traceback" not in shown.err, (words, steering)


def test_figures_and_pages_of_a_hostile_run_are_drawn(tmp_path: Path) -> None:
    out = hostile(tmp_path)
    assert report([out], tmp_path / "report.html").is_file() and len(table([out]))


# the document


def test_every_threat_in_the_document_names_tests_that_are_there() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| threat", "|--"))]
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"`([\w./]+)::(\w+)`", row.rpartition("|")[0].rpartition("|")[2])
        assert named, row
        for file, test in named:
            source = (ROOT / "tests" / file).read_text(encoding="utf-8")
            assert re.search(rf"^def {test}\(", source, re.MULTILINE), (file, test)
