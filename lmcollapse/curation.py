"""The best of several samples: what is kept of what a generation writes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lmcollapse.types import Corpus, Floats, Ints


def best(row: Ints, scores: Floats, keep: int, noise: float, rng: np.random.Generator) -> Ints:
    """Indices of the `keep` best samples of each document, in the order of the documents and of the samples.

    row : `(samples,)` which document each is a sample of.
    scores : `(samples,)`, more is better; of equal ones the first counts as better.
    noise : share of the documents for which the choice is made at random: a verifier that is right so often only.
    """
    scores = np.array(scores, np.float64)
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} of {len(scores)} samples have no score")
    documents = int(row.max(initial=-1)) + 1
    astray = rng.random(documents) < noise
    luck = rng.random(len(scores))
    order = np.lexsort((np.arange(len(row)), np.where(astray[row], -luck, -scores), row))
    place = np.arange(len(row)) - np.searchsorted(row[order], row[order], side="left")
    return np.sort(order[place < keep])


def curated(candidates: Corpus, chosen: Ints, generation: int) -> Corpus:
    """These samples as the corpus of a generation: ordered by document, each its own origin."""
    kept = candidates.take(chosen[np.argsort(candidates.row[chosen], kind="stable")])
    rows = len(kept)
    return replace(kept, generation=np.full(rows, generation, np.int32), row=np.arange(rows, dtype=np.int64))
