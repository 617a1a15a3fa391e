"""Made-up text: words as frequent as those of a language, in rows as long as paragraphs; the same at each call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

TYPES = 300_000
"""Word types that there are to draw from."""

ROW = 60
"""Words in a row on average; lengths are geometric."""

FOREIGN = 0.05
"""Share of rows with a word that is not ASCII: these go the slow way through the code."""

BATCH = 5_000


def texts(words: int, seed: int, exponent: float = 1.0) -> Iterator[str]:
    """Rows until there are so many words, drawn independently with probability ~ 1 / (rank + 2.7)^exponent.

    Independent words have far more different n-grams than a text: tables of n-grams cannot be larger than here.
    """
    rng = np.random.default_rng([seed, words])
    spelt = np.array(_vocabulary(), dtype=object)
    cumulated = np.cumsum((np.arange(TYPES) + 3.7) ** -exponent)
    left = words
    while left > 0:
        lengths = rng.geometric(1 / ROW, BATCH)
        lengths = lengths[np.cumsum(lengths) - lengths < left]
        lengths[-1] = min(lengths[-1], left - int(lengths[:-1].sum()))
        drawn = spelt[np.searchsorted(cumulated, rng.random(lengths.sum()) * cumulated[-1])]
        for row, foreign in zip(np.split(drawn, np.cumsum(lengths)[:-1]), rng.random(len(lengths)), strict=True):
            yield _sentences(list(row), foreign < FOREIGN)
        left -= int(lengths.sum())


def write_texts(file: Path, words: int, seed: int, exponent: float = 1.0) -> Path:
    """The same as a parquet file with a column `text`."""
    schema = pa.schema([("text", pa.string())])
    batch: list[str] = []
    with pq.ParquetWriter(file, schema) as writer:
        for text in texts(words, seed, exponent):
            batch.append(text)
            if len(batch) == BATCH:
                writer.write_table(pa.table({"text": batch}, schema))
                batch = []
        writer.write_table(pa.table({"text": batch}, schema))
    return file


def _sentences(row: list[str], foreign: bool) -> str:
    if foreign:
        row[0] = "caf\u00e9"
    return " ".join(" ".join(row[i : i + 15]).capitalize() + "." for i in range(0, len(row), 15))


def _vocabulary() -> list[str]:
    """Different pronounceable words, the most frequent ones short: bijective numeration in syllables."""
    syllables = [consonant + vowel for consonant in "btkdsnrlmpgvfhzj" for vowel in "aeiou"]
    found = []
    for rank in range(1, TYPES + 1):
        word = ""
        while rank:
            rank, digit = divmod(rank - 1, len(syllables))
            word += syllables[digit]
        found.append(word)
    return found
