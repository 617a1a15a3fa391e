"""Fitting a generation: one plain training loop, on blocks of tokens."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin  # type: ignore[import-untyped]
from torch import Tensor, nn
from transformers import PreTrainedModel, get_scheduler

from lmcollapse import processes
from lmcollapse.spool import by_rows, pieces
from lmcollapse.substrates.causal_lm.blocks import IGNORED, Blocks
from lmcollapse.substrates.causal_lm.clock import Clock
from lmcollapse.substrates.causal_lm.devices import (
    decided,
    deterministic,
    dtype_of,
    enter,
    products_in,
    shrinking,
)
from lmcollapse.substrates.causal_lm.lora import adapted
from lmcollapse.substrates.causal_lm.models import not_finite
from lmcollapse.substrates.causal_lm.objective import Objective
from lmcollapse.substrates.causal_lm.options import ComputeOptions, TrainOptions
from lmcollapse.substrates.causal_lm.snapshots import Course, keep, put, restore, weights_of
from lmcollapse.types import Diverged, Emptied, Ints, Progress

RECORDS = 200
"""Most lines of history that a fit leaves."""

LOOKS = 16
"""Optimizer steps between two looks at the clock."""

LONG = 2000
"""Optimizer steps from which compiling pays: it takes a minute or so."""


def fit(
    module: PreTrainedModel,
    blocks: Blocks,
    train: TrainOptions,
    compute: ComputeOptions,
    seed: int,
    progress: Progress,
    bench: Path | None = None,
    passes: float = 1.0,
) -> list[dict[str, float]]:
    """Fit `module` in place and return the history of the fit, a record every so many steps.

    A record has the `step`, the `tokens` predicted so far, the step's `loss` (nats per token), `learning_rate` and
    `gradient_norm` (before clipping), `tokens_per_second` since the record before and the `utilisation`, which is the
    share of the measured matrix rate that the model's own products took; and `validation_loss` where there was a look.
    Raises Diverged where the loss, the gradient or, at the end, a weight is not finite.

    bench : where the state of the fit is kept for a start after a kill; None for nowhere.
    passes : share of the blocks that counts as an epoch: it takes as many steps as so many blocks would.
    """
    compute = decided(compute)
    device = enter(compute)
    torch.manual_seed(seed)
    blocks, held = _parts(blocks, train, seed)
    batches = list(islice(_batches(len(blocks), train.batch_size, seed), _steps(passes * len(blocks), train)))
    accelerator = _accelerator(device, train, compute, seed, bench)
    sharded = compute.sharding == "fsdp"
    fitted = copy.deepcopy(module) if sharded else module.to(device)  # type: ignore[arg-type]
    fitted.train()
    adapter = adapted(fitted, train)
    lean = adapter is None and not train.gradient_checkpointing and not sharded
    objective = Objective(fitted, dtype_of(compute.precision), lean=lean)
    optimizer = _optimizer(fitted, train)
    rates = _rates(optimizer, train, len(batches))
    model, stepper = accelerator.prepare(objective, optimizer)
    course, best = restore(bench, objective, optimizer) if bench else (Course(), {})

    trained = np.concatenate([(some != IGNORED).sum(1) for some in pieces(blocks.labels)])
    piece, every = train.micro_batch_size or train.batch_size, math.ceil(len(batches) / RECORDS)
    look = train.validation_steps or math.ceil(len(blocks) / train.batch_size)
    total = sum(int(trained[batch].sum()) for batch in batches)
    kept, clock = time.monotonic(), Clock(fitted, blocks.inputs.shape[1], device, compute.precision)
    with (
        progress.stage("fit", total=total, unit="tokens") as advance,
        deterministic(device),
        products_in(compute.precision),
        _attention(fitted, blocks.inputs.shape[1], compute, device),
        _checkpointing(fitted, train),
    ):
        advance(course.tokens)
        ready = _compiled(model, compute, device, len(batches) - course.step)
        for step, batch in enumerate(batches[course.step :], course.step + 1):
            torch.manual_seed(_step_seed(seed, step))  # dropout follows from the step, wherever a fit was resumed
            inputs, labels = _share(blocks, batch, device)
            predicted = int(trained[batch].sum())
            gradients = partial(_gradients, accelerator, ready, inputs, labels, predicted)
            loss, piece = shrinking(gradients, piece, progress, "fit")
            norm = float(accelerator.clip_grad_norm_(model.parameters(), train.gradient_clip or math.inf))
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise Diverged(step, loss, norm)
            for group in stepper.param_groups:
                group["lr"] = rates[step - 1]
            stepper.step()

            course.step, course.tokens = step, course.tokens + predicted
            clock.count(predicted)
            advance(predicted, loss=loss)
            last = step == len(batches)
            figures = {"loss": loss, "learning_rate": rates[step - 1], "gradient_norm": norm}
            looked = len(held) > 0 and (step % look == 0 or last)
            if looked:
                figures["validation_loss"] = _validated(accelerator, ready, held, piece, device)
                if not math.isfinite(figures["validation_loss"]):
                    raise Diverged(step, loss, norm, f"its validation loss is {figures['validation_loss']}")
                if course.best is None or figures["validation_loss"] < course.best:
                    course.best, course.waited, best = figures["validation_loss"], 0, weights_of(objective)
                else:
                    course.waited += 1
            last = last or (looked and course.waited == train.patience)
            if step % every == 0 or last or looked:
                record = {"step": step, "tokens": course.tokens} | figures | clock.read()
                course.history.append(record)
                accelerator.log(record, step=step)
            if last:
                break
            if bench and _is_due(step, kept, train):
                keep(bench, course, objective, optimizer, best)
                kept = time.monotonic()
    for tracker in accelerator.trackers:  # not end_training(), which would part the processes
        tracker.finish()
    if best:
        put(objective, best)
    if adapter is not None:
        adapter.merge_and_unload()
    if sharded:
        put(module, {name.removeprefix("module."): weight for name, weight in weights_of(objective).items()})
    if broken := not_finite(module):  # the last step was too long, and no loss was computed after it
        raise Diverged(course.step, loss, norm, f"{broken} is not finite")
    module.eval()  # type: ignore[no-untyped-call]
    return course.history


def _parts(blocks: Blocks, train: TrainOptions, seed: int) -> tuple[Blocks, Blocks]:
    """The blocks to train on, with labels where the loss counts, and those of the validation part."""
    if train.loss_tokens is not None:
        places = blocks.labels.shape[1]
        counts = np.arange(places) >= places - train.loss_tokens
        labels = (np.where(counts, some, IGNORED) for some in pieces(blocks.labels))
        blocks = Blocks(blocks.inputs, by_rows(labels, np.int32, places))
    held = round(train.validation * len(blocks))
    if train.validation and not 0 < held < len(blocks):
        raise Emptied(
            f"train.validation is {train.validation}, which is {held} of {len(blocks)} blocks: give a share that "
            "leaves blocks on either side",
            "model",
        )
    if not held:
        return blocks, blocks.take(np.arange(0))
    order = np.random.default_rng([seed, 1]).permutation(len(blocks))
    return blocks.take(np.sort(order[held:])), blocks.take(np.sort(order[:held]))


def _accelerator(
    device: torch.device, train: TrainOptions, compute: ComputeOptions, seed: int, bench: Path | None
) -> Accelerator:
    processes.join()
    sharded = FullyShardedDataParallelPlugin(fsdp_version=2) if compute.sharding == "fsdp" else None
    # Its own mixed precision is a setting of the whole process, in which two fits of one process could not differ.
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no",
        device_placement=False,
        fsdp_plugin=sharded,
        log_with=list(train.trackers) or None,
        project_dir=None if bench is None else bench.parent.parent / "trackers",
    )
    together = processes.count()
    assert accelerator.num_processes == together, f"{accelerator.num_processes} processes in place of {together}"
    if train.trackers:
        where = "fit" if bench is None else f"{bench.parent.parent.name}-{bench.parent.name}"
        flat = {key: str(value) for key, value in train.model_dump().items()}
        accelerator.init_trackers(where, config=flat | {"seed": str(seed)})
    return accelerator


def _is_due(step: int, kept: float, train: TrainOptions) -> bool:
    """Whether the state of the fit is to be kept after this step."""
    if train.checkpoint_steps and step % train.checkpoint_steps == 0:
        return True
    return step % LOOKS == 0 and processes.agree(time.monotonic() - kept > 60 * train.checkpoint_minutes)


def _step_seed(seed: int, step: int) -> int:
    """Of the random numbers of one step in this process."""
    return int(np.random.SeedSequence([seed, step, processes.number()]).generate_state(1, np.uint64)[0] >> 1)


def _compiled(model: nn.Module, compute: ComputeOptions, device: torch.device, steps: int) -> nn.Module:
    pays = device.type == "cuda" and steps >= LONG
    if compute.compile == "on" or (compute.compile == "auto" and pays):
        return cast(nn.Module, torch.compile(model))
    return model


@contextmanager
def _checkpointing(module: PreTrainedModel, train: TrainOptions) -> Iterator[None]:
    if not train.gradient_checkpointing:
        yield
        return
    kind = "activation" if hasattr(module, "activation_checkpointing_enable") else "gradient"  # as newer releases say
    getattr(module, f"{kind}_checkpointing_enable")({"use_reentrant": False})
    try:
        yield
    finally:
        getattr(module, f"{kind}_checkpointing_disable")()


def _validated(accelerator: Accelerator, model: nn.Module, held: Blocks, size: int, device: torch.device) -> float:
    """Mean nats of a token of the validation part."""
    model.eval()
    total = torch.zeros((), device=device)
    with torch.no_grad():
        for first in range(0, len(held), size * accelerator.num_processes):
            some = np.arange(first, min(first + size * accelerator.num_processes, len(held)))
            total += model(*_share(held, some, device)).detach()
    model.train()
    return float(accelerator.reduce(total, "sum")) / int((held.labels != IGNORED).sum())


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


def _share(blocks: Blocks, batch: Ints, device: torch.device) -> tuple[Tensor, Tensor]:
    """The inputs and labels of a batch that fall to this process; without any it predicts nothing."""
    mine = batch[processes.number() :: processes.count()]
    if len(mine):
        inputs, labels = blocks.inputs[mine], blocks.labels[mine]
    else:
        inputs, labels = blocks.inputs[batch[:1]], np.full_like(blocks.labels[batch[:1]], IGNORED)
    return torch.from_numpy(inputs.astype(np.int64)).to(device), torch.from_numpy(labels.astype(np.int64)).to(device)


def _gradients(
    accelerator: Accelerator, model: nn.Module, inputs: Tensor, labels: Tensor, predicted: int, size: int
) -> float:
    """Leave the gradients of a batch in the model, added up over pieces of `size` blocks, and return the batch's loss.

    predicted : tokens that the whole batch predicts, whichever process has them.
    """
    model.zero_grad()
    together = accelerator.num_processes
    total = torch.zeros((), device=inputs.device)
    pieces = list(zip(torch.split(inputs, size), torch.split(labels, size), strict=True))
    for number, (piece, targets) in enumerate(pieces, 1):
        # gradients are averaged over processes, once
        with accelerator.no_sync(model) if number < len(pieces) else nullcontext():
            loss = model(piece, targets) / predicted
            accelerator.backward(loss * together)
        total += loss.detach()
    return float(accelerator.reduce(total, "sum"))


def _steps(blocks: float, train: TrainOptions) -> int:
    # a share of the blocks that is meant to be a whole number is not quite
    return train.steps or max(1, round(train.epochs * math.ceil(round(blocks, 6) / train.batch_size)))


def _batches(blocks: int, size: int, seed: int) -> Iterator[Ints]:
    """Which blocks are in each batch, without end: every block once an epoch, each epoch in an order of its own."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(blocks)
        yield from (order[i : i + size] for i in range(0, blocks, size))


def _rates(optimizer: torch.optim.Optimizer, train: TrainOptions, steps: int) -> list[float]:
    """The learning rate of each step."""
    name = "constant_with_warmup" if train.schedule == "constant" else train.schedule
    schedule = get_scheduler(name, optimizer, int(train.warmup * steps), steps)
    return [train.learning_rate * schedule.lr_lambdas[0](step) for step in range(steps)]


def _optimizer(module: PreTrainedModel, train: TrainOptions) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter, ICLR 2019) that decays matrices and leaves biases, norms and embeddings alone."""
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}  # tied heads are among them
    groups: dict[float, list[nn.Parameter]] = {train.weight_decay: [], 0.0: []}
    for parameter in filter(lambda parameter: parameter.requires_grad, module.parameters()):
        decays = parameter.ndim >= 2 and id(parameter) not in embeddings
        groups[train.weight_decay if decays else 0.0].append(parameter)
    parameters = [{"params": group, "weight_decay": decay} for decay, group in groups.items()]
    return torch.optim.AdamW(parameters, lr=train.learning_rate, fused=True)
