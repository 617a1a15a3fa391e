"""How text is written with a network, token by token in a full batch.

A batch in which all documents have one length goes in step: every row is at the same place. One whose documents end
where they end does not, and a row whose document has ended begins the next one at once, so that the batch stays full.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from lmcollapse.substrates.causal_lm.beams import Beams
from lmcollapse.substrates.causal_lm.decoding import NOTHING, readable
from lmcollapse.substrates.causal_lm.network import Cache, Network, forward
from lmcollapse.substrates.causal_lm.stepping import Job, Repeated, Tokens, at, at_each, hidden, read

FULL = 0.75
"""With no document left to begin, a batch goes on without its ended rows once fewer than this share are written."""


def write(
    network: Network, job: Job, documents: Sequence[int], rows: int, beams: int | None
) -> Iterator[tuple[int, Tokens]]:
    """These documents with their numbers, as they are finished, `rows` at a time; by beam search with `beams`."""
    if beams is None and job.stop is not None:
        yield from _Uneven(network, job, documents, min(rows, len(documents))).write()
        return
    for first in range(0, len(documents), rows):
        some = documents[first : first + rows]
        batch = _Even(network, job, some) if beams is None else Beams(network, job, some, beams)
        yield from zip(some, batch.write(), strict=True)


class _Even:
    """A batch whose rows are all at the same place; documents have exactly `new_tokens` tokens.

    text : `(rows, places + 1)`; what is not written yet repeats the first token, so that penalties see no other.
    place : `(1,)` of the last token that is written, which is read next.
    lost : whether there was no distribution to choose from; then every document is NOTHING.
    """

    def __init__(self, network: Network, job: Job, documents: Sequence[int]) -> None:
        self.network, self.job = network, job
        prompts = job.prompts(documents)
        rows, self.length = prompts.shape
        places = self.length + job.new_tokens - 1
        self.cache = Cache(network, rows, places)
        read(network, prompts[:, :-1], self.cache)
        self.text = prompts[:, :1].repeat(1, places + 1)
        self.text[:, : self.length] = prompts
        self.place = torch.full((1,), self.length - 1, device=network.device)
        self.places = torch.arange(places, device=network.device)
        self.lost = torch.zeros((), dtype=torch.bool, device=network.device)
        self.draws = None if job.uniforms is None else job.uniforms(documents)

    def step(self) -> None:
        """One more token in each row."""
        network, job, place, width = self.network, self.job, self.place, self.cache.width
        mask = hidden(network, self.places[:width] > place)
        unread = self.text.index_select(1, place)
        states = forward(network, unread, place[None], self.cache, at(place), mask[None, None, None])
        logits = network.head(states[:, 0]).float()
        if job.shape is not None:
            logits = job.shape(self.text[:, :width], logits)  # type: ignore[arg-type]  # it means any integers
        draws = None if self.draws is None else self.draws.index_select(1, place - (self.length - 1))[:, 0]
        place += 1
        self.text.index_copy_(1, place, readable(job.choose(logits, draws), self.lost)[:, None])

    def write(self) -> list[Tokens]:
        step = Repeated(self.step, self.network.device)
        for places in range(self.length, self.length + self.job.new_tokens):
            step.take(self.cache.reserve(places))
            self.job.advance(len(self.text))
        return list(self.text[:, self.length :].masked_fill(self.lost, NOTHING).cpu().numpy().astype(np.int32))


class _Uneven:
    """A batch whose rows are each at a place of their own.

    document : `[rows]` the number of each row's document, None for rows that have none any more.
    text : `(rows, places + 1)`; what is not written yet repeats the first token, so that penalties see no other.
    place : `(rows,)` of the last token that is written, which is read next.
    ended : `(rows,)` whether the last step ended the row's document.
    lost : whether there was no distribution to choose from; then every document that ends is NOTHING.
    """

    def __init__(self, network: Network, job: Job, documents: Sequence[int], rows: int) -> None:
        self.network, self.job, self.waiting = network, job, list(documents[::-1])
        self.length = job.prompts(documents[:1]).shape[1]
        places = self.length + job.new_tokens - 1
        self.cache = Cache(network, rows, places)
        self.text = torch.zeros(rows, places + 1, dtype=torch.long, device=network.device)
        self.place = torch.zeros(rows, dtype=torch.long, device=network.device)
        self.ended = torch.zeros(rows, dtype=torch.bool, device=network.device)
        self.lost = torch.zeros((), dtype=torch.bool, device=network.device)
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
            read(self.network, prompts[:, :-1], fresh)
            self.cache.put(given, fresh)
        self.text[given] = prompts[:, :1]
        self.text[given, : self.length] = prompts
        self.place[given] = self.length - 1
        if self.job.uniforms is not None:
            self.draws[given] = self.job.uniforms(numbers)
        for row, number in zip(rows, numbers, strict=False):
            self.document[row] = number

    def step(self) -> None:
        """One more token in each row."""
        network, job, place, width = self.network, self.job, self.place, self.cache.width
        every = torch.arange(len(place), device=network.device)
        mask = hidden(network, self.places[:width] > place[:, None])[:, None, None]
        unread = self.text[every, place][:, None]
        states = forward(network, unread, place[:, None], self.cache, at_each(every, place), mask)
        logits = network.head(states[:, 0]).float()
        if job.shape is not None:
            logits = job.shape(self.text[:, :width], logits)  # type: ignore[arg-type]
        step = place - (self.length - 1)
        chosen = readable(job.choose(logits, None if job.uniforms is None else self.draws[every, step]), self.lost)
        self.ended.copy_((chosen == job.stop) | (step + 1 == job.new_tokens))
        self.text[every, place + 1] = chosen
        place += 1

    def write(self) -> Iterator[tuple[int, Tokens]]:
        """All documents with their numbers, as they end."""
        step = Repeated(self.step, self.network.device)
        while self.document:
            seen = int(self.place.max()) + 1
            step.take((self.cache.reserve(seen), len(self.document)))
            self.job.advance(sum(number is not None for number in self.document))
            yield from self.finish()
            self.place.clamp_(max=len(self.places) - 1)  # rows without a document stand still at the end
            self.shrink()

    def finish(self) -> Iterator[tuple[int, Tokens]]:
        """The documents that the last step has ended; their rows begin others."""
        ended = [row for row in self.ended.nonzero()[:, 0].tolist() if self.document[row] is not None]
        if not ended:
            return
        written = self.text[ended].masked_fill(self.lost, NOTHING).cpu().numpy().astype(np.int32)
        for row, tokens, last in zip(ended, written, self.place[ended].tolist(), strict=True):
            number = self.document[row]
            assert number is not None
            yield number, tokens[self.length : last + 1]
        self.begin(ended)

    def shrink(self) -> None:
        """Go on without the rows that have no document, where they are many."""
        kept = [row for row, number in enumerate(self.document) if number is not None]
        if len(kept) > FULL * len(self.document):
            return
        rows = torch.tensor(kept, dtype=torch.long, device=self.network.device)
        self.cache.keep(rows)
        self.text, self.place = self.text[rows], self.place[rows]
        self.ended, self.draws = self.ended[rows], self.draws[rows]
        self.document = [self.document[row] for row in kept]
