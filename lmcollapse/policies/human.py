"""The policy `human`."""

from __future__ import annotations

import numpy as np

from lmcollapse.policies.rows import every, forgetful
from lmcollapse.types import HUMAN, Pool, Selection


@forgetful
def human(pool: Pool, rng: np.random.Generator) -> Selection:
    """The control: the whole human part every generation, as many optimizer steps as generation 0.

    With `start: previous` a model that trains on and on overfits whatever it reads. This policy shows how much of a
    loss is due to that, and how much to the text being synthetic.
    """
    return every(pool, HUMAN)
