"""The measure `accuracy`."""

from __future__ import annotations

from lmcollapse.metrics.perplexity import per_unit
from lmcollapse.metrics.scene import Heldout
from lmcollapse.types import Reading


def accuracy(heldout: Heldout) -> list[Reading]:
    """Share of the held-out tokens that are the one that the model finds most likely: `next_token_accuracy`.

    Of several equally likely tokens the one with the lowest id counts. Interval by bootstrap over documents.
    """
    name, scores = "next_token_accuracy", heldout.scores
    if scores.by_token is None:
        return [Reading(name, None, "tokens were not scored one by one")]
    return [per_unit(name, heldout.by_row(scores.by_token.correct), scores.tokens, "scored tokens")]
