"""The measure `divergence`."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from lmcollapse.metrics.drift import Drift
from lmcollapse.metrics.sample import Sample
from lmcollapse.metrics.scene import Reference
from lmcollapse.metrics.tail import Occurrences, undefined
from lmcollapse.types import Floats, Ints, Reading

Smoothing = Annotated[float, Field(gt=0)]


def divergence(
    written: Sample, human: Reference, drift: Drift | None = None, *, smoothing: Smoothing = 0.5
) -> list[Reading]:
    """How far word frequencies are from those of the human training part, in bits: `unigram_kl` and `unigram_js`.

    Frequencies are over the human word types and one class of all other words.

    `unigram_kl` is the Kullback-Leibler divergence sum p log2(p / q) of the human frequencies p from the written ones
    q, both smoothed: (occurrences + smoothing) / (words + smoothing * classes). It weighs what is missing; how much,
    the smoothing decides, so it compares at one smoothing and one number of words only.

    `unigram_js` is the Jensen-Shannon divergence of the frequencies as they are (Lin 1991, IEEE Transactions on
    Information Theory 37, 145-151), from 0 to 1. Computed from finite samples it is above 0 even for texts of one
    source, by about (classes - 1) / (8 ln 2) * (1 / words + 1 / human words) where every class is frequent.

    Both biases are in the value; human text of the same size and neutral drift show how large they are. Intervals by
    block jackknife.

    smoothing : what is added to the occurrences of each class, on both sides, for `unigram_kl`.
    """
    if not human.counts.any():
        note = "the human training part has no word"
        return undefined("unigram_kl", note, drift) + undefined("unigram_js", note, drift)
    people = _frequencies(human.counts, int(human.counts.sum()), 0.0)
    people_smoothed = _frequencies(human.counts, int(human.counts.sum()), smoothing)

    def kl(counts: Ints, words: int) -> float:
        return _kl(people_smoothed, _frequencies(counts, words, smoothing))

    def js(counts: Ints, words: int) -> float:
        frequencies = _frequencies(counts, words, 0.0)
        middle = (people + frequencies) / 2
        return (_kl(people, middle) + _kl(frequencies, middle)) / 2

    occurrences = Occurrences(written, human, drift)
    return occurrences.read("unigram_kl", kl, most=np.inf) + occurrences.read("unigram_js", js)


def _frequencies(counts: Ints, words: int, smoothing: float) -> Floats:
    """`(types + 1,)`, the last one that of all other words."""
    classes = np.append(counts, words - counts.sum()) + smoothing
    frequencies: Floats = classes / max(classes.sum(), 1e-300)
    return frequencies


def _kl(p: Floats, q: Floats) -> float:
    there = p > 0
    # rounding alone can bring it below 0
    return max(0.0, float(np.sum(p[there] * np.log2(p[there] / q[there]))))
