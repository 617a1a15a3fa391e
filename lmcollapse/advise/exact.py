"""The smallest human share by theory, where the loss is known in closed form."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmcollapse.advise.question import Question, at_share, measure_of, scale_of, with_policy
from lmcollapse.config import Config
from lmcollapse.theory import expected
from lmcollapse.types import Floats


def exact_losses(config: Config, question: Question, shares: Floats) -> Floats:
    """The loss of each share by theory, relative; NaN where it is not known. Expected values stand for the measure."""
    if not config.of_chains:
        return np.full(len(shares), np.nan)
    measure, values = measure_of(config, question), []
    mixed = with_policy(config, question)
    for share in (*shares, 1.0):
        there = expected(at_share(mixed, float(share)), measure)
        values.append(np.nan if there is None else there[-1])
    scale = scale_of(measure)
    found: Floats = scale.relative(scale.loss(np.array(values[:-1]), np.array(values[-1])))
    return found


def exact_share(config: Config, question: Question) -> float | None:
    """The smallest share by theory, exact to the row: the losses are searched by halving, since they fall."""
    if np.isnan(exact_losses(config, question, np.array([1.0]))).any():
        return None
    rows = _rows(config)
    low, high = -1, rows
    while high - low > 1:
        middle = (low + high) // 2
        enough = exact_losses(config, question, np.array([middle / rows]))[0] <= question.loss
        low, high = (low, middle) if enough else (middle, high)
    return float(high / rows)


def exact_curve(config: Config, question: Question, points: int = 60) -> pd.DataFrame | None:
    """The loss against the share by theory, between the shares that are run; None where it is not known."""
    if exact_share(config, question) is None:
        return None
    rows, first = _rows(config), question.grid[0]
    shares = np.geomspace(max(first, 0.5 / rows), 1, points)
    shares = np.unique(np.concatenate([[first], np.round(shares * rows) / rows]))
    return pd.DataFrame({"share": shares, "loss": exact_losses(config, question, shares)})


def _rows(config: Config) -> int:
    rows: int = config.build_substrate().model_dump(mode="json")["rows"]
    return rows
