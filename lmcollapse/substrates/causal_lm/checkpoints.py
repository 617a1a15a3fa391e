"""Model folders of a run: the base that is prepared once, where a fit starts, and what it leaves."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from transformers import AutoConfig, PreTrainedModel

from lmcollapse import smollm2
from lmcollapse.files import expanded
from lmcollapse.records import HISTORY
from lmcollapse.substrates.causal_lm.models import (
    LanguageModel,
    boundaries,
    fresh,
    load_pretrained,
    quietly,
    read_module,
    read_tokenizer,
    scratch_config,
    train_tokenizer,
)
from lmcollapse.substrates.causal_lm.options import ModelOptions
from lmcollapse.types import Documents, Start, UserError

PRETRAINED = "pretrained.json"
"""Stands for the weights in the base folder of a pretrained model: name, revision and SHA-256."""


def prepare(options: ModelOptions, positions: int, text: Documents, folder: Path, seed: int) -> None:
    """Write the base: tokenizer and configuration, with the initial weights of a scratch model.

    The weights of a pretrained model stay where they are and are named, with their hash, in `pretrained.json`.
    """
    if options.is_scratch:
        vocabulary = options.shape().vocabulary
        assert vocabulary is not None
        tokenizer = train_tokenizer(text.texts, vocabulary)
        config = scratch_config(options, len(tokenizer), positions, end=boundaries(tokenizer)[1])
        save(LanguageModel(fresh(config, seed), tokenizer), folder)
        return
    model = load_pretrained(options)
    model.module.config.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    named = {
        "name": options.name,
        "revision": options.revision,
        "commit": getattr(model.module.config, "_commit_hash", None),
    }
    (folder / PRETRAINED).write_text(json.dumps(named | {"sha256": digest(model.module)}, indent=2) + "\n", "utf-8")


def starting_point(
    options: ModelOptions, base: Path, start: Start, previous: Path | None, seed: int
) -> PreTrainedModel:
    """The model that a fit starts from.

    start : `base` for the weights of the base model, `previous` for those in the folder `previous`, `scratch` for
        random weights that follow from `seed`.
    """
    if start == "previous":
        assert previous is not None, "start: previous needs the previous model"
        return read_module(_local(previous, options))
    if start == "scratch":
        trust = options.trust_remote_code
        return fresh(AutoConfig.from_pretrained(base, trust_remote_code=trust), seed, trust)
    if options.is_scratch:
        return read_module(_local(base, options))
    module = read_module(options)
    expected = json.loads((base / PRETRAINED).read_text("utf-8"))["sha256"]
    if digest(module) != expected:
        raise UserError(
            f"the weights of '{options.name}' are not those that this run began with (SHA-256 {expected[:12]}…); bring "
            "them back (a hub id can be held to a commit by model.revision), or begin a new run"
        )
    return module


def weights_on_this_machine(base: Path) -> str | None:
    """SHA-256 of the pretrained weights that a base folder names, None where they are not on this machine.

    Nothing is fetched, and no code that comes with the model is run.
    """
    named = json.loads((base / PRETRAINED).read_text("utf-8"))
    try:
        if named["name"] == "smollm2":
            folder = smollm2.path()
        elif not (folder := expanded(named["name"])).is_dir():
            revision = named.get("commit") or named.get("revision")
            folder = Path(snapshot_download(named["name"], revision=revision, local_files_only=True))
        return digest(load_pretrained(ModelOptions(name=str(folder.resolve()))).module)
    except (OSError, ValueError):  # UserError and the errors of huggingface_hub are among them
        return None


def digest(module: PreTrainedModel) -> str:
    """SHA-256 over names, shapes and values of all weights, however they are spread over files."""
    sha = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def save(model: LanguageModel, folder: Path) -> None:
    """Write an ordinary transformers folder with float32 safetensors, and the history of the fit."""
    assert model.module.dtype == torch.float32, model.module.dtype
    with quietly():
        model.module.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    if model.history:
        lines = [json.dumps(record) + "\n" for record in model.history]
        (folder / HISTORY).write_text("".join(lines), encoding="utf-8")


def load(folder: Path, options: ModelOptions) -> LanguageModel:
    """What `save` wrote."""
    where = _local(folder, options)
    history = folder / HISTORY
    lines = history.read_text(encoding="utf-8").splitlines() if history.is_file() else []
    return LanguageModel(read_module(where), read_tokenizer(where), [json.loads(line) for line in lines])


def _local(folder: Path, options: ModelOptions) -> ModelOptions:
    return ModelOptions(name=str(folder.resolve()), trust_remote_code=options.trust_remote_code)
