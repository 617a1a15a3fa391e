"""What all ways of writing share: the job, a step that is repeated, and how a step reads and fills the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import LogitsProcessorList

from lmcollapse.substrates.causal_lm.network import Cache, Network, forward

Tokens = npt.NDArray[np.int32]
"""What was written of one document, without its prompt."""

Prompts = Callable[[Sequence[int]], list[list[int]]]
"""Gives token ids for documents by number, BOS among them; all of one length. For writers that take no tensors."""

Write = Callable[[Tensor, Tensor], object]


@dataclass(frozen=True)
class Job:
    """What is written, and how.

    prompts : gives `(documents, positions)` int64 for documents by number, BOS among them; all of one length.
    new_tokens : of each document, at most where there is a `stop`.
    stop : the token that ends a document, and is its last; None for none.
    shape : penalties and filters of the logits; None for none.
    choose : `(logits, uniforms)` to tokens; not used by beams.
    uniforms : gives `(documents, new_tokens)` float64 in [0, 1) for documents by number; None where nothing is drawn.
    advance : is told of so many tokens as soon as they are written.
    """

    prompts: Callable[[Sequence[int]], Tensor]
    new_tokens: int
    stop: int | None
    shape: LogitsProcessorList | None
    choose: Callable[[Tensor, Tensor | None], Tensor]
    uniforms: Callable[[Sequence[int]], Tensor] | None
    advance: Callable[[int], None] = lambda tokens: None


def number_of(*numbers: int, bits: int = 32) -> int:
    """A number of so many bits that follows from these: a seed for a writer that draws its own random numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> (64 - bits)


class Repeated:
    """A step that is taken again and again on the same tensors, and leaves its results in them.

    On a GPU it is captured as a graph and replayed, so that a small model is not bound by launching kernels one by one.
    A step must therefore not look at the value of a tensor.
    """

    def __init__(self, step: Callable[[], None], device: torch.device) -> None:
        self.step, self.device = step, device
        self.graph: torch.cuda.CUDAGraph | None = None
        self.shape: object = None

    def take(self, shape: object) -> None:
        """Take the step once. `shape` is another one whenever tensors have been replaced."""
        if self.device.type != "cuda":
            self.step()
        elif shape != self.shape:
            self.graph, self.shape = None, shape
            # the first one is not captured: libraries prepare themselves in it
            beside = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            beside.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(beside):
                self.step()
            torch.cuda.current_stream(self.device).wait_stream(beside)
        else:
            if self.graph is None:
                self.graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self.graph):
                    self.step()
            self.graph.replay()


def read(network: Network, prompts: Tensor, cache: Cache) -> None:
    """Fill the first places of a cache; the last token of a prompt is left to the first step."""
    count = prompts.shape[1]
    if count:
        places = torch.arange(count, device=network.device)
        mask = hidden(network, torch.arange(cache.reserve(count), device=network.device) > places[:, None])
        forward(network, prompts, places[None], cache, at(places), mask[None, None])


def hidden(network: Network, hidden: Tensor) -> Tensor:
    """What is added to the scores: -inf where a place is hidden."""
    return torch.zeros(hidden.shape, dtype=network.dtype, device=network.device).masked_fill_(hidden, -torch.inf)


def at(places: Tensor) -> Write:
    """Writes into these places, the same for all rows."""
    return lambda to, new: to.index_copy_(2, places, new.to(to.dtype))


def at_each(rows: Tensor, places: Tensor) -> Write:
    """Writes into one place of each row."""

    def write(to: Tensor, new: Tensor) -> None:
        to[rows, :, places] = new[:, :, 0].to(to.dtype)

    return write
