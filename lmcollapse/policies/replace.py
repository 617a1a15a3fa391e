"""The policy `replace`."""

from __future__ import annotations

import numpy as np

from lmcollapse.policies.rows import every, forgetful
from lmcollapse.types import Pool, Selection


@forgetful
def replace(pool: Pool, rng: np.random.Generator) -> Selection:
    """Only what the previous generation wrote; no human text after generation 0."""
    return every(pool, pool.generation - 1)
