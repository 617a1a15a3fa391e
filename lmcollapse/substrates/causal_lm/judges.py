"""Models from outside the run that judge what each generation writes: frozen, with a tokenizer of their own."""

from __future__ import annotations

from pathlib import Path

from lmcollapse.substrates.causal_lm.blocks import tokenize
from lmcollapse.substrates.causal_lm.models import load_pretrained
from lmcollapse.substrates.causal_lm.options import ComputeOptions, ModelOptions, ScoringOptions
from lmcollapse.substrates.causal_lm.score import score
from lmcollapse.types import Corpus, Progress, Scores


def judge(name: str, corpus: Corpus, compute: ComputeOptions, progress: Progress) -> Scores:
    """How likely the model of that name finds the text of every row, over as many positions as it can read at once.

    name : hub id, local folder, `smollm2`.
    """
    assert corpus.texts is not None, "rows of vectors are not judged"
    model = load_pretrained(ModelOptions(name=name))
    rows = Corpus.of_tokens(tokenize(model.tokenizer, corpus.texts), 0, texts=corpus.texts)
    return score(model, rows, ScoringOptions(), compute, progress, what=f"judge {Path(name).name}")
