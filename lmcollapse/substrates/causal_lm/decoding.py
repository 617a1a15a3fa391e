"""How the next tokens are chosen: decoders, the filters that shape the distribution they draw from, and the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList, PreTrainedModel
from transformers.generation.logits_process import (
    LogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lmcollapse.substrates.causal_lm.options import SamplingOptions
from lmcollapse.substrates.causal_lm.stepping import Tokens
from lmcollapse.types import Floats, Speechless

NOTHING = -1
"""In the place of a token where there is no distribution to choose from."""


def continue_prompts(
    module: PreTrainedModel,
    prompts: Tensor,
    options: SamplingOptions,
    eos: int,
    uniforms: Floats | None = None,
    processors: LogitsProcessorList | None = None,
) -> list[Tokens]:
    """What a model writes after each of these prompts, without the prompt.

    prompts : `(batch, positions)` int64 token ids, so of one length and without padding, on the device of the model.
    options : with everything filled in (`SamplingOptions.settled`): `new_tokens` are written, or fewer where
        `until_eos` and `eos` comes first, which is then the last token.
    uniforms : `(batch, new_tokens)` float64 in [0, 1), what the ancestral decoder draws with; others need none.
    processors : further processors of the logits, applied after the filters, as transformers has it of watermarks.
    """
    assert options.new_tokens is not None and options.until_eos is not None, "options are not settled"
    stop = eos if options.until_eos else None
    last = processors or LogitsProcessorList()
    with torch.inference_mode():
        if options.decoder == "beam":
            assert options.beams is not None, "options are not settled"
            watch = _Watch()
            before = LogitsProcessorList([*penalties(options), *last, watch])
            written = beam(module, prompts, options.new_tokens, options.beams, stop, before)
            written = written.masked_fill(watch.lost, NOTHING) if watch.lost is not None else written
        else:
            chain = LogitsProcessorList([*penalties(options), *filters(options), *last])
            draws = None if uniforms is None else torch.from_numpy(uniforms).to(prompts.device)
            # a processor with a memory of its own expects the same rows every time
            written = _token_by_token(module, prompts, options, stop, draws, chain, shrink=not processors)
    return [_until(stop, row) for row in written.cpu().numpy().astype(np.int32)]


def shaped(options: SamplingOptions) -> LogitsProcessorList | None:
    """What penalties and, for a draw, filters make of logits; None where they stay as they are."""
    drawn = filters(options) if options.decoder == "ancestral" else []
    chain = LogitsProcessorList([*penalties(options), *drawn])
    return chain if len(chain) else None


def chooser(options: SamplingOptions) -> Callable[[Tensor, Tensor | None], Tensor]:
    """How the next tokens are chosen from the logits, with random numbers where the decoder draws."""

    def drawn(scores: Tensor, uniforms: Tensor | None) -> Tensor:
        assert uniforms is not None
        return ancestral(scores, uniforms)

    return drawn if options.decoder == "ancestral" else lambda scores, _: greedy(scores)


def _until(stop: int | None, row: Tokens) -> Tokens:
    ends = np.flatnonzero(row == stop).tolist() if stop is not None else []
    return row[: ends[0] + 1] if ends else row


def _token_by_token(
    module: PreTrainedModel,
    prompts: Tensor,
    options: SamplingOptions,
    stop: int | None,
    uniforms: Tensor | None,
    chain: LogitsProcessorList,
    *,
    shrink: bool = True,
) -> Tensor:
    """`(batch, new_tokens)`; what follows a row's `stop` is of no meaning. All NOTHING where one token was.

    shrink : go on without rows that have ended.
    """
    assert options.new_tokens is not None
    assert (uniforms is not None) == (options.decoder == "ancestral"), "only the ancestral decoder draws"
    batch, length = prompts.shape
    ids = torch.cat([prompts, prompts.new_empty(batch, options.new_tokens)], 1)
    last_only = {"logits_to_keep": 1} if "logits_to_keep" in signature(module.forward).parameters else {}
    cache = DynamicCache(config=module.config)
    going = torch.arange(batch, device=prompts.device)  # the rows that are still written, in the order of the cache
    ended = torch.zeros(batch, dtype=torch.bool, device=prompts.device)
    lost = torch.zeros((), dtype=torch.bool, device=prompts.device)
    unread = prompts
    for i in range(options.new_tokens):
        logits = module(unread, past_key_values=cache, use_cache=True, **last_only).logits[:, -1].float()
        scores = chain(ids[going, : length + i], logits)  # type: ignore[arg-type]  # it means any tensor of integers
        chosen = readable(greedy(scores) if uniforms is None else ancestral(scores, uniforms[going, i]), lost)
        ids[going, length + i] = chosen
        unread = chosen[:, None]
        if stop is None:
            continue
        ended |= chosen == stop
        left = int((~ended).sum())
        if not left:
            break
        if shrink and left <= 0.75 * len(going):  # rows that have ended cost as much as the others: go on without them
            keep = (~ended).nonzero()[:, 0]
            cache.batch_select_indices(keep)
            going, unread, ended = going[keep], unread[keep], ended[keep]
    return ids[:, length:].masked_fill(lost, NOTHING)


# decoders


def greedy(scores: Tensor) -> Tensor:
    """The most likely token every time; NOTHING where its logit is no finite number."""
    top = scores.argmax(-1)
    return top.masked_fill(~scores.gather(-1, top[:, None])[:, 0].isfinite(), NOTHING)


def ancestral(scores: Tensor, uniforms: Tensor) -> Tensor:
    """A token drawn from the distribution of the model, as the filters leave it.

    Draws by inverting the cumulative distribution, in whole numbers: with the probabilities in units of 2**-52 the sums
    are exact, so that no order of summation matters and a token without probability takes up no room at all.
    NOTHING where a logit is NaN or +inf, or all are filtered out: the probabilities are NaN then, no sum is above 0.

    scores : `(batch, vocabulary)` logits, -inf for tokens that are filtered out.
    uniforms : `(batch,)` float64 in [0, 1).
    """
    cumulative = scores.softmax(-1).mul_(2.0**52).long().cumsum_(-1)  # in place: memory would cost more than the sums
    total = cumulative[:, -1:]
    place = (uniforms[:, None] * total).long().minimum(total - 1)  # the product may round up to the total
    return torch.searchsorted(cumulative, place, right=True)[:, 0].masked_fill(total[:, 0] <= 0, NOTHING)


def readable(chosen: Tensor, lost: Tensor) -> Tensor:
    """Chosen tokens as a model can read them; `lost`, a single truth value, becomes true where one is NOTHING."""
    lost.logical_or_((chosen == NOTHING).any())
    return chosen.clamp(min=0)


def spoken(documents: Sequence[Tokens]) -> Sequence[Tokens]:
    """The same documents; raises Speechless where one of them was written from no distribution."""
    if any((document == NOTHING).any() for document in documents):
        raise Speechless(
            "its logits are not finite numbers, or no token is left to choose; lower train.learning_rate, or bring "
            "sampling.temperature and sampling.repetition_penalty nearer to 1, or raise sampling.precision"
        )
    return documents


def beam(
    module: PreTrainedModel, prompts: Tensor, new_tokens: int, beams: int, stop: int | None, before: LogitsProcessorList
) -> Tensor:
    """The most likely text that a beam search finds (transformers' own)."""
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        num_beams=beams,
        do_sample=False,
        max_new_tokens=new_tokens,
        eos_token_id=stop,
        pad_token_id=0 if stop is None else stop,
    )
    # what `config` leaves at None would be taken from the model's own, its EOS token above all
    own, module.generation_config = module.generation_config, config
    try:
        ids = module.generate(  # type: ignore[operator]
            prompts, attention_mask=torch.ones_like(prompts), generation_config=config, logits_processor=before
        )
    finally:
        module.generation_config = own
    assert isinstance(ids, Tensor)
    return ids[:, prompts.shape[1] :]


