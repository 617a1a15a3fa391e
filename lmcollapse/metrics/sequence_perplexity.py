"""The measure `sequence_perplexity`."""

from __future__ import annotations

import math

import numpy as np

from lmcollapse.metrics.perplexity import exponential
from lmcollapse.types import Floats, Reading, Scene, Scores

QUANTILES = {"q05": 0.05, "median": 0.5, "q95": 0.95}


def sequence_perplexity(scene: Scene) -> list[Reading]:
    """How likely generation 0's model finds each sequence that this generation wrote: median, 5 % and 95 % quantile.

    The perplexity of a sequence is exp(its nats / its tokens); sequences without a scored token have none and are left
    out. Quantiles are interpolated between the logarithms. Shumailov et al. 2024, Nature 631, figure 1, saw the bulk
    fall from generation to generation while the upper tail grew.
    """
    nats = nats_per_token(scene.corpus_scores)
    return [
        exponential(f"sequence_perplexity_{name}", float(np.quantile(nats, share)) if len(nats) else math.nan)
        for name, share in QUANTILES.items()
    ]


def nats_per_token(scores: Scores) -> Floats:
    """The logarithm of the perplexity of every row with at least one scored token."""
    scored = scores.tokens > 0
    return scores.nats[scored] / scores.tokens[scored]
