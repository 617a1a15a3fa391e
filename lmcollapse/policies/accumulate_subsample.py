"""The policy `accumulate_subsample`."""

from __future__ import annotations

import numpy as np

from lmcollapse.types import HUMAN, Pool, Selection


def accumulate_subsample(pool: Pool, rng: np.random.Generator) -> Selection:
    """As many rows as generation 0 read, drawn from all human and all synthetic rows so far; the budget stays fixed.

    Drawn uniformly without replacement, anew each generation. Kazdan et al. 2024, arXiv 2410.16713.
    """
    ends = np.cumsum([pool.human, *pool.synthetic])
    chains = () if pool.chains is None else (pool.chains,)
    budget = min(pool.human, int(ends[-1]))
    places = np.empty((*chains, budget), np.int64)
    for index in np.ndindex(*chains):
        places[index] = rng.choice(ends[-1], budget, replace=False, shuffle=False)
    places.sort(axis=-1)
    part = np.searchsorted(ends, places, side="right")
    return Selection((part + HUMAN).astype(np.int32), places - np.concatenate([[0], ends])[part])
