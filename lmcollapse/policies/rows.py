"""Row references that the policies are put together from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from lmcollapse.types import HUMAN, Emptied, Ints, Pool, Selection

P = TypeVar("P", bound=Callable[..., Selection])


def forgetful(policy: P) -> P:
    """Marks a policy that picks single rows of human text and of the newest generation only.

    Older corpora, of which it may still choose all rows, need then not be kept in memory where many chains run at once.
    """
    policy.forgetful = True  # type: ignore[attr-defined]
    return policy


def is_forgetful(policy: Callable[..., Selection]) -> bool:
    """Whether a policy is marked so."""
    return getattr(policy, "forgetful", False)


def every(pool: Pool, *origins: int) -> Selection:
    """All rows of these origins (HUMAN, or a generation)."""
    return Selection(np.empty(0, np.int32), np.empty(0, np.int64), origins)


def draw(pool: Pool, origin: int, wanted: int, rng: np.random.Generator) -> Selection:
    """`wanted` rows of one origin at random, without replacement as far as they reach.

    Where more are wanted than there are, each row is used as often as the next one, give or take once. Raises Emptied
    where there is none.
    """
    there = pool.rows(origin)
    if wanted and not there:
        whose = "human text" if origin == HUMAN else f"generation {origin}"
        raise Emptied(
            f"the policy wants {wanted:,} rows of {whose}, which has none; take more human rows, or accumulate"
        )
    rounds = -(-wanted // there) if wanted else 0
    chains = () if pool.chains is None else (pool.chains,)
    empty = np.empty((*chains, 0), np.int64)
    shuffled = [rng.permuted(np.broadcast_to(np.arange(there), (*chains, there)), axis=-1) for _ in range(rounds)]
    rows = np.sort(np.concatenate([empty, *shuffled], axis=-1)[..., :wanted], axis=-1)
    return Selection(np.full(rows.shape, origin, np.int32), rows.astype(np.int64))


def draw_from(pool: Pool, origins: Sequence[int], wanted: int, rng: np.random.Generator) -> Selection:
    """`wanted` rows of all these origins at random, uniformly and without replacement; all where there are fewer."""
    ends = np.cumsum([pool.rows(origin) for origin in origins])
    chains = () if pool.chains is None else (pool.chains,)
    wanted = min(wanted, int(ends[-1]))
    places = np.empty((*chains, wanted), np.int64)
    for index in np.ndindex(*chains):
        places[index] = rng.choice(ends[-1], wanted, replace=False, shuffle=False)
    places.sort(axis=-1)
    part = np.searchsorted(ends, places, side="right")
    return Selection(np.array(origins, np.int32)[part], places - np.concatenate([[0], ends])[part])


def together(*parts: Selection) -> Selection:
    """The rows of all parts."""
    chains = max((part.row.shape[:-1] for part in parts), key=len)

    def joined(columns: list[Ints]) -> Ints:
        return np.concatenate([np.broadcast_to(column, (*chains, column.shape[-1])) for column in columns], axis=-1)

    return Selection(
        joined([part.generation for part in parts]),
        joined([part.row for part in parts]),
        tuple(origin for part in parts for origin in part.whole),
    )
