"""English-like text for tests: Zipf-distributed words, so that there is a head and a tail to lose."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lmcollapse.catalog import CATALOG

FEW_MEASURES = dict.fromkeys(
    set(CATALOG["measure"]) - {"perplexity", "sequence_perplexity", "distinct_n", "tail_coverage"}
)
"""For tests of the loop that are not about measures: most of them left out."""


def documents(count: int, words: int = 60, seed: int = 0) -> list[str]:
    """So many different documents of so many words."""
    rng = np.random.default_rng(seed)
    syllables = ["ba", "do", "ki", "lu", "me", "no", "pa", "ri", "so", "tu", "ve", "xa"]
    vocabulary = ["".join(rng.choice(syllables, rng.integers(1, 5))) for _ in range(2000)]
    weights = 1 / np.arange(1, len(vocabulary) + 1)
    texts = []
    for _ in range(count):
        chosen = rng.choice(vocabulary, words, p=weights / weights.sum())
        sentences = [" ".join(chosen[i : i + 12]).capitalize() + "." for i in range(0, words, 12)]
        texts.append(" ".join(sentences))
    return texts


def text_file(path: Path, count: int = 120, words: int = 60, seed: int = 0) -> Path:
    """A text file of so many paragraphs."""
    path.write_text("\n\n".join(documents(count, words, seed)) + "\n", encoding="utf-8")
    return path
