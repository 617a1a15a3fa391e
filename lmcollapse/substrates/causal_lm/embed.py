"""Documents as vectors of a pretrained model, for the measures of distance."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)

from lmcollapse.substrates.causal_lm.devices import batch_that_fits, enter, little_memory, shrinking
from lmcollapse.substrates.causal_lm.models import check_weights, context, explained, source_of
from lmcollapse.substrates.causal_lm.options import ComputeOptions, ModelOptions
from lmcollapse.types import Floats, Silent, UserError


def transformers(texts: Sequence[str], name: str, *, tokens: int = 256) -> Floats:
    """What a pretrained model makes of each text, in float32: `(texts, width)`.

    The last layer's hidden state of the last token for a causal language model, as in Pillutla et al. 2021 (arXiv
    2102.01454, with GPT-2 large); its mean over all tokens for an encoder. Special tokens are those that the model's
    tokenizer adds by itself.

    name : a model folder, a hub id or `smollm2`.
    tokens : texts are cut after so many, or where the model can read no further.

    Raises UserError where there is no such model, or it is neither a causal language model nor an encoder.
    """
    try:
        ids, module, is_encoder = _read(texts, name, tokens)
    except UserError as error:
        raise UserError(f"embedding: {error}; embedding lsa needs no model") from None
    device = enter(ComputeOptions())
    module = module.to(device).eval()  # type: ignore[arg-type]
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))  # of like lengths in a batch, the longest first
    width = module.config.get_text_config().hidden_size
    vectors = np.empty((len(ids), width), np.float32)
    each = tokens * width * 4 * 30  # about 30 numbers of a layer's work for each state
    size = batch_that_fits(each, little_memory(device), 1024 if device.type == "cuda" else 256)

    def batch(start: int, size: int) -> Floats:
        return _states(module, [ids[i] for i in order[start : start + size]], is_encoder, device)

    done = 0
    while done < len(order):
        found, size = shrinking(partial(batch, done), size, Silent(), "embedding")
        vectors[order[done : done + len(found)]] = found
        done += len(found)
    return vectors


def _read(texts: Sequence[str], name: str, tokens: int) -> tuple[list[list[int]], PreTrainedModel, bool]:
    """The texts as token ids, the model without its head, and whether that is an encoder."""
    options = ModelOptions(name=name)
    source, where = source_of(options)
    check_weights(options)
    with explained(options):
        config: PretrainedConfig = AutoConfig.from_pretrained(source, **where)
    is_encoder = _is_encoder(name, config)
    with explained(options):
        tokenizer: Any = AutoTokenizer.from_pretrained(source, **where)
        tokenizer.truncation_side = "right"
        most = min(tokens, context(config) or tokens)
        ids = tokenizer(list(texts), truncation=True, max_length=most, verbose=False).input_ids
        module, report = AutoModel.from_pretrained(
            source, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **where
        )
    missing = [key for key in report["missing_keys"] if "pooler" not in key]  # which is not looked at
    if missing:
        raise UserError(f"the weights of '{name}' are incomplete ({missing[0]} …); give a complete model")
    if not all(ids):
        raise UserError(f"model '{name}' has no tokenizer; put its files into the model's folder")
    return ids, module, is_encoder


def _is_encoder(name: str, config: PretrainedConfig) -> bool:
    if not config.is_encoder_decoder:
        masked: Any = AutoModelForMaskedLM._model_mapping
        causal: Any = AutoModelForCausalLM._model_mapping
        if type(config) in masked and not getattr(config, "is_decoder", False):
            return True
        if type(config) in causal:
            return False
    raise UserError(
        f"model '{name}' ({config.model_type}) is neither a causal language model nor an encoder; give one, as gpt2"
    )


def _states(module: PreTrainedModel, ids: list[list[int]], is_encoder: bool, device: torch.device) -> Floats:
    lengths = np.array([len(row) for row in ids])
    inputs = np.zeros((len(ids), lengths.max()), np.int64)  # padding on the right, masked: any token will do
    for row, some in zip(inputs, ids, strict=True):
        row[: len(some)] = some
    mask = np.arange(inputs.shape[1]) < lengths[:, None]
    with torch.inference_mode():
        states = module(
            input_ids=torch.from_numpy(inputs).to(device),
            attention_mask=torch.from_numpy(mask.astype(np.int64)).to(device),
        ).last_hidden_state.float()
        read = mask if is_encoder else np.arange(inputs.shape[1]) == lengths[:, None] - 1
        weights = torch.from_numpy(read / read.sum(1, keepdims=True)).float().to(device)
        found: Floats = torch.einsum("rt,rtw->rw", weights, states).cpu().numpy()
    return found
