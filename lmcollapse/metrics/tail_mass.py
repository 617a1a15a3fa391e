"""The measure `tail_mass`."""

from __future__ import annotations

from lmcollapse.metrics.drift import Drift
from lmcollapse.metrics.sample import Sample
from lmcollapse.metrics.scene import Reference
from lmcollapse.metrics.tail import Count, Occurrences, rare_types, undefined
from lmcollapse.types import Ints, Reading


def tail_mass(written: Sample, human: Reference, drift: Drift | None = None, *, rare_count: Count = 4) -> list[Reading]:
    """The share of all words that are of the rare human types: `tail_mass`.

    A word type is rare if it occurs in the human training part, and at most `rare_count` times there: the same types
    for every generation. The share does not depend on the size of the sample, but even another human text uses these
    types less than the training part does, since they were chosen for how often they occur there. A resampled text
    keeps their share on average: `tail_mass_drift` is what it is in the human training part, up to chance. Intervals by
    block jackknife.

    rare_count : the most occurrences that a rare type has in the human training part.
    """
    rare = rare_types(human, rare_count)
    if not len(rare):
        note = f"no word occurs at most {rare_count} times in the human training part"
        return undefined("tail_mass", note, drift)

    def mass(counts: Ints, words: int) -> float:
        return float(counts[rare].sum()) / max(1, words)

    return Occurrences(written, human, drift).read("tail_mass", mass)
