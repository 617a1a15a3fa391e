"""Rare human words, and the last generation in which each was still in use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lmcollapse.files import local
from lmcollapse.metrics.numbering import Numbering
from lmcollapse.report.gather import Gathered, Told
from lmcollapse.report.text import short
from lmcollapse.report.written import columns_of, corpus_file, has_texts, unreadable
from lmcollapse.types import HUMAN, Ints

RARE = 4
"""The most occurrences of a rare word where the configuration does not say."""
SAMPLE = 14
"""Lost words that are shown a generation."""
LETTERS = 24
"""Longest word that is shown whole."""


@dataclass(frozen=True)
class Last:
    """What happened to rare words after one generation.

    generation : HUMAN (-1) for the human training part itself.
    used : rare words in what it wrote.
    lost : of these, those that no later generation has used.
    words : some of those that were lost, in no particular order.
    """

    generation: int
    used: int
    lost: int
    words: list[str]


@dataclass(frozen=True)
class WordsLost:
    """The rare words of a run's human training part: how many there are, what counts as rare, and when they went."""

    condition: int
    label: str
    seed: int
    rare: int
    rare_count: int
    generations: list[Last]

    @property
    def kept(self) -> int:
        """Words that the last generation uses."""
        return self.generations[-1].used


def words_lost(gathered: Gathered) -> list[WordsLost]:
    """Of the first run of each condition whose runs hold texts; the words are those of the measures of the tail."""
    return [
        _of_run(number, one.label, one.first)
        for number, one in enumerate(gathered.conditions)
        if one.first.kind == "text" and has_texts(one.first)
    ]


def _of_run(condition: int, label: str, run: Told) -> WordsLost:
    most = ((run.config.get("measures") or {}).get("tail_coverage") or {}).get("rare_count", RARE)
    numbering = Numbering()
    counts = _counts(numbering, run.path / "human" / "train.parquet")
    rare = np.flatnonzero((counts >= 1) & (counts <= most))
    last = np.full(len(rare), HUMAN)
    used = [len(rare)]
    for generation in range(run.finished):
        there = _counts(numbering, corpus_file(run, generation))[rare] > 0
        last[there] = generation
        used.append(int(there.sum()))
    types = list(numbering.numbers)
    generations = []
    for generation, words in enumerate(used, HUMAN):
        gone = rare[last == generation] if generation < run.finished - 1 else rare[:0]
        some = np.random.default_rng(0).permutation(len(gone))[:SAMPLE]
        generations.append(Last(generation, words, len(gone), [short(types[gone[i]], LETTERS) for i in some]))
    return WordsLost(condition, label, run.seed, len(rare), most, generations)


def _counts(numbering: Numbering, file: Path) -> Ints:
    """Occurrences of each word that has a number."""
    columns_of(file)
    counts = np.zeros(len(numbering), np.int64)
    try:
        for words in numbering.rows(_texts(file)):
            size = len(numbering)
            if size > len(counts):
                counts = np.concatenate([counts, np.zeros(2 * size - len(counts), np.int64)])
            np.add.at(counts, words, 1)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(file, error) from None
    return counts[: len(numbering)]


def _texts(file: Path) -> Iterator[str]:
    for batch in pq.ParquetFile(local(file)).iter_batches(columns=["text"]):
        yield from batch.column(0).to_pylist()
