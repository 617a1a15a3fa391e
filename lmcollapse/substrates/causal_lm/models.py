"""Language models: loaded from a folder or the hub, or built from nothing with a tokenizer trained on human text."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, get_session
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from lmcollapse.files import expanded
from lmcollapse.records import sound
from lmcollapse.substrates.causal_lm.options import ModelOptions
from lmcollapse.types import Ints, UserError

END_OF_TEXT = "<|endoftext|>"

TRAINED_POSITIONS = "lmcollapse_trained_positions"
"""Key of `config.json`: the input positions that the model was trained on in the run that made it."""

IMPLEMENTATION = ("attn_implementation", "experts_implementation", "kernel_config")
"""How keys of `config.json` end by which a part of a model is computed by something else."""

COUNT = re.compile(r"(num|n)_(\w+_)?(layers?|experts?|blocks?|heads?)")
"""Keys of `config.json` that say how many parts of a kind are built."""
NEEDED = ("n_layer", "n_head", "num_hidden_layers", "num_attention_heads")
MOST_PARTS = 4096

PLAIN_HEADS = (GPT2LMHeadModel, OPTForCausalLM, LlamaForCausalLM)
"""Models whose logits are one product of the last hidden states; code from the hub under their names may add to it."""


@dataclass
class LanguageModel:
    """A model with its tokenizer, and what its fit recorded: one dict of numbers a line of `fit.jsonl`."""

    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    history: list[dict[str, float]] = field(default_factory=list)


def boundaries(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """The tokens that begin and end a text. Where a tokenizer has but one of them, it does both."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if bos is None and eos is None:
        raise UserError(f"the tokenizer of '{tokenizer.name_or_path}' has neither a BOS nor an EOS token; it needs one")
    return (eos if bos is None else bos), (bos if eos is None else eos)


def context(config: PretrainedConfig) -> int | None:
    """The most positions that a model can read, None where it has no limit."""
    text = config.get_text_config()
    found = (getattr(text, name, None) for name in ("max_position_embeddings", "max_seq_len"))
    return next((int(positions) for positions in found if positions), None)


def trained_positions(config: PretrainedConfig) -> int | None:
    """The positions that a fit of this project trained, None for other models."""
    return getattr(config, TRAINED_POSITIONS, None)


def check_positions(config: PretrainedConfig, needed: int, what: str) -> None:
    """UserError where more positions are needed than a model can read."""
    most = context(config)
    if most is not None and needed > most:
        raise UserError(f"{what} needs {needed} positions and the model can read {most}; lower it")


def check_ids(config: PretrainedConfig, ids: Ints) -> None:
    """UserError where a tokenizer gave ids that a model has no embedding for."""
    known, highest = config.get_text_config().vocab_size, int(ids.max(initial=0))
    if highest >= known:
        raise UserError(
            f"the tokenizer gives token {highest:,}, and the model ({config.model_type}) knows {known:,}; give a model "
            "folder with the tokenizer that belongs to it"
        )


# built from nothing


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with END_OF_TEXT as its one special token, which both begins and ends texts.

    Sennrich et al., ACL 2016; over bytes as in GPT-2, so that no text is out of vocabulary.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT
    )


