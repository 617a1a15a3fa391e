"""The policy `accumulate`."""

from __future__ import annotations

import numpy as np

from lmcollapse.policies.rows import every, forgetful
from lmcollapse.types import HUMAN, Pool, Selection


@forgetful
def accumulate(pool: Pool, rng: np.random.Generator) -> Selection:
    """All human text and all that every generation so far has written; the training set grows.

    Gerstgrasser et al. 2024, arXiv 2404.01413.
    """
    return every(pool, *range(HUMAN, pool.generation))
