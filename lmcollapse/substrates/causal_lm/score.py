"""How likely a model finds text: nats of every row, every token scored exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from lmcollapse.spool import ends, stretches, zeros
from lmcollapse.substrates.causal_lm.blocks import IGNORED
from lmcollapse.substrates.causal_lm.devices import batch_that_fits, enter, little_memory, shrinking
from lmcollapse.substrates.causal_lm.models import (
    PLAIN_HEADS,
    LanguageModel,
    boundaries,
    check_ids,
    check_positions,
    context,
    trained_positions,
)
from lmcollapse.substrates.causal_lm.options import ComputeOptions, ScoringOptions
from lmcollapse.types import Corpus, Ints, Progress, Scores, TokenScores

HEAD_VALUES = 1 << 24
"""Logits that are made at once: 64 MiB."""


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
    model: LanguageModel,
    corpus: Corpus,
    options: ScoringOptions,
    compute: ComputeOptions,
    progress: Progress,
    *,
    by_token: bool = False,
    what: str = "score",
) -> Scores:
    """Nats and tokens of every row, in float32 whatever the fit's precision: the measurement has one precision for all.

    A row's first token is predicted from BOS (EOS where there is none), as in lm-evaluation-harness.

    by_token : keep the predictions of every token, too.
    what : what the user sees that is going on.
    """

    def predict(module: PreTrainedModel, inputs: Tensor, labels: Tensor, _: Ints) -> list[npt.NDArray[Any]]:
        return _predictions(module, inputs, labels, by_token)

    kinds: list[Any] = [np.float32, np.float32, np.bool_] if by_token else [np.float32]
    columns = over_windows(model, corpus, options, compute, progress, what, kinds, predict)
    lengths = np.asarray(corpus.lengths, np.int64)
    nats = np.zeros(len(lengths))
    offsets = ends(lengths)
    for first, beyond in stretches(offsets):
        row = np.repeat(np.arange(beyond - first), lengths[first:beyond])
        found = columns[0][offsets[first] : offsets[beyond]]
        nats[first:beyond] = np.bincount(row, found, minlength=beyond - first)
    return Scores(nats, lengths, TokenScores(*columns) if by_token else None)


def over_windows(
    model: LanguageModel,
    corpus: Corpus,
    options: ScoringOptions,
    compute: ComputeOptions,
    progress: Progress,
    what: str,
    kinds: Sequence[Any],
    predict: Callable[[PreTrainedModel, Tensor, Tensor, Ints], list[npt.NDArray[Any]]],
) -> list[npt.NDArray[Any]]:
    """Columns, `(tokens,)` of these kinds, of what is found of every token of a corpus from those before it.

    predict : `predict(module, inputs, labels, places)` reads a batch of windows and gives the columns for the labels
        that count; places are those of their tokens in the corpus.
    """
    device = enter(compute)
    module = model.module.to(device).eval()  # type: ignore[arg-type]
    prefix, _ = boundaries(model.tokenizer)
    size = window_size(module.config, options)
    lengths = corpus.lengths.tolist()
    windows = [w for row, tokens in enumerate(lengths) for w in windows_of(row, tokens, size, options.windows)]
    windows.sort(key=lambda w: w.start - w.stop)  # longest first: of like lengths in a batch, and memory runs out early
    assert corpus.offsets is not None, "rows of vectors have no tokens"
    check_ids(module.config, corpus.values)
    offsets, tokens = corpus.offsets, len(corpus.values)
    columns: list[npt.NDArray[Any]] = [zeros(tokens, kind) for kind in kinds]

    def batch(start: int, size: int) -> int:
        some = windows[start : start + size]
        inputs = np.full((len(some), some[0].stop - some[0].start), prefix, np.int64)
        labels = np.full_like(inputs, IGNORED)
        for i, (row, begin, first, stop) in enumerate(some):
            ids = corpus.tokens(row)
            inputs[i, begin == 0 : stop - begin] = ids[max(0, begin - 1) : stop - 1]  # the prefix is there already
            labels[i, first - begin : stop - begin] = ids[first:stop]
        places = np.concatenate([np.arange(w.first, w.stop) + offsets[w.row] for w in some])
        with torch.inference_mode():
            # padding needs no mask: it stands on the right, where causal attention cannot look
            inputs_there, labels_there = torch.from_numpy(inputs).to(device), torch.from_numpy(labels).to(device)
            found = predict(module, inputs_there, labels_there, places)
        for column, of_batch in zip(columns, found, strict=True):
            column[places] = of_batch
        return len(some)

    longest = windows[0].stop - windows[0].start if windows else 1
    at_once = options.batch_size or batch_size(module.config, longest, device)
    done = 0
    with progress.stage(what, total=len(corpus.values), unit="tokens") as advance:
        while done < len(windows):
            scored, at_once = shrinking(partial(batch, done), at_once, progress, what)
            advance(sum(w.stop - w.first for w in windows[done : done + scored]))
            done += scored
    return columns


def _predictions(module: PreTrainedModel, inputs: Tensor, labels: Tensor, by_token: bool) -> list[npt.NDArray[Any]]:
    """Nats of each label that counts, in order; with `by_token` also how likely the top token is, and if it is it."""
    found: list[list[Tensor]] = [[], [], []]
    for logits, target in logits_of(module, inputs, labels):
        # of equal logits max names the first; differences, since logits near -100, as GPT-2 has, are coarse in float32
        top, likeliest = logits.max(-1, keepdim=True) if by_token else (logits.amax(-1, keepdim=True), None)
        logits -= top
        surplus = logits.gather(1, target[:, None])[:, 0]
        total = logits.exp_().sum(-1).log()
        found[0].append(total - surplus)
        if likeliest is not None:
            found[1].append((-total).exp())
            found[2].append(likeliest[:, 0] == target)
    return [torch.cat(parts).cpu().numpy() for parts in found if parts]


def logits_of(module: PreTrainedModel, inputs: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """`(some, vocabulary)` logits of the labels that count, in order, and these labels.

    The vocabulary's head is applied to a few positions at a time, and to none that do not count: the logits of
    thousands of positions over a large vocabulary would take gigabytes.
    """
    counted = labels != IGNORED
    targets = labels[counted]
    head: Callable[[Tensor], Tensor]
    states: Tensor
    if type(module) in PLAIN_HEADS:
        states = module.base_model(inputs, use_cache=False).last_hidden_state[counted]
        head = module.get_output_embeddings()  # type: ignore[no-untyped-call]
    else:
        states, head = module(inputs, use_cache=False).logits[counted], _itself
    at_once = max(1, HEAD_VALUES // module.config.get_text_config().vocab_size)
    for some, target in zip(torch.split(states, at_once), torch.split(targets, at_once), strict=True):
        yield head(some).float(), target


def _itself(logits: Tensor) -> Tensor:
    return logits


def batch_size(config: PretrainedConfig, window: int, device: torch.device) -> int:
    """Windows that fit into memory: a dozen states of each position, and logits where these are not made in parts."""
    text = config.get_text_config()
    states = 12 * (getattr(text, "intermediate_size", None) or 4 * text.hidden_size)
    logits = 0 if type(config) in [kind.config_class for kind in PLAIN_HEADS] else 3 * text.vocab_size
    return batch_that_fits(
        window * 4 * (states + logits), little_memory(device), 1024 if device.type == "cuda" else 256
    )
