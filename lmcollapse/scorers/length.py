"""The scorer `length`."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lmcollapse.scorers import Candidates
from lmcollapse.types import Floats


def length(candidates: Candidates, *, prefer: Literal["long", "short"] = "long") -> Floats:
    """How long a sample is, in tokens: what readers and reward models like against their better judgement.

    prefer : long samples, or short ones.
    """
    tokens = np.asarray(candidates.corpus.lengths, np.float64)
    return tokens if prefer == "long" else -tokens
