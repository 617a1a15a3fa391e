"""A lean forward pass for writing: the shapes of GPT-2, OPT and Llama over a cache that is laid out once.

A transformers module spends most of a small step on what is not arithmetic. Here its weights are read off once, in the
precision of the products; queries, keys and values come from one product, and keys and values are written in place. The
caller says at which positions tokens stand, where in the cache they go and what they may see, so that one pass serves
prompts, single steps, rows of uneven lengths, and beams that share a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

Map = Callable[[Tensor], Tensor]

GROWTH = 32
"""Places by which a cache grows."""


@dataclass(frozen=True)
class Block:
    """One layer: x + output(attention(projection(x))), then x + mlp(x); norms are in the maps.

    projection : `(…, width)` to queries, keys and values side by side, `(…, (heads + 2 * groups) * size)`.
    scale : of the queries.
    """

    projection: Map
    output: Map
    mlp: Map
    scale: float


@dataclass(frozen=True)
class Network:
    """A causal language model as maps; see `network_of`.

    embed : `(tokens, positions)` to the residual stream.
    head : residual stream to logits.
    rotation : positions to (cosines, sines) for the queries and keys; None where positions are embedded.
    heads, groups, size : attention heads, heads of keys and values, width of a head.
    dtype : of the products and the cache.
    """

    embed: Callable[[Tensor, Tensor], Tensor]
    blocks: list[Block]
    head: Map
    rotation: Callable[[Tensor], tuple[Tensor, Tensor]] | None
    heads: int
    groups: int
    size: int
    dtype: torch.dtype
    device: torch.device


class Cache:
    """Keys and values of every block, `(rows, groups, width, size)` each, `width` of at most `places` places in use.

    It grows by `GROWTH` places at a time, and is looked at whole, with a mask: products over a part of it would first
    copy that part.
    """

    def __init__(self, network: Network, rows: int, places: int) -> None:
        self.places, self.width = places, 0
        empty = torch.empty((rows, network.groups, 0, network.size), dtype=network.dtype, device=network.device)
        self.layers = [(empty, empty) for _ in network.blocks]

    def reserve(self, places: int) -> int:
        """Have room for so many places; the width."""
        assert places <= self.places, (places, self.places)
        if places > self.width:
            self.width = min(self.places, -(-places // GROWTH) * GROWTH)
            for number, (keys, values) in enumerate(self.layers):  # one by one: there is no room for all of them twice
                self.layers[number] = (self._grown(keys), self._grown(values))
        return self.width

    def _grown(self, old: Tensor) -> Tensor:
        rows, groups, there, size = old.shape
        new = torch.empty((rows, groups, self.width, size), dtype=old.dtype, device=old.device)
        new[:, :, :there] = old
        new[:, :, there:] = 0  # what is masked must still be finite
        return new

    def keep(self, rows: Tensor) -> None:
        """Keep these rows, in this order."""
        self.layers = [(keys[rows], values[rows]) for keys, values in self.layers]

    def put(self, rows: Tensor, other: Cache) -> None:
        """Overwrite the first places of these rows by those of another cache."""
        self.reserve(other.width)
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            for to, source in zip(mine, theirs, strict=True):
                to[rows, :, : source.shape[2]] = source


def forward(
    network: Network,
    tokens: Tensor,
    positions: Tensor,
    cache: Cache,
    write: Callable[[Tensor, Tensor], object],
    mask: Tensor,
) -> Tensor:
    """The residual stream above these tokens, `(rows, tokens, width)`.

    tokens, positions : `(rows, tokens)`; positions may be `(1, tokens)`.
    write : puts new keys or values, `(rows, groups, tokens, size)`, into those of the cache.
    mask : `(rows or 1, 1, 1 or tokens, width)`, added to the scores: 0 where a place is visible, else -inf.
    """
    rows, count = tokens.shape
    heads, groups, size = network.heads, network.groups, network.size
    together = heads // groups  # query heads that share their keys and values
    x = network.embed(tokens, positions)
    rotation = None if network.rotation is None else network.rotation(positions)
    if together > 1 and count > 1:
        mask = mask.expand(-1, -1, count, -1).repeat(1, 1, together, 1)
    for block, (keys, values) in zip(network.blocks, cache.layers, strict=True):
        parts = block.projection(x).view(rows, count, heads + 2 * groups, size).transpose(1, 2)
        query, key, value = torch.split(parts, [heads, groups, groups], 1)
        if rotation is not None:
            query, key = rotated(query, *rotation), rotated(key, *rotation)
        write(keys, key)
        write(values, value)
        query = (query * block.scale).reshape(rows, groups, together * count, size)
        scores = query @ keys.transpose(-1, -2) + mask
        mixed = (scores.softmax(-1) @ values).view(rows, heads, count, size)
        x = x + block.output(mixed.transpose(1, 2).reshape(rows, count, heads * size))
        x = x + block.mlp(x)
    return x


def rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary position embedding of the two halves of each head (Su et al. 2021, arXiv 2104.09864)."""
    first, second = x.chunk(2, -1)
    return x * cosines + torch.cat([-second, first], -1) * sines


