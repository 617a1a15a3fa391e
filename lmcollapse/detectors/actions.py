"""What is done with the rows of a pool that may be synthetic, from the probabilities that a detector gives."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lmcollapse.types import Floats, Ints

Action = Literal["drop", "down_weight", "importance"]


def weights(probabilities: Floats, action: Action, threshold: float, bias: float) -> Floats:
    """`(rows,)` weight of each row in what is trained on.

    drop : 1 where the row is less likely synthetic than the threshold, else 0.
    down_weight : how likely it is human.
    importance : (how likely it is human)^bias, as in the published code of Drayson et al. 2025 (arXiv 2502.15654),
        whose bias is 10.
    """
    if action == "drop":
        return (probabilities < threshold).astype(np.float64)
    human: Floats = 1 - probabilities
    return human if action == "down_weight" else human**bias


def chosen(weight: Floats, action: Action, upsample: float, repeats: int, rng: np.random.Generator) -> Ints:
    """Indices of the rows to train on, in order; a row may come more than once under `importance`.

    drop : those of weight 1.
    down_weight : each with the probability that is its weight, so that the loss is weighted in expectation.
    importance : `upsample` times as many as there are rows, drawn with probabilities proportional to the weights and
        without replacement from `repeats` copies of each row (fewer where not so many have any weight).
    """
    if action == "drop":
        return np.flatnonzero(weight > 0)
    if action == "down_weight":
        return np.flatnonzero(rng.random(len(weight)) < weight)
    copies = np.repeat(weight, repeats)
    wanted = round(min(upsample * len(weight), float(np.count_nonzero(copies))))
    if not wanted:
        return np.empty(0, np.int64)
    drawn = rng.choice(len(copies), wanted, replace=False, p=copies / copies.sum(), shuffle=False)
    return np.sort(drawn // repeats)
