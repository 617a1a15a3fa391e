"""The measure `tail_coverage`."""

from __future__ import annotations

import numpy as np

from lmcollapse.metrics.drift import Drift
from lmcollapse.metrics.sample import Sample
from lmcollapse.metrics.scene import Reference
from lmcollapse.metrics.tail import Count, Occurrences, rare_types, undefined
from lmcollapse.types import Ints, Reading


def tail_coverage(
    written: Sample, human: Reference, drift: Drift | None = None, *, rare_count: Count = 4
) -> list[Reading]:
    """Of the words that are rare in the human training part, the share that is still in use: `tail_coverage`.

    A word type is rare if it occurs in the human training part, and at most `rare_count` times there: the same types
    for every generation. Covered are those that occur in the sample at least once. A sample smaller than the human
    training part covers only some of them, however good the model: what matters is the difference to human text and to
    neutral drift of as many words. Intervals by block jackknife, as for numbers of species (Heltshe and Forrester 1983,
    Biometrics 39, 1-11).

    rare_count : the most occurrences that a rare type has in the human training part.
    """
    rare = rare_types(human, rare_count)
    if not len(rare):
        note = f"no word occurs at most {rare_count} times in the human training part"
        return undefined("tail_coverage", note, drift)

    def covered(counts: Ints, words: int) -> float:
        return float(np.mean(counts[rare] > 0))

    return Occurrences(written, human, drift).read("tail_coverage", covered)
