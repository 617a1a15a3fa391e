"""Beam search with a network, as transformers' `generate` searches (length penalty 1).

The beams of a document share the places of its prompt. After that each step has a place for each beam; all beams look
at all of them, and a mask says which are of a beam's own past. So nothing is ever moved in the cache, and each key is
read once for all beams.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lmcollapse.substrates.causal_lm.decoding import NOTHING
from lmcollapse.substrates.causal_lm.network import Cache, Network, forward
from lmcollapse.substrates.causal_lm.stepping import Job, Repeated, Tokens, at, hidden, read

NEVER = -1.0e9
"""The score of a beam that must not be chosen, as transformers has it."""


class Beams:
    """The likeliest continuations that a beam search finds.

    text : `(rows, beams, places)`.
    scores : `(rows, beams)` summed log-probabilities.
    mask : `(rows, beams, places of the cache)`, what is added to attention scores: 0 for a beam's own past, else -inf.
    column : `(1,)` of the last token that is written, which is read next.
    slots : `(beams,)` places of the cache that it goes to.
    """

    def __init__(self, network: Network, job: Job, documents: Sequence[int], beams: int) -> None:
        self.network, self.job = network, job
        prompts = job.prompts(documents)
        rows, self.length = prompts.shape
        device, places = network.device, self.length + beams * (job.new_tokens - 1)
        self.cache = Cache(network, rows, places)
        read(network, prompts[:, :-1], self.cache)
        self.text = torch.zeros(rows, beams, self.length + job.new_tokens, dtype=torch.long, device=device)
        self.text[:, :, : self.length] = prompts[:, None]
        self.scores = torch.full((rows, beams), NEVER, device=device)
        self.scores[:, 0] = 0  # all beams are equal at first: only one of them counts
        self.mask = torch.full((rows, beams, places), -torch.inf, dtype=network.dtype, device=device)
        self.mask[:, :, : self.length] = 0
        self.own = torch.arange(beams, device=device)
        self.first_of_row = torch.arange(rows, device=device)[:, None] * beams
        self.column = torch.full((1,), self.length - 1, device=device)
        self.slots = self.length + self.own
        self.ended = _Ended(rows, beams, self.text, self.length)

    def write(self) -> list[Tokens]:
        """The best text of each document, without its prompt."""
        new_tokens, beams = self.job.new_tokens, len(self.own)
        step = Repeated(self.step, self.network.device)
        for number in range(new_tokens):
            last = number + 1 == new_tokens
            if number == 0:
                self.cache.reserve(self.length)
                self.choose(self._after_prompt(), last)
            elif last:
                self.cache.reserve(self.length + beams * number)
                self.choose(self._after_beams(), last)
            else:
                step.take(self.cache.reserve(self.length + beams * number))
            self.job.advance(len(self.text))
            if self.job.stop is not None and not self.ended.may_improve():
                break
        return self.ended.best()

    def step(self) -> None:
        """One more token in each beam."""
        self.choose(self._after_beams(), last=False)

    def _after_prompt(self) -> Tensor:
        """`(rows, beams, vocabulary)` logits, the same for all beams."""
        mask = hidden(self.network, torch.arange(self.cache.width, device=self.network.device) > self.column)
        unread = self.text[:, 0].index_select(1, self.column)
        states = forward(self.network, unread, self.column[None], self.cache, at(self.column), mask[None, None, None])
        return self.network.head(states).float().expand(-1, len(self.own), -1)

    def _after_beams(self) -> Tensor:
        """`(rows, beams, vocabulary)` logits."""
        self.mask[:, self.own, self.slots] = 0
        unread = self.text.index_select(2, self.column)[:, :, 0]
        position = self.column[None].expand(1, len(self.own))
        mask = self.mask[:, None, :, : self.cache.width]
        states = forward(self.network, unread, position, self.cache, at(self.slots), mask)
        self.slots += len(self.own)
        return self.network.head(states).float()

    def choose(self, logits: Tensor, last: bool) -> None:
        """Go on with the best candidates, and put those that end aside."""
        beams, stop = len(self.own), self.job.stop
        logs = logits.log_softmax(-1)
        if self.job.shape is not None:
            # what is not written yet repeats the first token, so that penalties see no other
            so_far = self.text.flatten(0, 1)
            unwritten = torch.arange(so_far.shape[1], device=so_far.device) > self.column
            so_far = torch.where(unwritten, so_far[:, :1], so_far)
            logs = self.job.shape(so_far, logs.flatten(0, 1)).view(logs.shape)  # type: ignore[arg-type]
        # twice as many as needed: if all the best end here, there are others to go on with
        best, index = (logs + self.scores[:, :, None]).flatten(1).topk(2 * beams)
        source, token = index // logs.shape[-1], index % logs.shape[-1]
        if stop is None and not last:
            scores, source, token = best[:, :beams], source[:, :beams], token[:, :beams]
            grown = self._grown(source, token)
        else:
            grown = self._grown(source, token)
            ends = torch.full_like(token, last, dtype=torch.bool) if stop is None else (token == stop) | last
            scores, chosen = (best + ends * NEVER).topk(beams)
            self.ended.add(grown, best, ends, self.column + 2 - self.length, scores)
            grown, source = _of(grown, chosen), source.gather(1, chosen)
        self.text.copy_(grown)
        self.scores.copy_(scores)
        self.mask.copy_(self._beams(self.mask, source))
        self.column += 1

    def _grown(self, source: Tensor, token: Tensor) -> Tensor:
        """The texts of the beams `source`, each with one more token."""
        return self._beams(self.text, source).index_copy_(2, self.column + 1, token[:, :, None])

    def _beams(self, of: Tensor, source: Tensor) -> Tensor:
        """`(rows, sources, …)`: for each row some of its beams. Whole beams are copied, which `gather` does not do."""
        found = of.flatten(0, 1).index_select(0, (self.first_of_row + source).flatten())
        return found.view(*source.shape, -1)


class _Ended:
    """The best texts that have ended, `beams` of each document."""

    def __init__(self, rows: int, beams: int, text: Tensor, length: int) -> None:
        self.beams, self.length = beams, length
        self.text = text.clone()
        self.scores = torch.full((rows, beams), NEVER, device=text.device)
        self.tokens = torch.zeros(rows, beams, dtype=torch.long, device=text.device)
        self.filled = torch.zeros(rows, beams, dtype=torch.bool, device=text.device)
        self.open = torch.ones(rows, 1, dtype=torch.bool, device=text.device)

    def add(self, text: Tensor, scores: Tensor, ends: Tensor, tokens: Tensor, running: Tensor) -> None:
        """Take in candidates that have ended; only those among the best `beams` count, as long as a row is open.

        tokens : `(1,)` that each of them has.
        """
        among = torch.arange(scores.shape[1], device=scores.device) < self.beams
        counts = ends & among & self.open
        candidates = scores / tokens + ~counts * NEVER
        scores, order = torch.cat([self.scores, candidates], 1).topk(self.beams)
        self.scores.copy_(scores)
        self.text.copy_(_of(torch.cat([self.text, text], 1), order))
        self.tokens.copy_(torch.cat([self.tokens, tokens.expand(ends.shape)], 1).gather(1, order))
        self.filled.copy_(torch.cat([self.filled, counts], 1).gather(1, order))
        # a row is closed once its best running beam is worse than the worst that ended
        worst = torch.where(self.filled, self.scores.min(1, keepdim=True)[0], NEVER)
        self.open &= (running[:, :1] / tokens > worst).any(1, keepdim=True)

    def may_improve(self) -> bool:
        return bool(self.open.any())

    def best(self) -> list[Tokens]:
        """The best text of each document, without its prompt; NOTHING where its score is no finite number."""
        found = self.text[:, 0, self.length :].masked_fill(~self.scores[:, :1].isfinite(), NOTHING)
        written = found.cpu().numpy().astype(np.int32)
        return [row[:tokens] for row, tokens in zip(written, self.tokens[:, 0].tolist(), strict=True)]


def _of(beams: Tensor, chosen: Tensor) -> Tensor:
    """`(rows, chosen, …)` the chosen beams of each row."""
    return beams.gather(1, chosen[:, :, None].expand(-1, -1, beams.shape[2]))
