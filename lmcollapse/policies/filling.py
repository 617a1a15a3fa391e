"""The policy `filling`."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from lmcollapse.policies.rows import draw, draw_from, together
from lmcollapse.types import HUMAN, Pool, Selection, UserError

Share = Annotated[float, Field(ge=0, le=1)]


def filling(
    pool: Pool,
    rng: np.random.Generator,
    *,
    start: Share = 1.0,
    end: Share = 0.1,
    over: Annotated[int, Field(gt=0)] = 10,
    schedule: Literal["linear", "geometric"] = "linear",
) -> Selection:
    """A web that fills up: the human share of a training set of fixed size falls by a schedule.

    The rest is drawn from all that every generation so far has written, uniformly; both anew each generation.
    The share is exact to the row.

    start : the human share at generation 0, from which it falls.
    end : the share from generation `over` on.
    over : generations that it takes to get there.
    schedule : linear, or geometric: by the same factor each generation.
    """
    if schedule == "geometric" and not 0 < end <= start:
        raise UserError(
            f"policy filling: start is {start} and end is {end}; a geometric schedule needs 0 < end <= start, or take "
            "schedule: linear"
        )
    way = min(1.0, pool.generation / over)
    share = start + (end - start) * way if schedule == "linear" else start * (end / start) ** way
    kept = round(share * pool.human)
    synthetic = draw_from(pool, range(pool.generation), pool.human - kept, rng)
    return together(draw(pool, HUMAN, kept, rng), synthetic)
