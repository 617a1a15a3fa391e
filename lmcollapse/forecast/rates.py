"""From steps that were timed to steps that are to come: a fixed cost, and one for each token."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lmcollapse.costs import cost
from lmcollapse.forecast.ledger import Entry
from lmcollapse.records import read_record
from lmcollapse.types import Floats

READ = ("train", "offered", "detected", "model")
"""Kinds of steps that cost by the tokens they read; others by those of the human data, or that are written."""
WRITTEN = ("candidates", "corpus", "pool", "scores", "measures")
LIKE = {"pool": "corpus"}
"""Kinds that no small run has, and what they are as large as; they take no time beside it."""


@dataclass(frozen=True)
class Observed:
    """One step that was made. read, written, human : tokens, as in `Entry`."""

    kind: str
    human: float
    read: float
    written: float
    seconds: float
    size: float

    def tokens(self) -> tuple[float, ...]:
        """What it costs by."""
        return tokens_of(self)


def tokens_of(step: Observed | Entry) -> tuple[float, ...]:
    """The tokens that a step costs by."""
    if step.kind == "measures":
        return (step.written, step.read)  # copies are looked for in all that was read
    if step.kind in WRITTEN:
        return (step.written,)
    return (step.read if step.kind in READ else step.human,)


@dataclass
class Rates:
    """Steps that were made, and what they tell of others.

    overhead : seconds of a generation beside its steps.
    """

    observed: list[Observed] = field(default_factory=list)
    overhead: float = 0.0

    def see(self, folder: Path, kind: str, human: float, read: float, written: float) -> None:
        """Take a step that was made into account, if it is there and was not pruned."""
        record = read_record(folder)
        if record is not None and not record.get("pruned"):
            self.observed.append(Observed(kind, human, read, written, *cost([folder])))

    def seconds(self, entry: Entry) -> float:
        """That a step will take."""
        more = self.overhead if entry.kind == "measures" else 0.0
        return more + self._expected(entry, "seconds", entry.kind)

    def size(self, entry: Entry) -> float:
        """Bytes that it will leave."""
        return self._expected(entry, "size", LIKE.get(entry.kind, entry.kind))

    def _expected(self, entry: Entry, what: str, kind: str) -> float:
        seen = [one for one in self.observed if one.kind == kind]
        if not seen:
            return 0.0
        known = np.array([one.tokens() for one in seen])
        values = np.array([getattr(one, what) for one in seen])
        return float(line(known, values, np.array(tokens_of(entry)), proportional=what == "seconds"))


def line(known: Floats, values: Floats, wanted: Floats, *, proportional: bool) -> float:
    """What is expected at `wanted` tokens of a quantity that was `values` at the `(n, columns)` tokens `known`.

    A fixed part and a part for each token, neither negative, found by least squares of relative errors. From a single
    size nothing can be told apart: then all of it counts by the token (`proportional`), or none.
    """
    from scipy.optimize import nnls

    if len(np.unique(known[:, 0])) == 1:
        mean = float(values.mean())
        return mean * wanted[0] / known[0, 0] if proportional and known[0, 0] else mean
    terms = np.column_stack([np.ones(len(known)), known])
    weights = 1 / np.maximum(values, 1e-3)
    scale = np.maximum(terms.max(axis=0), 1e-12)  # columns of like size: what solves them stops at an absolute error
    found, _ = nnls(terms * weights[:, None] / scale, values * weights)
    return float(np.concatenate([[1.0], wanted]) @ (found / scale))
