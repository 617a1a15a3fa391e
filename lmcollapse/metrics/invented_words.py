"""The measure `invented_words`."""

from __future__ import annotations

import numpy as np

from lmcollapse.metrics.intervals import jackknife
from lmcollapse.metrics.sample import Sample
from lmcollapse.metrics.scene import Reference
from lmcollapse.types import Reading


def invented_words(written: Sample, human: Reference) -> list[Reading]:
    """What no human training text has: `invented_types`, a share of the word types, `invented_words`, one of the words.

    Another human text has such words too, rare and new ones: what is above its share is invented, or a cut piece of a
    word. The share of types grows with the sample, since human types run out; it compares at one number of words only.
    Intervals by block jackknife.
    """
    table = written.table(1)
    words, words_without = table.size
    if not words:
        return [Reading(name, None, "the sample has no word") for name in ("invented_types", "invented_words")]
    invented = np.zeros(len(table.total), bool)
    invented[written.grams(1)] = written.words >= human.types
    types, types_without = table.sums(lambda occurrences, _: (occurrences > 0).astype(float))
    new, new_without = table.sums(lambda occurrences, gram: ((occurrences > 0) & invented[gram]).astype(float))
    used, used_without = table.sums(lambda occurrences, gram: (occurrences * invented[gram]).astype(float))
    readings = []
    for name, value, without in [
        ("invented_types", new / types, new_without / np.maximum(1, types_without)),
        ("invented_words", used / words, used_without / np.maximum(1, words_without)),
    ]:
        low, high = jackknife(value, without, words - words_without, least=0, most=1)
        readings.append(Reading(name, value, low=low, high=high))
    return readings
