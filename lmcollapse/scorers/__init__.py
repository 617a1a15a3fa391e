"""Scorers: which of several samples is the best one, for the curation of what a generation writes.

A scorer is a function of `Candidates` whose keyword-only parameters are its options; it returns `(rows,)` numbers, more
for better ones. A verifier, or the taste of users, is one from outside the tree ("package.module:function").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lmcollapse.types import Corpus, Scores


@dataclass(frozen=True)
class Candidates:
    """What is to be judged.

    corpus : all samples; those of one document have the same `row`.
    judged : how likely a model finds each of them, by name: "own" for the one that wrote them, "generation_0" for the
        first model of the run, or a name in `scoring.judges`.
    """

    corpus: Corpus
    judged: Callable[[str], Scores]
