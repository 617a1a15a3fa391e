"""Detectors of synthetic text: how likely it is that a model wrote a row, seen from the row alone.

A detector is a function `detector(suspects, known, progress, *, options…)` that returns `(rows,)` probabilities of
being synthetic, at even odds: a half means that the text says nothing either way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lmcollapse.types import Bools, Corpus, Floats, Ints, UserError


@dataclass(frozen=True)
class Known:
    """Text whose origin is known, from which a detector may learn.

    human, synthetic : documents; either may be empty.
    """

    human: Sequence[str]
    synthetic: Sequence[str]


@dataclass(frozen=True)
class Suspects:
    """Rows whose origin is hidden.

    texts : of each.
    place : `(rows,)` where each stands in the known text, the human documents counted first; -1 for not in it. No
        detector is asked about a row that it has learned from.
    seed : of what is random.
    truth : `(rows,)` whether each is synthetic, for oracles alone; None where nobody knows.
    corpus : the rows with their tokens, where they come from a run.
    models : folders of models that are at hand by name: "base", "generation_0".
    """

    texts: Sequence[str]
    place: Ints
    seed: int = 0
    truth: Bools | None = None
    corpus: Corpus | None = None
    models: Mapping[str, Path] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.place)


def probabilities(kind: str, found: object, rows: int) -> Floats:
    """`(rows,)` what a detector of that name returned; UserError where it is not a probability for each row."""
    numbers = np.asarray(found, np.float64)
    if numbers.shape != (rows,) or not ((numbers >= 0) & (numbers <= 1)).all():
        raise UserError(f"detector '{kind}' must give a probability for each of {rows:,} rows")
    return numbers
