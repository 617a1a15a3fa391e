"""The measure `calibration`."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from lmcollapse.metrics.intervals import bootstrap
from lmcollapse.metrics.scene import Heldout
from lmcollapse.types import Floats, Reading


def calibration(heldout: Heldout, *, bins: Annotated[int, Field(ge=1)] = 15) -> list[Reading]:
    """How far the model's confidence is from how often it is right: `expected_calibration_error`.

    Tokens of the held-out part are put into bins of equal width by the probability of the most likely token; the error
    is the sum over bins of (tokens in the bin / tokens) * |share of them that are right - their mean probability|
    (Guo et al. 2017, arXiv 1706.04599).

    The value is biased upward: chance differences within bins count, so that it is above 0 even for a perfectly
    calibrated model, the more so the more bins and the fewer tokens. Resamples of the documents are biased once more;
    the interval therefore holds both the percentile and the basic bootstrap interval (Davison and Hinkley 1997, chapter
    5), of which the one reaches no lower than the bias and the other reflects it away. It covers an error that stands
    clear of the bias; that of a perfectly calibrated model may still lie below it.

    bins : how many.
    """
    name, scores = "expected_calibration_error", heldout.scores
    if scores.by_token is None or not scores.tokens.any():
        return [Reading(name, None, "there are no tokens scored one by one")]
    confidence = scores.by_token.confidence.astype(np.float64)
    if not np.isfinite(confidence).all():
        return [Reading(name, None, "a token has no finite probability")]
    rows = len(scores.tokens)
    # (0, 1/bins], (1/bins, 2/bins], …, of each row
    cell = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1) + bins * heldout.row
    surplus = np.bincount(cell, scores.by_token.correct - confidence, minlength=bins * rows).reshape(rows, bins)

    def error(sums: Floats) -> Floats:
        found: Floats = np.abs(sums[:, :-1]).sum(1) / sums[:, -1]
        return found

    columns = np.column_stack([surplus, scores.tokens])[scores.tokens > 0]
    value = float(error(columns.sum(0, keepdims=True))[0])
    low, high = bootstrap(columns, error)
    if low is not None and high is not None:
        low, high = max(0.0, min(low, 2 * value - high)), min(1.0, max(high, 2 * value - low))
    return [Reading(name, value, low=low, high=high)]