def scratch_config(options: ModelOptions, vocabulary: int, positions: int, end: int = 0) -> PretrainedConfig:
    """The configuration of a scratch model; `end` is the token that begins and ends texts."""
    shape = options.shape()
    assert shape.width and shape.layers and shape.heads and shape.dropout is not None
    common: dict[str, Any] = {"vocab_size": vocabulary, "bos_token_id": end, "eos_token_id": end}
    if shape.architecture == "gpt2":
        return GPT2Config(
            n_positions=positions,
            n_embd=shape.width,
            n_layer=shape.layers,
            n_head=shape.heads,
            embd_pdrop=shape.dropout,
            resid_pdrop=shape.dropout,
            attn_pdrop=shape.dropout,
            **common,
        )
    return LlamaConfig(
        max_position_embeddings=positions,
        hidden_size=shape.width,
        intermediate_size=-(-shape.width * 8 // 24) * 8,  # 8/3 of the width: gated layers have a third matrix
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        attention_dropout=shape.dropout,
        tie_word_embeddings=True,  # as GPT-2's are: half of a small model would be its vocabulary twice
        **common,
    )


def fresh(config: PretrainedConfig, seed: int, trust_remote_code: bool = False) -> PreTrainedModel:
    """A model with random weights that follow from the seed alone."""
    torch.manual_seed(seed)
    auto: Any = AutoModelForCausalLM
    try:
        module: PreTrainedModel = auto.from_config(config, dtype=torch.float32, trust_remote_code=trust_remote_code)
    except RuntimeError as error:
        if "allocate" not in str(error):
            raise
        raise UserError(
            "a model of this shape does not fit into memory; lower model.width or train.block_size"
        ) from None
    return module


# loaded


def read_config(options: ModelOptions) -> PretrainedConfig:
    """The configuration of a pretrained model, UserError where there is none or it is no causal language model."""
    name, where = source_of(options)
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise UserError(f"model '{options.name}' has no config.json: give a folder in the transformers format")
    with explained(options):
        written: dict[str, Any] = PretrainedConfig.get_config_dict(name, **where)[0]
        _check_config(written, options)
        config: PretrainedConfig = AutoConfig.from_pretrained(name, **where)
    known: Any = AutoModelForCausalLM._model_mapping
    if type(config) in known:
        if "past_key_values" not in inspect.signature(known[type(config)].forward).parameters:
            raise UserError(f"model '{options.name}' ({config.model_type}) keeps no key/value cache to sample with")
        # an encoder is in transformers' list too, but sees what comes after a token unless it is told to be a decoder
        if type(config) in AutoModelForMaskedLM._model_mapping and not getattr(config, "is_decoder", True):
            raise UserError(f"model '{options.name}' ({config.model_type}) is an encoder; give a causal model, as gpt2")
    elif "AutoModelForCausalLM" not in (getattr(config, "auto_map", None) or {}):
        raise UserError(f"model '{options.name}' ({config.model_type}) is no causal language model; give one, as gpt2")
    return config


def _check_config(written: Mapping[str, Any], options: ModelOptions) -> None:
    """UserError for what transformers would fetch and run, or build without end, on the word of a config.json."""
    for key, value in _entries(written):
        # transformers takes "owner/name" for compiled code on the hub
        if key.endswith(IMPLEMENTATION) and "/" in str(value) and not options.trust_remote_code:
            raise UserError(f"its config.json has '{key}' fetch and run code ({value}); take that out of it")
        least = 1 if key in NEEDED else 0
        if COUNT.fullmatch(key) and isinstance(value, int) and not least <= value <= MOST_PARTS:
            raise UserError(f"its config.json has {key} {value:,}; {least} to {MOST_PARTS:,} are built")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key below a value, with what it stands for."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key), inner
            yield from _entries(inner)


def read_tokenizer(options: ModelOptions) -> PreTrainedTokenizerBase:
    """The tokenizer of a pretrained model."""
    name, where = source_of(options)
    with explained(options):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name, **where)
        ids = tokenizer.get_vocab().values()
        if not 0 <= min(ids, default=0) <= max(ids, default=0) < 2**31:
            raise UserError("its tokenizer has ids that are below 0, or beyond 31 bits")
    if not tokenizer("a", add_special_tokens=False).input_ids:  # transformers makes an empty one where there is none
        raise UserError(f"model '{options.name}' has no tokenizer; put its files into the model's folder")
    boundaries(tokenizer)
    return tokenizer


def read_module(options: ModelOptions) -> PreTrainedModel:
    """The weights of a pretrained model in float32, from safetensors alone: other formats can run code when loaded."""
    name, where = source_of(options)
    with explained(options):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **where
        )
    module, report = loaded
    if report["missing_keys"]:
        some = ", ".join(sorted(report["missing_keys"])[:3])
        raise UserError(f"the weights of '{options.name}' are incomplete ({some} …); give a complete model")
    assert isinstance(module, PreTrainedModel)
    return module


