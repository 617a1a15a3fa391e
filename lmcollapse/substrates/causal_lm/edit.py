"""Text that is edited token by token in place of being written anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedModel

from lmcollapse.substrates.causal_lm.blocks import to_texts
from lmcollapse.substrates.causal_lm.decoding import ancestral, filters, spoken
from lmcollapse.substrates.causal_lm.models import LanguageModel, boundaries
from lmcollapse.substrates.causal_lm.options import ComputeOptions, SamplingOptions, ScoringOptions
from lmcollapse.substrates.causal_lm.score import logits_of, over_windows
from lmcollapse.types import Corpus, Ints, Progress


def edit(
    model: LanguageModel,
    corpus: Corpus,
    generation: int,
    seed: int,
    sampling: SamplingOptions,
    scoring: ScoringOptions,
    compute: ComputeOptions,
    progress: Progress,
) -> Corpus:
    """The same rows, with every token drawn anew that the model finds as likely as `edit_above`, or likelier.

    Each is drawn given the tokens before it in the row as it was, from the distribution that the model has there, as
    the filters leave it (ToEdit, Zhu et al. 2024, arXiv 2412.14689, algorithm 1). The end of a text stays where it is.
    Row i of the result was row `prompt[i]` of the corpus.
    """
    threshold = sampling.edit_above
    assert threshold is not None
    shape = LogitsProcessorList(filters(sampling))
    _, end = boundaries(model.tokenizer)
    uniforms = np.random.default_rng(seed).random(len(corpus.values))

    def predict(module: PreTrainedModel, inputs: Tensor, labels: Tensor, places: Ints) -> list[npt.NDArray[Any]]:
        found = []
        draws = torch.from_numpy(uniforms[places]).to(inputs.device)
        for logits, target in logits_of(module, inputs, labels):
            some, draws = draws[: len(target)], draws[len(target) :]
            chances = logits.softmax(-1).gather(1, target[:, None])[:, 0]
            likely = (chances >= threshold) | chances.isnan()
            logits[:, end] = -torch.inf
            drawn = ancestral(shape(target[:, None], logits), some)  # type: ignore[arg-type]  # it means any integers
            found.append(torch.where(likely & (target != end), drawn, target))
        return [torch.cat(found).cpu().numpy()]

    (values,) = over_windows(model, corpus, scoring, compute, progress, "edit", [np.int32], predict)
    spoken([values])
    progress.say(f"edit: {np.mean(values != corpus.values):.2%} of the tokens are others now")
    assert corpus.offsets is not None
    edited = Corpus.of_stream(values, corpus.offsets, generation, prompt=np.arange(len(corpus)))
    return replace(edited, texts=to_texts(model.tokenizer, edited.rows()))
