"""Neutral drift: what a perfect model, one that merely resamples the words of its training text, would lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lmcollapse.types import HUMAN, Ints

CHAINS = 20
"""Independent simulations; what is said of drift is their mean and their spread."""


@dataclass(frozen=True)
class Lineage:
    """Sizes of one generation, in words: what it was trained on, by the origin of the text, and what it wrote."""

    trained: Mapping[int, int]
    wrote: int


@dataclass(frozen=True, eq=False)
class Drift:
    """Samples of what perfect models would have written in this generation.

    counts : `(chains, types)` int64, occurrences of each human word type in a sample as large as the measured one.
    """

    counts: Ints


def drift(counts: Ints, lineage: Sequence[Lineage], words: int, chains: int = CHAINS) -> Drift:
    """Simulate the run's policy and sizes with a model that draws each word from its training text, with replacement.

    Each generation's training text is put together as the run's was: so many words of the human training part and of
    each earlier generation, drawn without replacement where only a share of them was taken, and all of them as often as
    the next one where a text was taken more than once. What a generation writes are independent draws from that text.
    Only words are resampled, in no order: what this loses no model could keep, short of knowing more than its training
    text.

    Under the policy `replace`, with as many words in each generation, a type of probability p is still there after k
    resamplings with probability 1 - exp(-n p g_k), g_1 = 1, g_(k+1) = 1 - exp(-g_k) (Poisson counts); generation g's
    corpus lies g + 1 resamplings after the human training part.

    A chain has the same history whichever of its generations is measured.

    counts : `(types,)` occurrences of each word type in the human training part.
    lineage : the generations so far, the one that is measured last.
    words : size of the samples.
    """
    *before, measured = lineage
    samples = np.empty((chains, len(counts)), np.int64)
    for chain, rng in enumerate(np.random.default_rng(0).spawn(chains)):
        texts: dict[int, Ints] = {HUMAN: np.asarray(counts)}
        for generation, sizes in enumerate(before):
            texts[generation] = _resample(_together(texts, sizes, rng), sizes.wrote, rng)
        # a sample of independent draws is as many independent draws: the measured generation need not write more
        samples[chain] = _resample(_together(texts, measured, rng), words, rng)
    return Drift(samples)


def _together(texts: Mapping[int, Ints], sizes: Lineage, rng: np.random.Generator) -> Ints:
    """The training text of a generation."""
    trained = np.zeros_like(texts[HUMAN], np.int64)
    for origin, size in sizes.trained.items():
        trained += _some(texts[origin], size, rng)
    return trained


def _resample(trained: Ints, words: int, rng: np.random.Generator) -> Ints:
    """So many independent draws from a text; none from one without a word."""
    # types that are gone stay gone: numpy gives what rounding leaves over to the last type, whatever its probability
    alive = np.flatnonzero(trained)
    drawn = np.zeros(len(trained), np.int64)
    if len(alive):
        drawn[alive] = rng.multinomial(words, trained[alive] / trained.sum())
    return drawn


def _some(counts: Ints, words: int, rng: np.random.Generator) -> Ints:
    """So many words of a text: all of it as often as it fits in, and the rest without replacement."""
    total = int(counts.sum())
    if not total:
        return np.zeros(len(counts), np.int64)
    rounds, rest = divmod(words, total)
    return counts.astype(np.int64) * rounds + (_subset(counts, rest, rng) if rest else 0)


def _subset(counts: Ints, words: int, rng: np.random.Generator) -> Ints:
    """So many words of a text without replacement, all subsets being equally likely.

    A coin is thrown for each word, then the few that are missing or too many are drawn. In numpy's
    multivariate_hypergeometric it takes twice as long, and no text of a billion words.
    """
    taken = rng.binomial(counts, words / counts.sum())
    missing = words - int(taken.sum())
    if missing > 0:
        return taken + _few(counts - taken, missing, rng)
    return taken - _few(taken, -missing, rng)


def _few(counts: Ints, words: int, rng: np.random.Generator) -> Ints:
    """The same, word by word."""
    ends = np.cumsum(counts)
    places = rng.choice(ends[-1], words, replace=False, shuffle=False)
    return np.bincount(np.searchsorted(ends, places, side="right"), minlength=len(counts))
