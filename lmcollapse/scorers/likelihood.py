"""The scorer `likelihood`."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lmcollapse.scorers import Candidates
from lmcollapse.types import Floats


def likelihood(
    candidates: Candidates, *, judge: str = "generation_0", prefer: Literal["likely", "unlikely"] = "likely"
) -> Floats:
    """How likely a model finds a sample, by nats a token.

    judge : "generation_0", "own" for the model that wrote it, or one of `scoring.judges`.
    prefer : likely samples, or unlikely ones.
    """
    scores = candidates.judged(judge)
    nats: Floats = scores.nats / np.maximum(1, scores.tokens)
    return -nats if prefer == "likely" else nats
