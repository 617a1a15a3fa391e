"""The policy `mix`."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from lmcollapse.policies.rows import draw, every, forgetful, together
from lmcollapse.types import HUMAN, Pool, Selection, UserError

Share = Annotated[float, Field(ge=0, le=1)]


@forgetful
def mix(
    pool: Pool,
    rng: np.random.Generator,
    *,
    human_fraction: Share | None = None,
    human_keep: Share | None = None,
    redraw: bool = True,
) -> Selection:
    """Human rows beside what the previous generation wrote; one of two readings of "10 % human" must be chosen.

    Both shares are exact to the row.

    human_fraction : share of the training rows that is human; their total stays that of the human part. Where the
        previous generation wrote fewer rows than its share needs, they are repeated evenly.
    human_keep : share of the human part that is kept beside the previous generation's whole corpus, as in Shumailov et
        al. 2024 (arXiv 2305.17493); the training set is larger than the human part by that much.
    redraw : the human rows are drawn anew each generation; false for the same rows every time.
    """
    if (human_fraction is None) == (human_keep is None):
        raise UserError(
            f"policy mix: human_fraction is {human_fraction} and human_keep is {human_keep}; give exactly one of them "
            "(human_fraction=0.1: a tenth of a training set of fixed size; human_keep=0.1: a tenth of the human text "
            "beside all synthetic text)"
        )
    newest = pool.generation - 1
    humans = rng if redraw else np.random.default_rng(pool.seed)
    if human_keep is not None:
        return together(draw(pool, HUMAN, round(human_keep * pool.human), humans), every(pool, newest))
    assert human_fraction is not None
    kept = round(human_fraction * pool.human)
    return together(draw(pool, HUMAN, kept, humans), draw(pool, newest, pool.human - kept, rng))
