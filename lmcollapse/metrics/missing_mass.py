"""The measure `missing_mass`."""

from __future__ import annotations

import numpy as np

from lmcollapse.metrics.drift import Drift
from lmcollapse.metrics.sample import Sample
from lmcollapse.metrics.tail import beside_drift, undefined
from lmcollapse.types import Reading


def missing_mass(written: Sample, drift: Drift | None = None) -> list[Reading]:
    """Good-Turing estimate of the share of unseen words in more text of the same source: `missing_mass`.

    word types that occur once / words (Good 1953, Biometrika 40, 237-264): the probability that the word after the
    sample is of a type that the sample lacks. It falls as a sample grows and as a vocabulary narrows. Words that no
    human text has count like others here, and a model that invents words has much of it; neutral drift invents none.
    The interval, by block jackknife, is one for the probability itself, not for its mean over samples: where words are
    independent, its variance is that of Esty (1983, Annals of Statistics 11, 905-912).
    """
    table = written.table(1)
    words, words_without = table.size
    if not words:
        return undefined("missing_mass", "the sample has no word", drift)
    once, once_without = table.sums(lambda occurrences, _: (occurrences == 1).astype(float))
    without = once_without / np.maximum(1, words_without)
    chains = None
    if drift is not None:
        chains = np.sum(drift.counts == 1, axis=1) / np.maximum(1, np.sum(drift.counts, axis=1))
    return beside_drift("missing_mass", once / words, without, words - words_without, chains)
