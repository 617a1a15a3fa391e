"""Self-BLEU-4 by other packages, with the smoothing that ours has: an order without a match counts 0.1."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

Documents = Sequence[list[str]]


class Rival(NamedTuple):
    """A package that has the measure.

    needs : the module that it is imported as.
    scores : `(documents, n)` -> the scores of the first n documents, or of all, each against all others.
    slow : whether it takes minutes for a thousand documents.
    """

    name: str
    needs: str
    scores: Callable[[Documents, int], Sequence[float]]
    slow: bool


def nltk(documents: Documents, first: int) -> list[float]:
    """NLTK's sentence BLEU."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    smoothing = SmoothingFunction(epsilon=0.1).method1
    return [
        sentence_bleu([*documents[:i], *documents[i + 1 :]], documents[i], smoothing_function=smoothing)
        for i in range(first)
    ]


def sacrebleu(documents: Documents, first: int) -> list[float]:
    """sacrebleu's sentence BLEU."""
    from sacrebleu.metrics.bleu import BLEU

    logging.getLogger("sacrebleu").setLevel(logging.ERROR)  # each call would advise another treatment of short texts
    bleu = BLEU(smooth_method="floor", smooth_value=0.1, tokenize="none", force=True)
    texts = [" ".join(document) for document in documents]
    return [bleu.sentence_score(texts[i], [*texts[:i], *texts[i + 1 :]]).score / 100 for i in range(first)]


def fast_bleu(documents: Documents, _: int) -> list[float]:
    """fast-bleu's self-BLEU, in C++ on all processors."""
    bleu = importlib.import_module("fast_bleu").SelfBLEU(list(documents), {4: (1 / 4,) * 4})
    scores: list[float] = bleu.get_score()[4]
    return scores


RIVALS = (
    Rival("NLTK", "nltk", nltk, True),
    Rival("sacrebleu", "sacrebleu", sacrebleu, True),
    Rival("fast-bleu", "fast_bleu", fast_bleu, False),
)
