"""The policy `accumulate_subsample`."""

from __future__ import annotations

import numpy as np

from lmcollapse.policies.rows import draw_from
from lmcollapse.types import HUMAN, Pool, Selection


def accumulate_subsample(pool: Pool, rng: np.random.Generator) -> Selection:
    """As many rows as generation 0 read, drawn from all human and all synthetic rows so far; the budget stays fixed.

    Drawn uniformly without replacement, anew each generation. Kazdan et al. 2024, arXiv 2410.16713.
    """
    return draw_from(pool, range(HUMAN, pool.generation), pool.human, rng)
