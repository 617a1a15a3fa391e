"""What a detector of synthetic text is worth: how much less human text a pool needs that it has filtered.

A detector finds synthetic text with the true-positive rate t and takes human text for synthetic with the false-positive
rate f; what it finds is dropped. Of a pool with the human share h there remains

    h' = h (1 - f) / (h (1 - f) + (1 - h) (1 - t)),

which is Bayes' rule. The least h that leaves a share s is its inverse. What passes is taken for an ordinary sample of
human and of synthetic text: that a detector errs most on the best synthetic text, or on the strangest human text, is
left out, and so is that the pool shrinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

AUCS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""From none at all to one that is never wrong."""


def share_before(needed: float, true_positives: float, false_positives: float) -> float:
    """The least human share h of a pool that leaves the share s: s (1 - t) / (s (1 - t) + (1 - s) (1 - f)).

    0 for a detector that is never wrong, of which any human text at all is enough; 1 where all text must be human.
    """
    if needed >= 1 and true_positives < 1:
        return 1.0
    human, synthetic = (1 - needed) * (1 - false_positives), needed * (1 - true_positives)
    return synthetic / (synthetic + human) if synthetic + human else 0.0


def operating_point(auc: float, keep: float) -> tuple[float, float]:
    """The true- and false-positive rate at which a detector cleans best while it keeps so much of the human text.

    Scores are normal with one variance, d' = sqrt(2) Phi^-1(AUC) apart (the binormal model; Green and Swets 1966,
    Signal Detection Theory and Psychophysics). Above the threshold c lie f = Phi(-c) and t = Phi(d' - c). The ratio
    (1 - t) / (1 - f) = Phi(c - d') / Phi(c), by which the odds of synthetic text shrink, grows with c: the best
    threshold is the lowest that is allowed, Phi(c) = keep.
    """
    from scipy.special import ndtr, ndtri

    distance = np.sqrt(2) * ndtri(auc)
    false_positives = 1 - keep
    if auc >= 1:
        return 1.0, false_positives
    if keep >= 1:
        return 0.0, 0.0  # to lose nothing, nothing may be dropped
    return float(ndtr(distance - ndtri(keep))), false_positives


def worth(needed: Sequence[float], keep: float, aucs: Sequence[float] = AUCS) -> pd.DataFrame:
    """What a raw pool must hold of human text, by the quality of the detector that filters it.

    Columns: `auc`, `found` (true-positive rate), `lost` (false-positive rate), and `pool`, `pool_low`, `pool_high`.

    needed : the human share that must be left, and the ends of its interval.
    """
    rows: list[dict[str, Any]] = []
    for auc in aucs:
        rates = operating_point(auc, keep)
        pools = [share_before(share, *rates) for share in needed]
        rows.append({"auc": auc, "found": rates[0], "lost": rates[1]} | dict(zip(POOLS, pools, strict=True)))
    return pd.DataFrame(rows)


POOLS = ("pool", "pool_low", "pool_high")
