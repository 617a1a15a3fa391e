"""Tiny models in the hub's format, to stand in for hub ids: GPT-2, OPT and Llama shapes, each with a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2Tokenizer,
    LlamaConfig,
    OPTConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from lmcollapse.types import Documents, Human
from tests.text import documents

torch.set_num_threads(1)  # threads that wait for each other on a busy machine turn seconds into minutes

Shape = Literal["gpt2", "opt", "llama"]
SHAPES: tuple[Shape, ...] = ("gpt2", "opt", "llama")

SPECIAL = {"gpt2": ["<|endoftext|>"], "opt": ["<s>", "<pad>", "</s>", "<unk>"], "llama": ["<unk>", "<s>", "</s>"]}
BOS = {"gpt2": "<|endoftext|>", "opt": "</s>", "llama": "<s>"}
EOS = {"gpt2": "<|endoftext|>", "opt": "</s>", "llama": "</s>"}


def human(train: int = 60, heldout: int = 8, words: int = 40) -> Human[Documents]:
    """Human text: so many documents of so many words in either part."""
    texts = documents(train + heldout, words)
    names = [f"document {i}" for i in range(len(texts))]
    return Human(Documents(texts[:train], names[:train]), Documents(texts[train:], names[train:]))


def tiny_module(
    shape: Shape, *, vocabulary: int = 300, positions: int = 64, width: int = 16, layers: int = 2, seed: int = 0
) -> PreTrainedModel:
    """A model with random weights, large enough that its distributions are far from uniform."""
    ids = {"bos_token_id": SPECIAL[shape].index(BOS[shape]), "eos_token_id": SPECIAL[shape].index(EOS[shape])}
    common: dict[str, Any] = {"vocab_size": vocabulary, "pad_token_id": None} | ids
    config: GPT2Config | OPTConfig | LlamaConfig
    if shape == "gpt2":
        config = GPT2Config(n_positions=positions, n_embd=width, n_layer=layers, n_head=2, **common)
    elif shape == "opt":
        config = OPTConfig(
            max_position_embeddings=positions,
            hidden_size=width,
            word_embed_proj_dim=width,
            ffn_dim=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=2,
            **(common | {"pad_token_id": 1}),
        )
    else:
        config = LlamaConfig(
            max_position_embeddings=positions,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=2,
            **common,
        )
    torch.manual_seed(seed)
    module: PreTrainedModel = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(std=0.4)
    return module.eval()  # type: ignore[no-untyped-call,no-any-return]


def tiny(shape: Shape, folder: Path, *, vocabulary: int = 300, positions: int = 64, **options: Any) -> Path:
    """A model folder as the hub has it: OPT in float16 and with its tokenizer as vocab.json and merges.txt alone."""
    folder.mkdir(parents=True, exist_ok=True)
    trained = _bpe(documents(100), vocabulary, SPECIAL[shape])
    if shape == "llama":
        tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=trained, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )
        tokenizer.save_pretrained(folder)
    else:
        _save_as_gpt2(trained, shape, folder)
    module = tiny_module(shape, vocabulary=vocabulary, positions=positions, **options)
    if shape == "opt":
        module.half()  # type: ignore[no-untyped-call]
    module.save_pretrained(folder)
    return folder


def _bpe(texts: list[str], vocabulary: int, special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _save_as_gpt2(trained: Tokenizer, shape: Shape, folder: Path) -> None:
    """vocab.json and merges.txt; GPT-2 has tokenizer.json beside them."""
    model = json.loads(trained.to_str())["model"]
    merges = [" ".join(pair) for pair in model["merges"]]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    config = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "errors": "replace"}
    if shape == "opt":
        config |= {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
        config |= {"add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    if shape == "gpt2":
        GPT2Tokenizer.from_pretrained(folder).save_pretrained(folder)
