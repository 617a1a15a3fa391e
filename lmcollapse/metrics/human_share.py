"""The measure `human_share`."""

from __future__ import annotations

from lmcollapse.metrics.scene import Trained
from lmcollapse.types import Reading


def human_share(trained: Trained) -> list[Reading]:
    """How much of what a generation was trained on is human: `human_fraction` of the rows, `human_fraction_of_tokens`.

    Counted from the origin of every row, whatever the policy aimed at. The two differ where synthetic documents are
    shorter or longer than human ones. It is exact and has no interval.
    """
    return [
        Reading("human_fraction", trained.human_rows / trained.rows),
        Reading("human_fraction_of_tokens", trained.human_tokens / trained.tokens),
    ]
