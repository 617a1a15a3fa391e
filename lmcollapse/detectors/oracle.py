"""The detector `oracle`."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from lmcollapse.detectors import Known, Suspects
from lmcollapse.types import Floats, Progress, UserError

Rate = Annotated[float, Field(ge=0, le=1)]


def oracle(
    suspects: Suspects,
    known: Known,
    progress: Progress,
    *,
    true_positive_rate: Rate = 0.9,
    false_positive_rate: Rate = 0.1,
) -> Floats:
    """Knows the truth, and errs at the rates that are asked for: to draw the whole trade-off.

    It answers 1 or 0, at random and for each row by itself.

    true_positive_rate : share of synthetic rows that it takes for synthetic.
    false_positive_rate : share of human rows that it takes for synthetic.
    """
    if suspects.truth is None:
        raise UserError("detector oracle needs the truth, which nobody knows of these rows; take another detector")
    rates = np.where(suspects.truth, true_positive_rate, false_positive_rate)
    answers: Floats = (np.random.default_rng(suspects.seed).random(len(suspects)) < rates).astype(np.float64)
    return answers