def network_of(module: PreTrainedModel, dtype: torch.dtype) -> Network | None:
    """The module's weights as a network with products in `dtype`; None for a shape that is not known here.

    Norms and the residual stream stay in the precision of the module, as under autocast.
    """
    build = {"gpt2": _gpt2, "opt": _opt, "llama": _llama}.get(module.config.model_type)
    return None if build is None else build(module, dtype)


def _gpt2(module: Any, dtype: torch.dtype) -> Network | None:
    config, body = module.config, module.transformer
    if config.scale_attn_by_inverse_layer_idx or config.add_cross_attention or not config.scale_attn_weights:
        return None
    size = config.n_embd // config.n_head
    act = _activation(config.activation_function)

    def blocks() -> Iterator[Block]:
        for layer in body.h:
            attention, mlp = layer.attn, layer.mlp
            yield Block(
                projection=_chain(_norm(layer.ln_1), _product(attention.c_attn, dtype)),
                output=_product(attention.c_proj, dtype),
                mlp=_chain(_norm(layer.ln_2), _product(mlp.c_fc, dtype), act, _product(mlp.c_proj, dtype)),
                scale=size**-0.5,
            )

    words, places = body.wte.weight.detach(), body.wpe.weight.detach()
    return Network(
        embed=lambda tokens, positions: F.embedding(tokens, words) + F.embedding(positions, places),
        blocks=list(blocks()),
        head=_chain(_norm(body.ln_f), _product(module.lm_head, dtype)),
        rotation=None,
        heads=config.n_head,
        groups=config.n_head,
        size=size,
        dtype=dtype,
        device=words.device,
    )


def _opt(module: Any, dtype: torch.dtype) -> Network | None:
    config, body = module.config, module.model.decoder
    if not config.do_layer_norm_before or body.project_in is not None or body.final_layer_norm is None:
        return None  # OPT-350m, which no other model is like
    act = _activation(config.activation_function)
    size = config.hidden_size // config.num_attention_heads

    def blocks() -> Iterator[Block]:
        for layer in body.layers:
            attention = layer.self_attn
            together = _product([attention.q_proj, attention.k_proj, attention.v_proj], dtype)
            yield Block(
                projection=_chain(_norm(layer.self_attn_layer_norm), together),
                output=_product(attention.out_proj, dtype),
                mlp=_chain(_norm(layer.final_layer_norm), _product(layer.fc1, dtype), act, _product(layer.fc2, dtype)),
                scale=size**-0.5,
            )

    words, places = body.embed_tokens.weight.detach(), body.embed_positions.weight.detach()
    offset = body.embed_positions.offset
    return Network(
        embed=lambda tokens, positions: F.embedding(tokens, words) + F.embedding(positions + offset, places),
        blocks=list(blocks()),
        head=_chain(_norm(body.final_layer_norm), _product(module.lm_head, dtype)),
        rotation=None,
        heads=config.num_attention_heads,
        groups=config.num_attention_heads,
        size=size,
        dtype=dtype,
        device=words.device,
    )


def _llama(module: Any, dtype: torch.dtype) -> Network | None:
    config, body = module.config, module.model
    if config.rope_parameters["rope_type"] != "default":
        return None
    act = _activation(config.hidden_act)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

    def blocks() -> Iterator[Block]:
        for layer in body.layers:
            attention, mlp = layer.self_attn, layer.mlp
            together = _product([attention.q_proj, attention.k_proj, attention.v_proj], dtype)
            gated, down = _product([mlp.gate_proj, mlp.up_proj], dtype), _product(mlp.down_proj, dtype)
            yield Block(
                projection=_chain(_norm(layer.input_layernorm), together),
                output=_product(attention.o_proj, dtype),
                mlp=_chain(_norm(layer.post_attention_layernorm), gated, _gate(act), down),
                scale=size**-0.5,
            )

    words, frequencies = body.embed_tokens.weight.detach(), body.rotary_emb.inv_freq

    def rotation(positions: Tensor) -> tuple[Tensor, Tensor]:
        angles = (positions[..., None].float() * frequencies.float()).repeat(1, 1, 2)[:, None]
        return angles.cos().to(dtype), angles.sin().to(dtype)

    return Network(
        embed=lambda tokens, positions: F.embedding(tokens, words),
        blocks=list(blocks()),
        head=_chain(_norm(body.norm), _product(module.lm_head, dtype)),
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


def _product(layers: Any, dtype: torch.dtype) -> Map:
    """One linear layer, or several side by side, with its weights in `dtype`."""
    layers = layers if isinstance(layers, list) else [layers]
    # transformers' Conv1D, which GPT-2 is made of, has its weight the other way round than nn.Linear
    weights = [layer.weight if isinstance(layer, nn.Linear) else layer.weight.t() for layer in layers]
    weight = torch.cat([w.detach() for w in weights]).to(dtype).contiguous()
    biases = [layer.bias for layer in layers if layer.bias is not None]
    assert len(biases) in (0, len(layers)), "layers with and without a bias do not go side by side"
    bias = torch.cat([b.detach() for b in biases]).to(dtype) if biases else None
    return lambda x: F.linear(x.to(dtype), weight, bias)


def _norm(layer: Any) -> Map:
    if isinstance(layer, nn.LayerNorm):
        return lambda x: F.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)
    weight = layer.weight.detach()
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
