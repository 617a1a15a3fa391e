"""What detectors that learn have in common: logistic regression on features, cross-fitted and calibrated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lmcollapse.detectors import Known, Suspects
from lmcollapse.processes import one_thread
from lmcollapse.types import Floats, UserError

FOLDS = 5
LEAST = 20
"""Documents of either kind that it takes to learn anything."""

Features = Callable[[Sequence[str]], Any]
"""Gives a `(texts, d)` matrix, sparse or not, that depends on each text alone."""


def learned(features: Features, suspects: Suspects, known: Known) -> Floats:
    """Probabilities that the suspects are synthetic, by logistic regression on these features.

    Known documents fall into five folds, and each is judged by a model that was fitted to the other four; suspects that
    are not among the known ones by the mean of all five. A logistic curve through the known documents' values makes
    probabilities of them (Platt 1999), with as much weight on human as on synthetic text.
    """
    texts = [*known.human, *known.synthetic]
    truth = np.repeat([0, 1], [len(known.human), len(known.synthetic)])
    if min(len(known.human), len(known.synthetic)) < LEAST:
        raise UserError(
            f"a detector that learns needs {LEAST} human and {LEAST} synthetic documents at least, and was given "
            f"{len(known.human)} and {len(known.synthetic)}; give more (to `lmcollapse filter` with --human and "
            "--synthetic), or take one that does not learn (classifier, watermark)"
        )
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table = features(texts)
    new = np.flatnonzero(suspects.place < 0)
    others = features([suspects.texts[i] for i in new.tolist()]) if len(new) else None
    fold = _folds(truth)
    values, new_values = np.empty(len(texts)), np.zeros(len(new))
    with one_thread():  # or the last bits, and with them the rows that are kept, depend on the number of cores
        for number in range(FOLDS):
            rest = fold != number
            model = make_pipeline(
                StandardScaler(with_mean=False), LogisticRegression(class_weight="balanced", max_iter=1000)
            )
            model.fit(table[rest], truth[rest])
            values[~rest] = model.decision_function(table[~rest])
            if others is not None:
                new_values += model.decision_function(others) / FOLDS
        curve = LogisticRegression(C=1e6, class_weight="balanced").fit(values[:, None], truth)
        found = np.empty(len(suspects))
        found[new] = new_values
        inside = suspects.place >= 0
        found[inside] = values[suspects.place[inside]]
        probabilities: Floats = curve.predict_proba(found[:, None])[:, 1]
    return probabilities


def _folds(truth: Any) -> Any:
    """`(documents,)` each kind spread evenly over the folds, at random but always in the same way."""
    rng = np.random.default_rng(0)
    fold = np.empty(len(truth), int)
    for kind in (0, 1):
        mine = np.flatnonzero(truth == kind)
        fold[mine] = rng.permutation(len(mine)) % FOLDS
    return fold
