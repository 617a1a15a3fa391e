"""The measure `perplexity`."""

from __future__ import annotations

import math
import re
import sys

import numpy as np

from lmcollapse.metrics.intervals import NONE, Interval, bootstrap_ratio
from lmcollapse.metrics.scene import Heldout
from lmcollapse.types import Floats, Ints, Reading


def perplexity(heldout: Heldout) -> list[Reading]:
    """Perplexity, bits per byte and word perplexity of this generation's model on the held-out human text.

    perplexity = exp(sum of nats / sum of tokens), every token of the held-out part scored once. What a token is, the
    model's own tokenizer says; bits_per_byte = sum of nats / ln 2 / bytes of the text in UTF-8 does not depend on that
    and so compares models with different tokenizers. word_perplexity = exp(sum of nats / sum of words), a word being
    what stands between white space as lm-evaluation-harness counts it: one more than there are runs of white space.
    Intervals by bootstrap over documents.
    """
    nats, tokens, texts = heldout.scores.nats, heldout.scores.tokens, heldout.rows.texts
    texts = [""] * len(nats) if texts is None else texts
    size = np.array([len(text.encode()) for text in texts], np.int64)
    words = np.array([len(re.split(r"\s+", text)) for text in texts], np.int64) * size.any()
    return [
        exponential(per_unit("perplexity", nats, tokens, "tokens")),
        per_unit("bits_per_byte", nats / math.log(2), size, "bytes of held-out text"),
        exponential(per_unit("word_perplexity", nats, words, "words of held-out text")),
    ]


def per_unit(name: str, sums: Floats, units: Ints | Floats, what: str) -> Reading:
    """sum(sums) / sum(units) over documents, `(documents,)` each, with its interval; None where there are no units.

    what : the units, for the note that says there are none.
    """
    counted = units > 0
    if not counted.any():
        return Reading(name, None, f"there are no {what}")
    total = float(sums.sum())
    if not math.isfinite(total):
        return Reading(name, None, f"the sum over the held-out part is {total}, which is no finite number")
    low, high = bootstrap_ratio(sums[counted], units[counted])
    return Reading(name, total / float(units.sum()), low=low, high=high)


def exponential(nats: Reading) -> Reading:
    """The perplexity that goes with the mean nats of a unit; None where that is beyond double precision."""
    if nats.value is None:
        return nats
    largest = math.log(sys.float_info.max)
    if nats.value > largest:
        return Reading(nats.name, None, f"exp({nats.value:.4g}) is beyond double precision")
    low, high = _exponentials(nats.low, nats.high) if (nats.high or 0) <= largest else NONE
    return Reading(nats.name, math.exp(nats.value), low=low, high=high)


def _exponentials(low: float | None, high: float | None) -> Interval:
    return None if low is None else math.exp(low), None if high is None else math.exp(high)
