"""Pools without labels: what a detector is told of them, and what it leaves to train on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmcollapse.config import DetectorOptions
from lmcollapse.detectors import Known, Suspects
from lmcollapse.detectors.actions import chosen, weights
from lmcollapse.types import HUMAN, Corpus, Emptied, Floats, Selection


def questions(
    pool: Corpus, human: Corpus, first: Corpus, seed: int, models: Mapping[str, Path]
) -> tuple[Suspects, Known]:
    """What a detector is asked of the rows of a pool, and what it may learn from.

    human : the human training part, which is known to be human.
    first : what generation 0 wrote, which is known to be synthetic.
    models : folders by name.
    """
    place = np.full(len(pool), -1, np.int64)
    for origin, known, before in ((HUMAN, human, 0), (0, first, len(human))):
        inside = (pool.generation == origin) & (pool.row < len(known))
        place[inside] = pool.row[inside] + before
    truth = pool.generation != HUMAN
    texts = [""] * len(pool) if pool.texts is None else pool.texts
    return Suspects(texts, place, seed, truth, pool, models), Known(human.texts or (), first.texts or ())


def what_is_left(
    pool: Selection, probabilities: Floats, options: Mapping[str, Any], rng: np.random.Generator
) -> Selection:
    """The rows of a pool to train on, after what a detector found; Emptied where there is none."""
    how = DetectorOptions(**{name: options[name] for name in DetectorOptions.model_fields})
    weight = weights(probabilities, how.action, how.threshold, how.bias)
    kept = chosen(weight, how.action, how.upsample, how.repeats, rng)
    if not len(kept):
        raise Emptied(
            f"the detector leaves none of {len(pool):,} rows to train on (the least suspicious has probability "
            f"{probabilities.min():.3g}); raise detector.threshold (action drop), lower "
            "detector.bias (importance), or take another action or detector"
        )
    return Selection(pool.generation[kept], pool.row[kept], same_steps=pool.same_steps)