def check_weights(options: ModelOptions) -> None:
    """UserError for a local folder without safetensors; what the hub has is found out when it is fetched."""
    folder = sound(Path(source_of(options)[0]))
    if (folder / "adapter_config.json").is_file():  # transformers would lay it over the model where there is peft
        raise UserError(
            f"model '{options.name}' holds an adapter (adapter_config.json); merge it into the model, as with peft's "
            "merge_and_unload, and give that"
        )
    for index in sorted(folder.glob("*.safetensors.index.json")) if folder.is_dir() else ():
        _check_index(index, options)
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        there = ", ".join(sorted(file.name for file in folder.glob("*.bin"))) or "no weights"
        raise UserError(
            f"model '{options.name}' has no safetensors ({there}); pickled weights are never loaded, since they can "
            "run code: save it as safetensors where you trust it"
        )


def _check_index(index: Path, options: ModelOptions) -> None:
    """UserError where an index names anything but safetensors beside it: transformers reads whatever it names."""
    try:
        named = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"model '{options.name}': {index.name} is damaged ({error!r}); give a complete model") from None
    for name in named:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise UserError(
                f"model '{options.name}': {index.name} names '{name}', and only safetensors in the same folder are "
                "loaded; save the model again where you trust it"
            )


def load_pretrained(options: ModelOptions) -> LanguageModel:
    """A model folder, or a model of the hub, with its tokenizer; UserError for weights that are no finite numbers."""
    read_config(options)
    check_weights(options)
    model = LanguageModel(read_module(options), read_tokenizer(options))
    if broken := not_finite(model.module):
        raise UserError(f"the weights of '{options.name}' are no model: {broken} is not finite; give one that is whole")
    return model


def not_finite(module: PreTrainedModel) -> str | None:
    """The first weight of a model that is NaN or infinite, in words; None where all are finite."""
    for name, weight in module.named_parameters():
        wrong = int((~torch.isfinite(weight)).sum())
        if wrong:
            return f"the weight {name} ({wrong:,} of its {weight.numel():,} numbers)"
    return None


def source_of(options: ModelOptions) -> tuple[str, dict[str, Any]]:
    """Folder or hub id, and the keywords that transformers takes with it."""
    trust = {"trust_remote_code": options.trust_remote_code}
    if options.name == "smollm2":
        from lmcollapse import smollm2

        return str(smollm2.path()), trust
    folder = expanded(options.name)
    if folder.is_dir():
        if options.revision is not None:
            raise UserError(f"model.revision has no effect on a local folder ('{options.name}'): leave it out")
        return str(folder), trust
    if folder.is_absolute() or options.name.startswith((".", "~")) or options.name.count("/") > 1:
        raise UserError(f"model '{options.name}': there is no such folder")
    return options.name, trust | {"revision": options.revision or "main", "local_files_only": not _hub_answers()}


def _hub_answers() -> bool:
    """Whether the hub can be reached; where it cannot, every file would be waited for half a minute."""
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception:  # whose class it is depends on the HTTP library, and that on the version of huggingface_hub
        return False
    return True


@contextmanager
def explained(options: ModelOptions) -> Iterator[None]:
    """What transformers finds wrong, in one line."""
    try:
        with quietly():
            yield
    except Exception as error:  # what a damaged file does to a library cannot be foreseen
        if not Path(source_of(options)[0]).is_dir() and not _hub_answers():
            raise UserError(
                f"model '{options.name}' is not in the cache of the hub, and the hub ({constants.ENDPOINT}) cannot be "
                "reached; connect, or give a local folder that holds it, as in model.name=path/to/folder"
            ) from None
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"model '{options.name}' cannot be loaded: {reason}") from None


@contextmanager
def quietly() -> Iterator[None]:
    """Without transformers' progress bars."""
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
