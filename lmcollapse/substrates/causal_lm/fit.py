"""Fitting a generation: one plain training loop, on blocks of tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice

import numpy as np
import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, get_scheduler

from lmcollapse import processes
from lmcollapse.substrates.causal_lm.blocks import IGNORED, Blocks
from lmcollapse.substrates.causal_lm.devices import autocast, decided, deterministic, enter, shrinking
from lmcollapse.substrates.causal_lm.options import ComputeOptions, TrainOptions
from lmcollapse.types import Ints, Progress, UserError

RECORDS = 200
"""Most lines of history that a fit leaves."""


class Diverged(UserError):
    """The loss of a fit is no longer a finite number."""


def fit(
    module: PreTrainedModel,
    blocks: Blocks,
    train: TrainOptions,
    compute: ComputeOptions,
    seed: int,
    progress: Progress,
) -> list[dict[str, float]]:
    """Fit `module` in place and return the history of the fit, a record every so many steps.

    A record has the `step`, the `tokens` predicted so far and the step's `loss` (nats per token), `learning_rate` and
    `gradient_norm` (before clipping). Raises Diverged where the loss is not finite.
    """
    device = enter(compute)
    torch.manual_seed(seed)  # for dropout
    module.to(device).train()  # type: ignore[arg-type]
    batches = list(islice(_batches(len(blocks), train.batch_size, seed), _steps(len(blocks), train)))
    optimizer = _optimizer(module, train)
    schedule = "constant_with_warmup" if train.schedule == "constant" else train.schedule
    scheduler = get_scheduler(schedule, optimizer, int(train.warmup * len(batches)), len(batches))
    accelerator = _accelerator(device)
    model, stepper = accelerator.prepare(module, optimizer)

    history: list[dict[str, float]] = []
    tokens, piece, every = 0, train.batch_size, math.ceil(len(batches) / RECORDS)
    trained = (blocks.labels != IGNORED).sum(1)
    total = sum(int(trained[batch].sum()) for batch in batches)
    with (
        progress.stage("fit", total=total, unit="tokens") as advance,
        deterministic(device),
        _attention(module, blocks.inputs.shape[1], compute, device),
    ):
        for step, batch in enumerate(batches, 1):
            inputs, labels = (torch.from_numpy(ids).to(device) for ids in _share(blocks, batch))
            predicted = int(trained[batch].sum())
            gradients = partial(_gradients, accelerator, model, inputs, labels, predicted, compute)
            loss, piece = shrinking(gradients, piece, progress, "fit")
            if not math.isfinite(loss):
                raise Diverged(f"the fit diverged: its loss is {loss} at step {step}; lower train.learning_rate")
            norm = accelerator.clip_grad_norm_(model.parameters(), train.gradient_clip or math.inf)
            rate = scheduler.get_last_lr()[0]
            stepper.step()
            scheduler.step()

            tokens += predicted
            advance(predicted, loss=loss)
            if step % every == 0 or step == len(batches):
                figures = {"loss": loss, "learning_rate": rate, "gradient_norm": float(norm)}
                history.append({"step": step, "tokens": tokens} | figures)
    module.eval()  # type: ignore[no-untyped-call]
    return history


def _accelerator(device: torch.device) -> Accelerator:
    processes.join()
    # Its own mixed precision is a setting of the whole process, in which two fits of one process could not differ.
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no", device_placement=False)
    together = processes.count()
    assert accelerator.num_processes == together, f"{accelerator.num_processes} processes in place of {together}"
    return accelerator


@contextmanager
def _attention(
    module: PreTrainedModel, positions: int, compute: ComputeOptions, device: torch.device
) -> Iterator[None]:
    """Plain attention where it is the faster one: on CPUs, short blocks in bfloat16 (by a fifth at 128 positions)."""
    usual = module.config._attn_implementation
    if usual == "sdpa" and device.type == "cpu" and positions <= 128 and decided(compute).precision == "bfloat16":
        module.set_attn_implementation("eager")
    try:
        yield
    finally:
        module.set_attn_implementation(usual)


def _share(blocks: Blocks, batch: Ints) -> tuple[Ints, Ints]:
    """The inputs and labels of a batch that fall to this process; without any it predicts nothing."""
    mine = batch[processes.number() :: processes.count()]
    if len(mine):
        return blocks.inputs[mine], blocks.labels[mine]
    return blocks.inputs[batch[:1]], np.full_like(blocks.labels[batch[:1]], IGNORED)


def _gradients(
    accelerator: Accelerator,
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    predicted: int,
    compute: ComputeOptions,
    size: int,
) -> float:
    """Leave the gradients of a batch in the model, added up over pieces of `size` blocks, and return the batch's loss.

    predicted : tokens that the whole batch predicts, whichever process has them.

    Logits become float32 before the loss: in bfloat16 the sum over a vocabulary loses the rare words.
    """
    model.zero_grad()
    together = accelerator.num_processes
    total = torch.zeros((), device=inputs.device)
    pieces = list(zip(torch.split(inputs, size), torch.split(labels, size), strict=True))
    for number, (piece, targets) in enumerate(pieces, 1):
        # gradients are averaged over processes, once
        with accelerator.no_sync(model) if number < len(pieces) else nullcontext():
            with autocast(decided(compute).precision, inputs.device):
                logits = model(piece, use_cache=False).logits
            loss = cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum") / predicted
            accelerator.backward(loss * together)
        total += loss.detach()
    return float(accelerator.reduce(total, "sum"))


def _steps(blocks: int, train: TrainOptions) -> int:
    return train.steps or max(1, round(train.epochs * math.ceil(blocks / train.batch_size)))


def _batches(blocks: int, size: int, seed: int) -> Iterator[Ints]:
    """Which blocks are in each batch, without end: every block once an epoch, each epoch in an order of its own."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(blocks)
        yield from (order[i : i + size] for i in range(0, blocks, size))


def _optimizer(module: PreTrainedModel, train: TrainOptions) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter, ICLR 2019) that decays matrices and leaves biases, norms and embeddings alone."""
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}  # tied heads are among them
    groups: dict[float, list[nn.Parameter]] = {train.weight_decay: [], 0.0: []}
    for parameter in module.parameters():
        decays = parameter.ndim >= 2 and id(parameter) not in embeddings
        groups[train.weight_decay if decays else 0.0].append(parameter)
    parameters = [{"params": group, "weight_decay": decay} for decay, group in groups.items()]
    return torch.optim.AdamW(parameters, lr=train.learning_rate, fused=True)
