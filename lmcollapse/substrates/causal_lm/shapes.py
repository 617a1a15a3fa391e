"""The shapes that are known: GPT-2, OPT and Llama modules of transformers as networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from lmcollapse.substrates.causal_lm.models import PLAIN_HEADS
from lmcollapse.substrates.causal_lm.network import Block, Map, Network

Product = Callable[[Any], Map]
"""Makes a map of a linear layer, or of several side by side."""


def network_of(module: PreTrainedModel, dtype: torch.dtype, *, fitted: bool = False) -> Network | None:
    """The module's weights as a network with products in `dtype`; None for a shape that is not known here.

    Norms and the residual stream stay in the precision of the module, as under autocast.

    fitted : the weights are looked up at every pass, and gradients reach them; else they are copied once.
    """
    if type(module) not in PLAIN_HEADS:
        return None
    build = {"gpt2": _gpt2, "opt": _opt, "llama": _llama}.get(module.config.model_type)
    return None if build is None else build(module, dtype, partial(_product, dtype=dtype, fitted=fitted))


def _gpt2(module: Any, dtype: torch.dtype, product: Product) -> Network | None:
    config, body = module.config, module.transformer
    if config.scale_attn_by_inverse_layer_idx or config.add_cross_attention or not config.scale_attn_weights:
        return None
    size = config.n_embd // config.n_head
    act = _activation(config.activation_function)

    def blocks() -> Iterator[Block]:
        for layer in body.h:
            attention, mlp = layer.attn, layer.mlp
            yield Block(
                projection=_chain(_norm(layer.ln_1), product(attention.c_attn)),
                output=product(attention.c_proj),
                mlp=_chain(_norm(layer.ln_2), product(mlp.c_fc), act, product(mlp.c_proj)),
                scale=size**-0.5,
            )

    words, places = body.wte.weight, body.wpe.weight
    return Network(
        embed=lambda tokens, positions: F.embedding(tokens, words) + F.embedding(positions, places),
        blocks=list(blocks()),
        norm=_norm(body.ln_f),
        head=_chain(_norm(body.ln_f), product(module.lm_head)),
        rotation=None,
        heads=config.n_head,
        groups=config.n_head,
        size=size,
        dtype=dtype,
        device=words.device,
    )


def _opt(module: Any, dtype: torch.dtype, product: Product) -> Network | None:
    config, body = module.config, module.model.decoder
    if not config.do_layer_norm_before or body.project_in is not None or body.final_layer_norm is None:
        return None  # OPT-350m, which no other model is like
    act = _activation(config.activation_function)
    size = config.hidden_size // config.num_attention_heads

    def blocks() -> Iterator[Block]:
        for layer in body.layers:
            attention = layer.self_attn
            together = product([attention.q_proj, attention.k_proj, attention.v_proj])
            yield Block(
                projection=_chain(_norm(layer.self_attn_layer_norm), together),
                output=product(attention.out_proj),
                mlp=_chain(_norm(layer.final_layer_norm), product(layer.fc1), act, product(layer.fc2)),
                scale=size**-0.5,
            )

    words, places = body.embed_tokens.weight, body.embed_positions.weight
    offset = body.embed_positions.offset
    return Network(
        embed=lambda tokens, positions: F.embedding(tokens, words) + F.embedding(positions + offset, places),
        blocks=list(blocks()),
        norm=_norm(body.final_layer_norm),
        head=_chain(_norm(body.final_layer_norm), product(module.lm_head)),
        rotation=None,
        heads=config.num_attention_heads,
        groups=config.num_attention_heads,
        size=size,
        dtype=dtype,
        device=words.device,
    )


def _llama(module: Any, dtype: torch.dtype, product: Product) -> Network | None:
    config, body = module.config, module.model
    if config.rope_parameters["rope_type"] != "default":
        return None
    act = _activation(config.hidden_act)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

    def blocks() -> Iterator[Block]:
        for layer in body.layers:
            attention, mlp = layer.self_attn, layer.mlp
            together = product([attention.q_proj, attention.k_proj, attention.v_proj])
            gated, down = product([mlp.gate_proj, mlp.up_proj]), product(mlp.down_proj)
            yield Block(
                projection=_chain(_norm(layer.input_layernorm), together),
                output=product(attention.o_proj),
                mlp=_chain(_norm(layer.post_attention_layernorm), gated, _gate(act), down),
                scale=size**-0.5,
            )

    words, frequencies = body.embed_tokens.weight, body.rotary_emb.inv_freq

    def rotation(positions: Tensor) -> tuple[Tensor, Tensor]:
        angles = (positions[..., None].float() * frequencies.float()).repeat(1, 1, 2)[:, None]
        return angles.cos().to(dtype), angles.sin().to(dtype)

    return Network(
        embed=lambda tokens, positions: F.embedding(tokens, words),
        blocks=list(blocks()),
        norm=_norm(body.norm),
        head=_chain(_norm(body.norm), product(module.lm_head)),
        rotation=rotation,
        heads=config.num_attention_heads,
        groups=config.num_key_value_heads,
        size=size,
        dtype=dtype,
        device=words.device,
    )


def _chain(*maps: Map) -> Map:
    def chained(x: Tensor) -> Tensor:
        for step in maps:
            x = step(x)
        return x

    return chained


def _product(layers: Any, *, dtype: torch.dtype, fitted: bool) -> Map:
    """One linear layer, or several side by side, with its weights in `dtype`."""
    layers = layers if isinstance(layers, list) else [layers]
    biased = {layer.bias is not None for layer in layers}
    assert len(biased) == 1, "layers with and without a bias do not go side by side"

    def weights() -> tuple[Tensor, Tensor | None]:
        # transformers' Conv1D, which GPT-2 is made of, has its weight the other way round than nn.Linear
        parts = [layer.weight if isinstance(layer, nn.Linear) else layer.weight.t() for layer in layers]
        weight = parts[0] if len(parts) == 1 else torch.cat(parts)
        bias = torch.cat([layer.bias for layer in layers]) if biased == {True} else None
        return weight.to(dtype), None if bias is None else bias.to(dtype)

    if fitted:
        return lambda x: F.linear(x.to(dtype), *weights())
    with torch.no_grad():
        weight, bias = weights()
        weight = weight.contiguous()
    if bias is None and dtype == torch.float32 and weight.device.type == "cpu" and len(weight) > 8 * SLICE:
        return lambda x: _sliced(x, weight)
    return lambda x: F.linear(x.to(dtype), weight, bias)


SLICE = 1024
"""Rows of a tall float32 weight multiplied at once on a CPU: a third faster than all 50,257 of GPT-2's head."""


def _sliced(x: Tensor, weight: Tensor) -> Tensor:
    """`F.linear` by slices of the weight."""
    rows = x.float().reshape(-1, x.shape[-1])
    found = torch.empty(len(rows), len(weight))
    for first in range(0, len(weight), SLICE):
        part = slice(first, first + SLICE)
        torch.mm(rows, weight[part].t(), out=found[:, part])
    return found.view(*x.shape[:-1], len(weight))


def _norm(layer: Any) -> Map:
    if isinstance(layer, nn.LayerNorm):
        return lambda x: F.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)
    weight = layer.weight
    # in float32 whatever the model is in, as transformers has it
    return lambda x: weight * F.rms_norm(x.float(), (x.shape[-1],), None, layer.variance_epsilon).to(x.dtype)


def _gate(act: Map) -> Map:
    def gated(x: Tensor) -> Tensor:
        gate, up = x.chunk(2, -1)
        return act(gate) * up

    return gated


def _activation(name: str) -> Map:
    known: dict[str, Map] = {
        "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
        "gelu": F.gelu,
        "relu": F.relu,
        "silu": F.silu,
    }
    return known[name]
