"""A lean forward pass: for writing over a cache that is laid out once, and for fitting.

A transformers module spends much of a small step on what is not arithmetic. Here queries, keys and values come from one
product, and in writing weights are read off once, in the precision of the products, and keys and values are written in
place. The caller says at which positions tokens stand, where in the cache they go and what they may see, so that one
pass serves prompts, single steps, rows of uneven lengths, and beams that share a prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

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
    norm : residual stream to the last hidden states.
    head : residual stream to logits.
    rotation : positions to (cosines, sines) for the queries and keys; None where positions are embedded.
    heads, groups, size : attention heads, heads of keys and values, width of a head.
    dtype : of the products and the cache.
    """

    embed: Callable[[Tensor, Tensor], Tensor]
    blocks: list[Block]
    norm: Map
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


SHORT = 256
"""Positions up to which plain attention is the faster one on a CPU."""


def states(network: Network, tokens: Tensor) -> Tensor:
    """The residual stream above whole texts, `(rows, positions, width)`, through which gradients flow."""
    rows, count = tokens.shape
    heads, groups, size = network.heads, network.groups, network.size
    positions = torch.arange(count, device=tokens.device)[None]
    x = network.embed(tokens, positions)
    rotation = None if network.rotation is None else network.rotation(positions)
    plain = tokens.device.type == "cpu" and count <= SHORT
    mask = torch.full((count, count), -torch.inf, dtype=network.dtype, device=tokens.device).triu_(1)
    for block in network.blocks:
        parts = block.projection(x).view(rows, count, heads + 2 * groups, size).transpose(1, 2)
        query, key, value = torch.split(parts, [heads, groups, groups], 1)
        if rotation is not None:
            query, key = rotated(query, *rotation), rotated(key, *rotation)
        if heads > groups:
            key, value = (each.repeat_interleave(heads // groups, 1) for each in (key, value))
        if plain:
            mixed = ((query * block.scale) @ key.transpose(-1, -2) + mask).softmax(-1) @ value
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=block.scale)
        x = x + block.output(mixed.transpose(1, 2).reshape(rows, count, heads * size))
        x = x + block.mlp(x)
    return x
