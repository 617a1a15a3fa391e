"""How text is written with a network: token by token in a full batch, and by beams that share their prompt.

A batch in which all documents have one length goes in step: every row is at the same place. One whose documents end
where they end does not, and a row whose document has ended begins the next one at once, so that the batch stays full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import LogitsProcessorList

from lmcollapse.substrates.causal_lm.network import Cache, Network, forward

Tokens = npt.NDArray[np.int32]

Write = Callable[[Tensor, Tensor], None]

NEVER = -1.0e9
"""The score of a beam that must not be chosen, as transformers has it."""

FULL = 0.75
"""With no document left to begin, a batch goes on without its ended rows once fewer than this share are written."""


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


def write(
    network: Network, job: Job, documents: Sequence[int], rows: int, beams: int | None
) -> Iterator[tuple[int, Tokens]]:
    """These documents with their numbers, as they are finished, `rows` at a time; by beam search with `beams`."""
    if beams is None and job.stop is not None:
        yield from write_uneven(network, job, documents, rows)
        return
    for first in range(0, len(documents), rows):
        some = documents[first : first + rows]
        if beams is None:
            yield from zip(some, write_even(network, job, some), strict=True)
        else:
            yield from zip(some, write_beams(network, job, some, beams), strict=True)


def write_even(network: Network, job: Job, documents: Sequence[int]) -> list[Tokens]:
    """Documents of exactly `new_tokens` tokens."""
    prompts = job.prompts(documents)
    rows, length = prompts.shape
    cache = Cache(network, rows, length + job.new_tokens - 1)
    _read(network, prompts[:, :-1], cache)
    draws = None if job.uniforms is None else job.uniforms(documents)
    text = torch.empty(rows, length + job.new_tokens, dtype=torch.long, device=network.device)
    text[:, :length] = prompts
    for step in range(job.new_tokens):
        place = length - 1 + step
        position = torch.full((1, 1), place, device=network.device)
        mask = _hidden(network, torch.arange(cache.reserve(place + 1), device=network.device) > place)
        states = forward(network, text[:, place, None], position, cache, _at(place), mask[None, None, None])
        logits = network.head(states[:, 0]).float()
        if job.shape is not None:
            logits = job.shape(text[:, : place + 1], logits)  # type: ignore[arg-type]  # it means any integers
        text[:, place + 1] = job.choose(logits, None if draws is None else draws[:, step])
        job.advance(rows)
    return list(text[:, length:].cpu().numpy().astype(np.int32))


def write_uneven(network: Network, job: Job, documents: Sequence[int], rows: int) -> Iterator[tuple[int, Tokens]]:
    """Documents that end at `stop`, with their numbers, as they end."""
    batch = _Uneven(network, job, documents, min(rows, len(documents)))
    while batch.document:
        yield from batch.step()


class _Uneven:
    """A batch whose rows are each at a place of their own.

    document : `[rows]` the number of each row's document, None for rows that have none any more.
    text : `(rows, places + 1)`; what is not written yet repeats the first token, so that penalties see no other.
    place : `(rows,)` of the last token that is written, which is read next.
    """

    def __init__(self, network: Network, job: Job, documents: Sequence[int], rows: int) -> None:
        self.network, self.job, self.waiting = network, job, list(documents[::-1])
        self.length = job.prompts(documents[:1]).shape[1]
        places = self.length + job.new_tokens - 1
        self.cache = Cache(network, rows, places)
        self.text = torch.zeros(rows, places + 1, dtype=torch.long, device=network.device)
        self.place = torch.zeros(rows, dtype=torch.long, device=network.device)
        self.draws = torch.zeros(rows, job.new_tokens, dtype=torch.float64, device=network.device)
        self.places = torch.arange(places, device=network.device)
        self.document: list[int | None] = [None] * rows
        self.begin(range(rows))

    def begin(self, rows: Sequence[int]) -> None:
        """Give each of these rows the next document, as long as there is one."""
        numbers = [self.waiting.pop() for _ in range(min(len(rows), len(self.waiting)))]
        for row in rows:
            self.document[row] = None
        if not numbers:
            return
        prompts = self.job.prompts(numbers)
        given = torch.tensor(rows[: len(numbers)], device=self.network.device)
        if self.length > 1:
            fresh = Cache(self.network, len(numbers), self.length - 1)
            _read(self.network, prompts[:, :-1], fresh)
            self.cache.put(given, fresh)
        self.text[given] = prompts[:, :1]
        self.text[given, : self.length] = prompts
        self.place[given] = self.length - 1
        if self.job.uniforms is not None:
            self.draws[given] = self.job.uniforms(numbers)
        for row, number in zip(rows, numbers, strict=False):
            self.document[row] = number

    def step(self) -> Iterator[tuple[int, Tokens]]:
        """One more token in each row; the documents that it ends."""
        network, job, place = self.network, self.job, self.place
        every = torch.arange(len(place), device=network.device)
        seen = int(place.max()) + 1
        mask = _hidden(network, self.places[: self.cache.reserve(seen)] > place[:, None])[:, None, None]
        unread = self.text[every, place][:, None]
        states = forward(network, unread, place[:, None], self.cache, _at_each(every, place), mask)
        logits = network.head(states[:, 0]).float()
        if job.shape is not None:
            logits = job.shape(self.text[:, :seen], logits)  # type: ignore[arg-type]
        step = place - (self.length - 1)
        chosen = job.choose(logits, None if job.uniforms is None else self.draws[every, step])
        self.place = place + 1
        self.text[every, self.place] = chosen
        job.advance(sum(number is not None for number in self.document))
        ended = ((chosen == job.stop) | (step + 1 == job.new_tokens)).nonzero()[:, 0].tolist()
        ended = [row for row in ended if self.document[row] is not None]
        if ended:
            written = self.text[ended].cpu().numpy().astype(np.int32)
            for row, tokens, last in zip(ended, written, self.place[ended].tolist(), strict=True):
                number = self.document[row]
                assert number is not None
                yield number, tokens[self.length : last + 1]
            self.begin(ended)
        self.place.clamp_(max=len(self.places) - 1)  # rows without a document stand still at the end
        self.shrink()

    def shrink(self) -> None:
        """Go on without the rows that have no document, where they are many."""
        kept = [row for row, number in enumerate(self.document) if number is not None]
        if len(kept) > FULL * len(self.document):
            return
        rows = torch.tensor(kept, dtype=torch.long, device=self.network.device)
        self.cache.keep(rows)
        self.text, self.place, self.draws = self.text[rows], self.place[rows], self.draws[rows]
        self.document = [self.document[row] for row in kept]


def write_beams(network: Network, job: Job, documents: Sequence[int], beams: int) -> list[Tokens]:
    """The likeliest continuations that a beam search finds, as transformers' `generate` searches (length penalty 1).

    The beams of a document share the places of its prompt. After that each step has a place for each beam; all beams
    look at all of them, and a mask says which are of a beam's own past. So nothing is ever moved in the cache, and each
    key is read once for all beams.
    """
    prompts = job.prompts(documents)
    rows, length = prompts.shape
    device, places = network.device, length + beams * (job.new_tokens - 1)
    cache = Cache(network, rows, places)
    _read(network, prompts[:, :-1], cache)
    text = torch.zeros(rows, beams, length + job.new_tokens, dtype=torch.long, device=device)
    text[:, :, :length] = prompts[:, None]
    scores = torch.full((rows, beams), NEVER, device=device)
    scores[:, 0] = 0  # all beams are equal at first: only one of them counts
    visible = torch.zeros(rows, beams, places, dtype=torch.bool, device=device)
    visible[:, :, :length] = True
    own = torch.arange(beams, device=device)
    ended = _Ended(rows, beams, text, length)
    for step in range(job.new_tokens):
        position = torch.full((1, 1), length - 1 + step, device=device)
        if step == 0:
            mask = _hidden(network, torch.arange(cache.reserve(length), device=device) >= length)[None, None, None]
            states = forward(network, prompts[:, -1:], position, cache, _at(length - 1), mask)
            logits = network.head(states).float().expand(-1, beams, -1)
        else:
            first = length + beams * (step - 1)
            visible[:, own, first + own] = True
            mask = _hidden(network, ~visible[:, :, : cache.reserve(first + beams)])[:, None]
            unread, position = text[:, :, length + step - 1], position.expand(1, beams)
            states = forward(network, unread, position, cache, _at(first), mask)
            logits = network.head(states).float()
        logs = logits.log_softmax(-1)
        if job.shape is not None:
            so_far = text[:, :, : length + step].flatten(0, 1)
            logs = job.shape(so_far, logs.flatten(0, 1)).view(rows, beams, -1)  # type: ignore[arg-type]
        # twice as many as needed: if all the best end here, there are others to go on with
        best, index = (logs + scores[:, :, None]).flatten(1).topk(2 * beams)
        source, token = index // logs.shape[-1], index % logs.shape[-1]
        grown = _of(text, source)
        grown[:, :, length + step] = token
        last = step + 1 == job.new_tokens
        ends = torch.full_like(token, last, dtype=torch.bool) if job.stop is None else (token == job.stop) | last
        scores, chosen = (best + ends * NEVER).topk(beams)
        text, visible = _of(grown, chosen), _of(visible, source.gather(1, chosen))
        job.advance(rows)
        if job.stop is not None or last:
            ended.add(grown, best, ends, step + 1, scores)
            if not ended.may_improve():
                break
    return ended.best()


class _Ended:
    """The best texts that have ended, `beams` of each document."""

    def __init__(self, rows: int, beams: int, text: Tensor, length: int) -> None:
        self.beams, self.length = beams, length
        self.text = text.clone()
        self.scores = torch.full((rows, beams), NEVER, device=text.device)
        self.tokens = torch.zeros(rows, beams, dtype=torch.long, device=text.device)
        self.filled = torch.zeros(rows, beams, dtype=torch.bool, device=text.device)
        self.open = torch.ones(rows, 1, dtype=torch.bool, device=text.device)

    def add(self, text: Tensor, scores: Tensor, ends: Tensor, tokens: int, running: Tensor) -> None:
        """Take in candidates that have ended; only those among the best `beams` count, as long as a row is open."""
        among = torch.arange(scores.shape[1], device=scores.device) < self.beams
        counts = ends & among & self.open
        candidates = scores / tokens + ~counts * NEVER
        self.scores, order = torch.cat([self.scores, candidates], 1).topk(self.beams)
        self.text = _of(torch.cat([self.text, text], 1), order)
        self.tokens = torch.cat([self.tokens, torch.full_like(order[:, :1], tokens).expand_as(ends)], 1).gather(
            1, order
        )
        self.filled = torch.cat([self.filled, counts], 1).gather(1, order)
        # a row is closed once its best running beam is worse than the worst that ended
        worst = torch.where(self.filled, self.scores.min(1, keepdim=True)[0], NEVER)
        self.open &= (running[:, :1] / tokens > worst).any(1, keepdim=True)

    def may_improve(self) -> bool:
        return bool(self.open.any())

    def best(self) -> list[Tokens]:
        """The best text of each document, without its prompt."""
        written = self.text[:, 0, self.length :].cpu().numpy().astype(np.int32)
        return [row[:tokens] for row, tokens in zip(written, self.tokens[:, 0].tolist(), strict=True)]


def _of(beams: Tensor, chosen: Tensor) -> Tensor:
    """`(rows, chosen, …)` the chosen beams of each row."""
    return beams.gather(1, chosen[:, :, None].expand(-1, -1, beams.shape[2]))


def _read(network: Network, prompts: Tensor, cache: Cache) -> None:
    """Fill the first places of a cache; the last token of a prompt is left to the first step."""
    count = prompts.shape[1]
    if count:
        places = torch.arange(count, device=network.device)
        mask = _hidden(network, torch.arange(cache.reserve(count), device=network.device) > places[:, None])
        forward(network, prompts, places[None], cache, _at(0), mask[None, None])


def _hidden(network: Network, hidden: Tensor) -> Tensor:
    """What is added to the scores: -inf where a place is hidden."""
    return torch.zeros(hidden.shape, dtype=network.dtype, device=network.device).masked_fill_(hidden, -torch.inf)


def _at(first: int) -> Write:
    """Writes into successive places, the same for all rows."""

    def write(to: Tensor, new: Tensor) -> None:
        to[:, :, first : first + new.shape[2]] = new

    return write


def _at_each(rows: Tensor, places: Tensor) -> Write:
    """Writes into one place of each row."""

    def write(to: Tensor, new: Tensor) -> None:
        to[rows, :, places] = new[:, :, 0].to(to.dtype)

    return write
