"""The measure `detection`: how good a detector of synthetic text was, where the truth is known."""

from __future__ import annotations

import numpy as np

from lmcollapse.metrics.intervals import NORMAL
from lmcollapse.metrics.scene import Detected
from lmcollapse.types import Bools, Floats, Reading

BINS = 10
Estimate = tuple[float, float, float]
"""Value and 95 % interval."""


def detection(detected: Detected) -> list[Reading]:
    """How good the detector was on the rows of this generation's pool, whose origin it did not see.

    detector_auc : area under the receiver operating characteristic; 1/2 for a coin.
    detector_true_positive_rate, detector_false_positive_rate : shares of synthetic and of human rows that are at or
        above the threshold.
    detector_calibration_error, detector_brier_score : of its probabilities, at even odds.
    pool_human_fraction : share of the pool that was human, before anything was filtered.
    """
    probabilities, synthetic = detected.probabilities, detected.synthetic
    share = Reading("pool_human_fraction", float(np.mean(~synthetic)))
    if synthetic.all() or not synthetic.any():
        note = f"the pool has {'no human' if synthetic.all() else 'no synthetic'} row"
        names = ("auc", "true_positive_rate", "false_positive_rate", "calibration_error", "brier_score")
        return [*(Reading(f"detector_{name}", None, note) for name in names), share]
    found = probabilities >= detected.threshold
    estimates = {
        "auc": auc(probabilities, synthetic),
        "true_positive_rate": rate(found[synthetic]),
        "false_positive_rate": rate(found[~synthetic]),
    }
    return [
        *(Reading(f"detector_{name}", value, "", low, high) for name, (value, low, high) in estimates.items()),
        Reading("detector_calibration_error", calibration_error(probabilities, synthetic)),
        Reading("detector_brier_score", brier_score(probabilities, synthetic)),
        share,
    ]


def auc(probabilities: Floats, synthetic: Bools) -> Estimate:
    """Area under the receiver operating characteristic: how often a synthetic row is above a human one, ties half.

    The interval by DeLong et al. 1988 (Biometrics 44, 837-845).
    """
    from scipy.stats import rankdata

    ours, theirs = probabilities[synthetic], probabilities[~synthetic]
    ranks = rankdata(np.concatenate([ours, theirs]))
    above = (ranks[: len(ours)] - rankdata(ours)) / len(theirs)
    below = 1 - (ranks[len(ours) :] - rankdata(theirs)) / len(ours)
    value = float(above.mean())
    variance = above.var(ddof=1) / len(ours) + below.var(ddof=1) / len(theirs) if min(len(ours), len(theirs)) > 1 else 1
    half = NORMAL * float(np.sqrt(variance))
    return value, max(0.0, value - half), min(1.0, value + half)


def rate(hits: Bools) -> Estimate:
    """A share with Wilson's interval (1927, J. Am. Stat. Assoc. 22, 209-212)."""
    from scipy.stats import binomtest

    interval = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, "wilson")
    return float(hits.mean()), float(interval.low), float(interval.high)


def calibration_error(probabilities: Floats, synthetic: Bools) -> float:
    """Expected calibration error in ten bins of equal width (Guo et al. 2017, arXiv 1706.04599), at even odds.

    Rows are weighted so that human and synthetic ones count as much: what a detector of this project promises.
    """
    weight = np.where(synthetic, 0.5 / max(1, synthetic.sum()), 0.5 / max(1, (~synthetic).sum()))
    cell = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = np.bincount(cell, weight * (probabilities - synthetic), minlength=BINS)
    return float(np.abs(gaps).sum())


def brier_score(probabilities: Floats, synthetic: Bools) -> float:
    """Mean squared difference of probability and truth, at even odds (Brier 1950)."""
    errors = (probabilities - synthetic) ** 2
    return float((errors[synthetic].mean() + errors[~synthetic].mean()) / 2)
