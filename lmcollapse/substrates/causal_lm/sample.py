"""A generation writes its corpus: documents 0, 1, 2, … until there are as many tokens as wanted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from transformers import PretrainedConfig

from lmcollapse.substrates.causal_lm.blocks import to_texts
from lmcollapse.substrates.causal_lm.decoding import Tokens, continue_prompts
from lmcollapse.substrates.causal_lm.devices import autocast, batch_that_fits, enter, shrinking
from lmcollapse.substrates.causal_lm.models import (
    LanguageModel,
    boundaries,
    check_positions,
    context,
    load_pretrained,
    trained_positions,
)
from lmcollapse.substrates.causal_lm.options import ComputeOptions, ModelOptions, SamplingOptions, TrainOptions
from lmcollapse.types import Corpus, Floats, Ints, Progress, Silent, UserError

PREVIEW = 128
"""Tokens of a document of `sample_texts`, where neither the caller nor the model says how many."""


def uniforms(seed: int, documents: Sequence[int] | range, tokens: int) -> Floats:
    """`(documents, tokens)` random numbers in [0, 1), each a function of (seed, document, position) alone.

    Philox is counter-based (Salmon et al., SC 2011): seed and document are its key, the position its counter. So what
    a document says does not depend on which others are written beside it.
    """
    keys = [np.array([seed, document], np.uint64) for document in documents]
    return np.array([np.random.Generator(np.random.Philox(key=key)).random(tokens) for key in keys])


def prompts_of(rows: Corpus, options: SamplingOptions, eos: int) -> tuple[Ints, Ints]:
    """The leading tokens of every row that is long enough, `(rows, prompt_tokens)`, and which rows these are.

    Where documents are written until their end, a row that ends with its prompt has no continuation and is left out.
    """
    length = options.prompt_tokens
    assert length is not None, "options are not checked"
    starts = {row: rows.tokens(row)[:length] for row in np.flatnonzero(rows.lengths >= length).tolist()}
    starts = {row: start for row, start in starts.items() if not (options.until_eos and start[-1] == eos)}
    if not starts:
        raise UserError(
            f"sampling.prompt: no row of the {options.prompt} corpus has {length} tokens to prompt with (the longest "
            f"has {rows.lengths.max(initial=0)}); lower sampling.prompt_tokens"
        )
    return np.array(list(starts.values()), np.int64), np.array(list(starts), np.int64)


def sample(
    model: LanguageModel,
    human: Corpus,
    previous: Corpus,
    generation: int,
    seed: int,
    options: SamplingOptions,
    bos: bool,
    compute: ComputeOptions,
    progress: Progress,
) -> Corpus:
    """A corpus of at least as many tokens as wanted, and no document more than that takes.

    options : settled ones; without `tokens`, as many as the human training part has.
    bos : whether BOS stands before a prompt, as it stood before the rows of the fit.
    """
    begin, end = boundaries(model.tokenizer)
    prompts, rows = np.array([[begin]]), np.array([-1])
    if options.prompt != "none":
        prompts, rows = prompts_of(human if options.prompt == "human" else previous, options, end)
        prompts = np.insert(prompts, 0, begin, axis=1) if bos else prompts
    wanted = options.tokens or int(human.lengths.sum())
    assert options.new_tokens is not None, "options are not settled"
    most = None if options.until_eos else math.ceil(wanted / options.new_tokens)

    documents: list[Tokens] = []
    written = 0
    with progress.stage("sample", total=wanted, unit="tokens") as advance:
        for document in write(model, prompts, options, compute, seed, progress, most):
            documents.append(document)
            written += len(document)
            advance(len(document))
            if written >= wanted:
                break
    origins = rows[np.arange(len(documents)) % len(rows)]
    return Corpus.of_tokens(documents, generation, texts=to_texts(model.tokenizer, documents), prompt=origins)


def write(
    model: LanguageModel,
    prompts: Ints,
    options: SamplingOptions,
    compute: ComputeOptions,
    seed: int,
    progress: Progress,
    most: int | None = None,
) -> Iterator[Tokens]:
    """Documents 0, 1, 2, …, `most` of them; document i continues prompt i, and after the last prompt the first again.

    prompts : `(prompts, positions)` token ids, BOS among them.
    """
    device = enter(compute)
    module = model.module.to(device).eval()  # type: ignore[arg-type]
    _, eos = boundaries(model.tokenizer)
    tokens = options.new_tokens
    assert tokens is not None, "options are not settled"

    def batch(start: int, size: int) -> list[Tokens]:
        documents = range(start, start + size if most is None else min(start + size, most))
        chosen = torch.from_numpy(prompts[np.array(documents) % len(prompts)]).to(device)
        draws = uniforms(seed, documents, tokens) if options.decoder == "ancestral" else None
        with autocast(compute, device):
            return continue_prompts(module, chosen, options, eos, draws)

    size = options.batch_size or batch_size(module.config, options, device)
    done = 0
    while most is None or done < most:
        documents, size = shrinking(partial(batch, done), size, progress, "sample")
        done += len(documents)
        yield from documents


def batch_size(config: PretrainedConfig, options: SamplingOptions, device: torch.device) -> int:
    """Documents that fit into memory at once."""
    text = config.get_text_config()
    positions = 1 + (options.prompt_tokens or 0) + (options.new_tokens or 0)
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = heads * text.hidden_size // text.num_attention_heads
    cache = positions * text.num_hidden_layers * width * 2 * 4 * 2  # keys and values in float32; copied when it grows
    logits = text.vocab_size * 40  # in float32 and as whole numbers, before and after the filters
    return batch_that_fits((options.beams or 1) * (cache + logits), device)


def sample_texts(
    checkpoint: str,
    n: int,
    options: SamplingOptions,
    seed: int,
    *,
    device: str = "auto",
    trust_remote_code: bool = False,
) -> list[str]:
    """What a model writes from nothing: `n` documents, for a person to look at.

    checkpoint : a model folder or a hub id.
    options : `new_tokens` are by default as many as the model was trained on, at most PREVIEW for pretrained models.
    """
    if n < 1:
        raise UserError(f"{n} documents are wanted; give a number from 1 on")
    if options.prompt != "none":
        raise UserError(
            f"sampling.prompt is {options.prompt}, and there is no corpus to prompt with here; give prompt: none"
        )
    model = load_pretrained(ModelOptions(name=checkpoint, trust_remote_code=trust_remote_code))
    config = model.module.config
    length = options.new_tokens or trained_positions(config) or min(PREVIEW, context(config) or PREVIEW)
    check_positions(config, length, "sampling.new_tokens")
    settled = options.model_copy(update={"new_tokens": length}).settled(TrainOptions())
    bos, _ = boundaries(model.tokenizer)
    rows = list(write(model, np.array([[bos]]), settled, ComputeOptions(device=device), seed, Silent(), n))
    return to_texts(model.tokenizer, rows)
