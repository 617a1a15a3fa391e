"""How likely a model finds text: nats of every row, every token scored exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PretrainedConfig

from lmcollapse.substrates.causal_lm.blocks import IGNORED
from lmcollapse.substrates.causal_lm.devices import batch_that_fits, enter, shrinking
from lmcollapse.substrates.causal_lm.models import (
    LanguageModel,
    boundaries,
    check_positions,
    context,
    trained_positions,
)
from lmcollapse.substrates.causal_lm.options import ComputeOptions, ScoringOptions
from lmcollapse.types import Corpus, Progress, Scores


class Window(NamedTuple):
    """A stretch of one row that the model reads at once.

    Positions are those of the row with the prefix token before it: `start` to `stop` are read, and each predicts the
    token after it; what is predicted from `first` on is scored.
    """

    row: int
    start: int
    first: int
    stop: int


def windows_of(row: int, tokens: int, size: int, windows: Literal["rolling", "disjoint"]) -> Iterator[Window]:
    """The windows over a row of so many tokens; each token is scored in one of them.

    Rolling windows are those of lm-evaluation-harness: the last one reaches back over what is scored already, so as to
    be of full size. Disjoint ones have only the one token before them in common with their neighbour.
    """
    for first in range(0, tokens, size):
        stop = min(first + size, tokens)
        yield Window(row, max(0, stop - size) if windows == "rolling" else first, first, stop)


def window_size(config: PretrainedConfig, options: ScoringOptions) -> int:
    """Positions of a window: as asked for, else as many as a fit of this project trained, else all there are."""
    if options.window is not None:
        check_positions(config, options.window, "scoring.window")
    return options.window or trained_positions(config) or context(config) or 1024


def score(
    model: LanguageModel, corpus: Corpus, options: ScoringOptions, compute: ComputeOptions, progress: Progress
) -> Scores:
    """Nats and tokens of every row, in float32 whatever the fit's precision: the measurement has one precision for all.

    A row's first token is predicted from BOS (EOS where there is none), as in lm-evaluation-harness.
    """
    device = enter(compute)
    module = model.module.to(device).eval()  # type: ignore[arg-type]
    prefix, _ = boundaries(model.tokenizer)
    size = window_size(module.config, options)
    rows = [np.insert(corpus.tokens(row), 0, prefix) for row in range(len(corpus))]
    windows = [w for row, ids in enumerate(rows) for w in windows_of(row, len(ids) - 1, size, options.windows)]
    windows.sort(key=lambda w: w.start - w.stop)  # longest first: of like lengths in a batch, and memory runs out early
    nats = np.zeros(len(rows))

    def batch(start: int, size: int) -> int:
        some = windows[start : start + size]
        inputs = np.full((len(some), some[0].stop - some[0].start), prefix, np.int64)
        labels = np.full_like(inputs, IGNORED)
        for i, (row, begin, first, stop) in enumerate(some):
            inputs[i, : stop - begin] = rows[row][begin:stop]
            labels[i, first - begin : stop - begin] = rows[row][first + 1 : stop + 1]
        with (
            torch.inference_mode()
        ):  # padding needs no mask: it stands on the right, where causal attention cannot look
            logits = module(torch.from_numpy(inputs).to(device), use_cache=False).logits.float()
            targets = torch.from_numpy(labels).to(device)
            losses = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
            np.add.at(nats, [w.row for w in some], losses.double().sum(1).cpu().numpy())
        return len(some)

    at_once = options.batch_size or batch_size(module.config, size, device)
    done = 0
    with progress.stage("score", total=len(corpus.values), unit="tokens") as advance:
        while done < len(windows):
            scored, at_once = shrinking(partial(batch, done), at_once, progress, "score")
            advance(sum(w.stop - w.first for w in windows[done : done + scored]))
            done += scored
    return Scores(nats, np.asarray(corpus.lengths, np.int64))


def batch_size(config: PretrainedConfig, window: int, device: torch.device) -> int:
    """Windows whose logits over the whole vocabulary fit into memory, three times over."""
    return batch_that_fits(window * config.get_text_config().vocab_size * 4 * 3, device)
