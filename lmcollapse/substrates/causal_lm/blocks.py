"""Human text as rows of tokens, and rows as the blocks that a fit reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from lmcollapse.spool import Spool, Texts, by_rows, chunks, joined, pieces
from lmcollapse.substrates.causal_lm.models import boundaries
from lmcollapse.substrates.causal_lm.options import TrainOptions
from lmcollapse.types import HUMAN, Corpus, Documents, Emptied, Human, Ints, UserError

IGNORED = -100
"""The label of a position whose prediction is not trained: torch's default for `ignore_index`."""


TOGETHER = 1 << 20
"""Characters that are tokenised at once: what a tokenizer notes of each token is many times as large as its number."""


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> Iterator[list[int]]:
    """Token ids of texts, and of nothing else: special tokens are neither added nor read out of the text."""
    for some in chunks(texts, TOGETHER):
        encoded = tokenizer(
            some, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
        )
        yield from encoded["input_ids"]


def to_texts(tokenizer: PreTrainedTokenizerBase, rows: Iterable[Ints]) -> Texts:
    """Rows as text: an end of text within a row is a blank line, other special tokens are left out."""
    _, eos = boundaries(tokenizer)

    def text_of(row: Ints) -> str:
        parts = np.split(np.asarray(row), np.flatnonzero(np.asarray(row) == eos) + 1)
        decoded = (
            str(tokenizer.decode(part.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False))
            for part in parts
        )
        return "\n\n".join(text for text in decoded if text)

    return Texts.of(map(text_of, rows))


def encode(tokenizer: PreTrainedTokenizerBase, human: Human[Documents], train: TrainOptions) -> tuple[Corpus, Corpus]:
    """The human training part as rows of the unit that is trained on, the held-out part as one row a document.

    Held-out documents end without EOS: what is scored is the text alone, as lm-evaluation-harness has it.
    """
    _, eos = boundaries(tokenizer)
    texts, sources = human.heldout.texts, human.heldout.sources
    heldout = Corpus.of_tokens(tokenize(tokenizer, texts), HUMAN, texts=texts, sources=sources)
    ended = ([*ids, eos] for ids in tokenize(tokenizer, human.train.texts))
    documents = Corpus.of_tokens(ended, HUMAN, texts=human.train.texts, sources=human.train.sources)
    for name, tokens in (("training", len(documents.values) - len(documents)), ("held-out", len(heldout.values))):
        if not tokens:
            raise UserError(f"the human {name} part has no text; give a larger corpus")
    if train.unit == "document":
        return documents, heldout
    cut = _cut(documents.values, train.block_size)
    edges = np.arange(0, cut.size + 1, train.block_size)
    return Corpus.of_stream(cut.reshape(-1), edges, HUMAN, to_texts(tokenizer, cut)), heldout


@dataclass(frozen=True)
class Blocks:
    """What a fit reads: in every block, each input position predicts its label.

    inputs : `(blocks, positions)` int32 token ids.
    labels : `(blocks, positions)` int32, the token that follows; IGNORED where the prediction is not trained.
    """

    inputs: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, blocks: Ints) -> Blocks:
        """These blocks, in this order."""
        places = self.inputs.shape[1]
        inputs, labels = (
            by_rows((of_all[some] for some in pieces(blocks)), np.int32, places)
            for of_all in (self.inputs, self.labels)
        )
        return Blocks(inputs, labels)


def training_blocks(train: Corpus, options: TrainOptions, bos: int, eos: int, seed: int) -> Blocks:
    """Rows as blocks of one length without padding, in which every token of every row is predicted once.

    Unit `block`: rows are the blocks; those of another length are laid end to end and cut (the remainder is dropped).
    With `bos` each block is preceded by it, and its first token is predicted from it; else the first is only read.
    Unit `document`: rows, each preceded by BOS, are laid end to end in a random order and cut.
    """
    if options.unit == "document":
        order = np.random.default_rng(seed).permutation(len(train))
        return _document_blocks(train, order, options.block_size, bos, eos)
    size = options.block_size
    whole = train.lengths == size
    stream = Corpus.concatenate([train.take(np.flatnonzero(whole)), train.take(np.flatnonzero(~whole))]).values
    blocks = _cut(stream, size)
    if not options.bos:
        return Blocks(blocks[:, :-1], blocks[:, 1:])
    preceded = (np.insert(some[:, :-1], 0, bos, axis=1) for some in pieces(blocks))
    return Blocks(by_rows(preceded, np.int32, size), blocks)


def _document_blocks(train: Corpus, order: Ints, size: int, bos: int, eos: int) -> Blocks:
    """Documents laid end to end; only what fills up the last block is neither read from a row nor trained.

    A document that was cut short (no EOS at its end) does not end there, so the BOS after it is read and not predicted.
    Where BOS and EOS are one token, the EOS of one document is the BOS of the next.
    """

    def stretches() -> Iterator[tuple[Sequence[int] | Ints, Sequence[int] | Ints]]:
        """What is read, and what of it is predicted."""
        ended = False
        for number in order.tolist():
            row = train.tokens(number)
            if not (ended and bos == eos):
                yield [bos], [bos if ended else IGNORED]
            yield row, row
            ended = bool(row[-1] == eos)

    read, predicted = Spool(np.int32), Spool(np.int32)
    tokens, waiting = 0, stretches()
    while some := list(islice(waiting, 512)):
        read.append(np.concatenate([stretch for stretch, _ in some]))
        predicted.append(np.concatenate([labels for _, labels in some]))
        tokens += sum(len(stretch) for stretch, _ in some)
    # the first token is only read, the last one only predicted
    missing = -(tokens - 1) % size
    predicted.append(np.full(missing, IGNORED))
    inputs, labels = read.finish(), predicted.finish()[1:]
    inputs = joined([inputs[: tokens - 1], np.full(missing, eos)], np.int32) if missing else inputs[:-1]
    return Blocks(inputs.reshape(-1, size), labels.reshape(-1, size))


def _cut(stream: Ints, size: int) -> npt.NDArray[Any]:
    """Tokens end to end as `(blocks, size)`; the remainder is dropped."""
    blocks = len(stream) // size
    if not blocks:
        raise Emptied(
            f"{len(stream)} tokens do not fill one block of train.block_size {size}; give a larger corpus or a smaller "
            "block size",
            "model",
        )
    return stream[: blocks * size].reshape(blocks, size)
