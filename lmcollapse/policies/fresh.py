"""The policy `fresh`."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from lmcollapse.policies.rows import draw, forgetful, together
from lmcollapse.types import HUMAN, Pool, Selection, UserError


@forgetful
def fresh(
    pool: Pool, rng: np.random.Generator, *, human_fraction: Annotated[float, Field(ge=0, le=1)] = 1.0
) -> Selection:
    """New human rows each generation, which no generation has read before, beside the previous generation's.

    They come from what the corpus keeps in reserve (`corpus.reserve_words`); where human data are drawn from a known
    distribution, there is no end to them. The share is exact to the row, the total stays that of generation 0.

    human_fraction : share of the training rows that is new human text.
    """
    wanted = round(human_fraction * pool.human)
    before = wanted * (pool.generation - 1)
    if before + wanted > pool.reserve:
        raise UserError(
            f"policy fresh: generation {pool.generation} needs {before + wanted:,} rows of human text in reserve, and "
            f"there are {pool.reserve:,}; raise corpus.reserve_words, or lower policy.human_fraction or generations"
        )
    rows = pool.human + before + np.arange(wanted, dtype=np.int64)
    new = Selection(np.full(wanted, HUMAN, np.int32), rows)
    return together(new, draw(pool, pool.generation - 1, pool.human - wanted, rng))
