"""Human text as rows of tokens, and rows as the blocks that a fit reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from lmcollapse.substrates.causal_lm.models import boundaries
from lmcollapse.substrates.causal_lm.options import TrainOptions
from lmcollapse.types import HUMAN, Corpus, Documents, Human, Ints, UserError

IGNORED = -100
"""The label of a position whose prediction is not trained: torch's default for `ignore_index`."""


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts, and of nothing else: special tokens are neither added nor read out of the text."""
    if not texts:
        return []
    encoded = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
    )
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def to_texts(tokenizer: PreTrainedTokenizerBase, rows: Iterable[Ints]) -> list[str]:
    """Rows as text: an end of text within a row is a blank line, other special tokens are left out."""
    _, eos = boundaries(tokenizer)
    texts = []
    for row in rows:
        parts = np.split(np.asarray(row), np.flatnonzero(np.asarray(row) == eos) + 1)
        decoded = (
            str(tokenizer.decode(part.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False))
            for part in parts
        )
        texts.append("\n\n".join(text for text in decoded if text))
    return texts


def encode(tokenizer: PreTrainedTokenizerBase, human: Human[Documents], train: TrainOptions) -> tuple[Corpus, Corpus]:
    """The human training part as rows of the unit that is trained on, the held-out part as one row a document.

    Held-out documents end without EOS: what is scored is the text alone, as lm-evaluation-harness has it.
    """
    texts, sources = human.heldout.texts, human.heldout.sources
    heldout = Corpus.of_tokens(tokenize(tokenizer, texts), HUMAN, texts=texts, sources=sources)
    documents = Corpus.of_tokens(tokenize(tokenizer, human.train.texts), HUMAN)
    for name, part in (("training", documents), ("held-out", heldout)):
        if not len(part.values):
            raise UserError(f"the human {name} part has no text; give a larger corpus")
    _, eos = boundaries(tokenizer)
    rows = [np.append(documents.tokens(row), eos) for row in range(len(documents))]
    if train.unit == "document":
        texts, sources = human.train.texts, human.train.sources
        return Corpus.of_tokens(rows, HUMAN, texts=texts, sources=sources), heldout
    cut = _cut(rows, train.block_size)
    return Corpus.of_tokens(list(cut), HUMAN, texts=to_texts(tokenizer, cut)), heldout


@dataclass(frozen=True)
class Blocks:
    """What a fit reads: in every block, each input position predicts its label.

    inputs : `(blocks, positions)` int64 token ids.
    labels : `(blocks, positions)` int64, the token that follows; IGNORED where the prediction is not trained.
    """

    inputs: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.inputs)


def training_blocks(train: Corpus, options: TrainOptions, bos: int, eos: int, seed: int) -> Blocks:
    """Rows as blocks of one length without padding, in which every token of every row is predicted once.

    Unit `block`: rows are the blocks; those of another length are laid end to end and cut (the remainder is dropped).
    With `bos` each block is preceded by it, and its first token is predicted from it; else the first is only read.
    Unit `document`: rows, each preceded by BOS, are laid end to end in a random order and cut.
    """
    rows = [train.tokens(row) for row in range(len(train))]
    if options.unit == "document":
        order = np.random.default_rng(seed).permutation(len(rows))
        return _document_blocks([rows[i] for i in order], options.block_size, bos, eos)
    size = options.block_size
    whole = [row for row in rows if len(row) == size]
    rest = [row for row in rows if len(row) != size]
    blocks = np.concatenate([*(row[None] for row in whole), *([] if whole and not rest else [_cut(rest, size)])])
    blocks = blocks.astype(np.int64)
    if not options.bos:
        return Blocks(blocks[:, :-1], blocks[:, 1:])
    return Blocks(np.insert(blocks[:, :-1], 0, bos, axis=1), blocks)


def _document_blocks(rows: Sequence[Ints], size: int, bos: int, eos: int) -> Blocks:
    """Documents laid end to end; only what fills up the last block is neither read from a row nor trained.

    A document that was cut short (no EOS at its end) does not end there, so the BOS after it is read and not predicted.
    Where BOS and EOS are one token, the EOS of one document is the BOS of the next.
    """
    stream: list[Ints] = []
    labels: list[Ints] = []
    ended = False
    for row in rows:
        if not (ended and bos == eos):
            stream.append(np.array([bos]))
            labels.append(np.array([bos if ended else IGNORED]))
        stream.append(row)
        labels.append(row)
        ended = bool(row[-1] == eos)
    inputs, targets = np.concatenate(stream).astype(np.int64)[:-1], np.concatenate(labels).astype(np.int64)[1:]
    missing = -len(inputs) % size
    inputs = np.pad(inputs, (0, missing), constant_values=eos)
    targets = np.pad(targets, (0, missing), constant_values=IGNORED)
    return Blocks(inputs.reshape(-1, size), targets.reshape(-1, size))


def _cut(rows: Sequence[Ints], size: int) -> npt.NDArray[Any]:
    """Rows laid end to end, as `(blocks, size)`; the remainder is dropped."""
    stream = np.concatenate([np.empty(0, np.int32), *rows])
    blocks = len(stream) // size
    if not blocks:
        raise UserError(
            f"{len(stream)} tokens do not fill one block of train.block_size {size}; give a larger corpus or a smaller "
            "block size"
        )
    return stream[: blocks * size].reshape(blocks, size)
