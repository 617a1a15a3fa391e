"""Row references that the policies are put together from."""

from __future__ import annotations

import numpy as np

from lmcollapse.types import HUMAN, Pool, Selection


def every(pool: Pool, generation: int) -> Selection:
    """All rows of one origin (HUMAN, or a generation), in their order."""
    rows = pool.human if generation == HUMAN else pool.synthetic[generation]
    return Selection(np.full(rows, generation, np.int32), np.arange(rows, dtype=np.int64))


def draw(pool: Pool, generation: int, wanted: int, rng: np.random.Generator) -> Selection:
    """`wanted` rows of one origin at random, without replacement as far as they reach.

    Where more are wanted than there are, each row is used as often as the next one, give or take once.
    """
    there = pool.human if generation == HUMAN else pool.synthetic[generation]
    assert there > 0 or wanted == 0, (generation, there, wanted)
    rounds = -(-wanted // there) if wanted else 0
    rows = np.concatenate([np.empty(0, np.int64), *(rng.permutation(there) for _ in range(rounds))])[:wanted]
    return Selection(np.full(wanted, generation, np.int32), np.sort(rows).astype(np.int64))


def together(*parts: Selection) -> Selection:
    """The rows of all parts."""
    return Selection(np.concatenate([p.generation for p in parts]), np.concatenate([p.row for p in parts]))
