"""The policy `accumulate`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lmcollapse.policies.rows import every, forgetful
from lmcollapse.types import HUMAN, Pool, Selection


@forgetful
def accumulate(pool: Pool, rng: np.random.Generator, *, same_steps: bool = False) -> Selection:
    """All human text and all that every generation so far has written; the training set grows.

    Gerstgrasser et al. 2024, arXiv 2404.01413.

    same_steps : every fit takes as many optimizer steps as that of generation 0, so that more data does not mean more
        training; for substrates that are fitted in steps.
    """
    return replace(every(pool, *range(HUMAN, pool.generation)), same_steps=same_steps)