class _Watch(LogitsProcessor):
    """Sees whether a row has a token to choose, and changes nothing.

    lost : a single truth value, whether one had none; None before the first step.
    """

    lost: Tensor | None = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        here = (~scores.amax(-1).isfinite()).any()
        self.lost = here if self.lost is None else self.lost | here
        return scores


# filters


def filters(options: SamplingOptions) -> list[LogitsProcessor]:
    """What shapes the distribution before a draw, in the order in which `generate` of transformers has it."""
    chain = [temperature(options.temperature)] if options.temperature != 1 else []
    chain += [top_k(options.top_k)] if options.top_k is not None else []
    chain += [top_p(options.top_p)] if options.top_p is not None else []
    chain += [min_p(options.min_p)] if options.min_p is not None else []
    return chain


def penalties(options: SamplingOptions) -> list[LogitsProcessor]:
    """What changes the logits for every decoder."""
    return [repetition_penalty(options.repetition_penalty)] if options.repetition_penalty != 1 else []


def temperature(value: float) -> LogitsProcessor:
    """Divide the logits: below 1 for likelier text, above 1 for more varied text."""
    return TemperatureLogitsWarper(float(value))


def top_k(k: int) -> LogitsProcessor:
    """Keep the k most likely tokens (Fan et al., ACL 2018)."""
    return TopKLogitsWarper(k)


def top_p(p: float) -> LogitsProcessor:
    """Keep the fewest tokens that together have probability p, the nucleus (Holtzman et al., ICLR 2020)."""
    return TopPLogitsWarper(float(p))


def min_p(p: float) -> LogitsProcessor:
    """Keep tokens with at least p times the probability of the most likely one (Nguyen et al., ICLR 2025)."""
    return MinPLogitsWarper(float(p))


def repetition_penalty(penalty: float) -> LogitsProcessor:
    """Make tokens that the text has already less likely (Keskar et al., arXiv:1909.05858)."""
    return RepetitionPenaltyLogitsProcessor(float(penalty))
