"""The measure `cross_entropy_bands`."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from lmcollapse.metrics.perplexity import per_unit
from lmcollapse.metrics.scene import Heldout
from lmcollapse.types import Ints, Reading

Share = Annotated[float, Field(gt=0, lt=1)]

HEAD, BODY, TAIL = range(3)


def cross_entropy_bands(heldout: Heldout, *, head: Share = 0.5, tail: Share = 0.1) -> list[Reading]:
    """Nats a token of held-out text by how frequent the token is in the human training part: forgetting, band by band.

    `cross_entropy_head` is over the most frequent tokens of the vocabulary, which together make up `head` of the human
    training part; `cross_entropy_tail` over the rarest, which make up at most the last `tail` of it, and those that do
    not occur there; `cross_entropy_body` over those between. The bands are the same in all generations. Of equally
    frequent tokens the one with the lower id counts as the more frequent. Intervals by bootstrap over documents.

    head : share of the training tokens that the most frequent tokens make up.
    tail : share of the training tokens that the rarest make up.
    """
    names = {"cross_entropy_head": HEAD, "cross_entropy_body": BODY, "cross_entropy_tail": TAIL}
    scores, counts = heldout.scores, heldout.train_counts
    if scores.by_token is None or counts is None or not counts.any():
        note = "tokens were not scored one by one, or there are no training tokens"
        return [Reading(name, None, note) for name in names]
    # a token beyond the counts does not occur in the training part
    band = np.append(bands(counts, head, tail), TAIL)[np.minimum(heldout.rows.values, len(counts))]
    readings = []
    for name, number in names.items():
        inside = band == number
        nats = heldout.by_row(np.where(inside, scores.by_token.nats, 0))
        readings.append(per_unit(name, nats, heldout.by_row(inside), "held-out tokens in this band"))
    return readings


def bands(counts: Ints, head: float, tail: float) -> Ints:
    """`(token ids,)` HEAD, BODY or TAIL, from the occurrences of each token.

    The token with which the head reaches its share is in it; the one in which the tail's share begins is not.
    """
    order = np.argsort(-counts, kind="stable")
    share_before = np.concatenate([[0], np.cumsum(counts[order])[:-1]]) / counts.sum()
    band = np.empty(len(counts), np.int64)
    band[order] = np.where(share_before < head, HEAD, np.where(share_before < 1 - tail, BODY, TAIL))
    return band
