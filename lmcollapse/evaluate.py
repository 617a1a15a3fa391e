"""What any causal language model makes of any text: the measures of a model on held-out text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lmcollapse.files import regular
from lmcollapse.metrics.accuracy import accuracy
from lmcollapse.metrics.calibration import calibration
from lmcollapse.metrics.cross_entropy_bands import cross_entropy_bands
from lmcollapse.metrics.perplexity import perplexity
from lmcollapse.metrics.scene import Heldout
from lmcollapse.options import bind
from lmcollapse.types import HUMAN, Corpus, Progress, Silent, UserError

MEASURES = (perplexity, accuracy, calibration)


def evaluate(
    checkpoint: str,
    text: Path,
    *,
    reference: Path | None = None,
    window: int | None = None,
    windows: Literal["rolling", "disjoint"] = "rolling",
    batch_size: int | None = None,
    device: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score a text file, as one document, and return what its model-side measures are and what they were computed from.

    `perplexity`, `bits_per_byte` and `word_perplexity`, `next_token_accuracy`, `expected_calibration_error`, and with a
    reference `cross_entropy_head`, `_body` and `_tail`, as the measures of those names are; None where one is not
    defined. One document has no interval.

    checkpoint : a model folder in the transformers format, or a hub id.
    text : a UTF-8 file.
    reference : a UTF-8 file whose tokens say which are frequent, such as the text that the model was trained on.
    window : tokens, longest stretch that the model sees; by default the positions that it was trained on in its run,
        or all that a pretrained model can read.
    windows : `rolling`, as lm-evaluation-harness has it, or `disjoint` blocks.
    batch_size : windows scored at once, by default what fits into memory.
    device : auto, cpu, cuda, cuda:1, mps.
    revision : branch, tag or commit of a hub id.
    trust_remote_code : let a model from the hub bring code of its own, and run it.

    Raises UserError for a text that is missing, empty or not UTF-8, for a model that cannot be loaded, and for a
    window beyond what the model can read.
    """
    document = _read(text)
    counted = None if reference is None else _read(reference)

    from lmcollapse.substrates.causal_lm.blocks import tokenize
    from lmcollapse.substrates.causal_lm.devices import device_of
    from lmcollapse.substrates.causal_lm.models import load_pretrained
    from lmcollapse.substrates.causal_lm.options import ComputeOptions, ModelOptions, ScoringOptions
    from lmcollapse.substrates.causal_lm.score import score, window_size

    scoring = bind(ScoringOptions, {"window": window, "windows": windows, "batch_size": batch_size}, "evaluate")
    compute = ComputeOptions(device=device)
    device_of(compute)
    model = load_pretrained(ModelOptions(name=checkpoint, revision=revision, trust_remote_code=trust_remote_code))
    corpus = Corpus.of_tokens(tokenize(model.tokenizer, [document]), HUMAN, texts=[document])
    scores = score(model, corpus, scoring, compute, progress or Silent(), by_token=True)
    counts = None if counted is None else np.bincount(next(tokenize(model.tokenizer, [counted])))
    heldout = Heldout(corpus, scores, counts)
    measures = MEASURES if counts is None else (*MEASURES, cross_entropy_bands)
    readings = [reading for measure in measures for reading in measure(heldout)]
    nats = float(scores.nats.sum())
    return {reading.name: reading.value for reading in readings} | {
        "nats": nats if math.isfinite(nats) else None,
        "tokens": int(scores.tokens.sum()),
        "bytes": len(document.encode()),
        "documents": 1,
        "window": window_size(model.module.config, scoring),
        "windows": windows,
    }


def _read(text: Path) -> str:
    try:
        # newlines as they are: bits per byte counts the bytes of the file
        document = regular(text).read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"{text}: cannot be read ({error.strerror}); give a UTF-8 text file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{text}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
    if not document:
        raise UserError(f"{text}: empty; give a text file with something to score")
    return document
