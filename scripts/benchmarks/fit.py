"""Fitting a generation: tokens a second and memory, against transformers' `Trainer`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from benchmarks.racing import Elsewhere, Row, Settings, say
from benchmarks.sample import GPT2, SMALL, Machine, Shape, rates
from lmcollapse.substrates.causal_lm.blocks import Blocks
from lmcollapse.substrates.causal_lm.clock import operations
from lmcollapse.substrates.causal_lm.fit import fit
from lmcollapse.substrates.causal_lm.options import ComputeOptions, TrainOptions
from lmcollapse.types import Silent

BATCH, POSITIONS = 32, 128
RECIPE = {"learning_rate": 1e-3, "weight_decay": 0.1, "warmup": 0.1}

Fitted = tuple[float, PreTrainedModel]
"""Tokens predicted a second, and the model."""

Judged = tuple[float, float]
"""Tokens a second, and the perplexity of held-out text."""


def text(vocabulary: int, blocks: int, positions: int, seed: int) -> Any:
    """`(blocks, positions)` tokens of a Markov chain of 255 states, each followed by one of eight: soon learned."""
    followers = np.random.default_rng(0).integers(1, min(256, vocabulary), (vocabulary, 8))
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, 9)
    chosen = rng.choice(8, (blocks, positions), p=weights / weights.sum())
    tokens = np.empty((blocks, positions), np.int64)
    tokens[:, 0] = rng.integers(1, vocabulary, blocks)
    for i in range(1, positions):
        tokens[:, i] = followers[tokens[:, i - 1], chosen[:, i]]
    return tokens


def model_of(shape: Shape, positions: int, seed: int) -> PreTrainedModel:
    """The same on every side: a GPT-2 of random weights without dropout."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=shape.vocabulary,
        n_positions=positions,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        bos_token_id=0,
        eos_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    return GPT2LMHeadModel(config)


def ours(shape: Shape, precision: str, steps: int, seed: int, batch: int = BATCH, positions: int = POSITIONS) -> Fitted:
    """The project's own fit, all of it timed."""
    tokens = text(shape.vocabulary, steps * batch, positions, seed)
    blocks = Blocks(tokens[:, :-1], tokens[:, 1:])
    module = model_of(shape, positions, seed)
    train = TrainOptions(block_size=positions, steps=steps, batch_size=batch, schedule="linear", **RECIPE)  # type: ignore[arg-type]
    compute = ComputeOptions(device=shape.device, precision=precision)  # type: ignore[arg-type]
    began = time.perf_counter()
    fit(module, blocks, train, compute, seed, Silent())
    return blocks.labels.size / (time.perf_counter() - began), module


class Rows(Dataset[dict[str, Any]]):
    """Blocks as `Trainer` reads them; it predicts all tokens of a block but the first."""

    def __init__(self, tokens: Any) -> None:
        self.tokens = torch.from_numpy(tokens)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


class StopWatch(TrainerCallback):
    """When steps ended: the first one, in which things are set up and compiled, is not timed."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *arguments: Any, **options: Any) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter())


def trainer(
    shape: Shape,
    steps: int,
    seed: int,
    batch: int = BATCH,
    positions: int = POSITIONS,
    **tuned: Any,
) -> Fitted:
    """transformers' `Trainer`, at its defaults but for what every side has alike."""
    module, watch = model_of(shape, positions, seed), StopWatch()
    with tempfile.TemporaryDirectory(prefix="lmcollapse-benchmark-") as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=batch,
            learning_rate=RECIPE["learning_rate"],
            weight_decay=RECIPE["weight_decay"],
            warmup_steps=int(RECIPE["warmup"] * steps),
            seed=seed,
            use_cpu=shape.device == "cpu",
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            **tuned,
        )
        rows = Rows(text(shape.vocabulary, steps * batch, positions, seed))
        Trainer(model=module, args=arguments, train_dataset=rows, callbacks=[watch]).train()
    return (steps - 1) * batch * (positions - 1) / (watch.ends[-1] - watch.ends[0]), module


def perplexity(module: PreTrainedModel, tokens: Any) -> float:
    """Of held-out text, predicted token by token after the first of each block."""
    module.eval()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        ids = torch.from_numpy(tokens).to(module.device)
        return float(module(ids, labels=ids).loss.exp())


TUNED: dict[str, Any] = {"bf16": True, "logging_strategy": "no", "dataloader_pin_memory": False}
"""What makes `Trainer` faster here."""


def judged(fit: Callable[..., Fitted], shape: Shape, options: dict[str, Any]) -> Callable[[int, int], Judged]:
    """A fit of so many steps with a seed, and how the model does on held-out text."""
    heldout = text(shape.vocabulary, 200, POSITIONS, seed=1000)
    fit(shape, steps=3, seed=0, **options)  # what a process does once is not timed

    def work(steps: int, seed: int) -> Judged:
        speed, module = fit(shape, steps=steps, seed=seed, **options)
        return speed, perplexity(module, heldout)

    return work


def small(settings: Settings) -> Iterator[Row]:
    """Each round fits new models of another seed, on every side."""
    shape, steps = SMALL(prompt=1, new=1, beams=None, documents=1), max(4, round(40 * settings.size))
    sides = {
        "ours": ("bfloat16", Elsewhere(judged, ours, shape, {"precision": "bfloat16"})),
        "ours-float32": ("float32", Elsewhere(judged, ours, shape, {"precision": "float32"})),
        "trainer": ("float32", Elsewhere(judged, trainer, shape, {})),
    }
    tried = {}
    for compiled in (False, True):
        candidate = Elsewhere(judged, trainer, shape, TUNED | {"torch_compile": compiled})
        try:
            speed = candidate(max(3, steps // 4), 0)[0]
        except RuntimeError as error:  # no compiler here
            say(f"  fit-cpu-small · trainer-bf16, compiled: {error!s:.200}")
            continue
        tried[speed] = candidate
        say(f"  fit-cpu-small · trainer-bf16, {'' if compiled else 'not '}compiled: {speed:,.0f} tokens/s")
    sides["trainer-bf16"] = "bfloat16", tried.pop(max(tried))
    for candidate in tried.values():
        candidate.close()
    found: dict[str, list[float]] = {side: [] for side in sides}
    perplexities: dict[str, list[float]] = {side: [] for side in sides}
    machine = rates(shape.device)
    for seed in range(max(3, settings.rounds)):
        for side, (_, work) in sides.items():
            speed, held = work(steps, seed)
            found[side].append(speed)
            perplexities[side].append(held)
            say(
                f"  fit-cpu-small · {side}, seed {seed}: {speed:,.0f} tokens/s, perplexity {perplexities[side][-1]:.4g}"
            )
    for _, work in sides.values():
        work.close()
    values = {side: median(speeds) for side, speeds in found.items()}
    limits = {
        name: rate / operations(model_of(shape, POSITIONS, 0), POSITIONS) for name, rate in machine.products.items()
    }
    for side, (precision, _) in sides.items():
        share = values[side] / limits[precision]
        yield Row("fit-cpu-small", side, values[side], "tokens/s", values["ours"] / values[side], precision, share)
    for precision, limit in limits.items():
        yield Row("fit-cpu-small", "roofline", limit, "tokens/s", None, precision)
    for side, (precision, _) in sides.items():
        mean = fmean(perplexities[side])
        say(f"  fit-cpu-small · {side}: perplexity {mean:.4g} ± {stdev(perplexities[side]):.2g} over seeds")
        ratio = fmean(perplexities["ours"]) / mean
        yield Row("fit-cpu-small", f"{side}: held-out perplexity", mean, "", ratio, precision)


def vocabulary_50k(settings: Settings) -> Iterator[Row]:
    """Memory that a fit takes on top of model and data, in processes of their own."""
    found: dict[str, list[float]] = {}
    for _ in range(settings.rounds):
        for side in ("ours", "trainer", "trainer-bf16"):
            command = [sys.executable, str(Path(__file__).with_name("fit_child.py")), side]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.setdefault(side, []).append(json.loads(done.stdout.splitlines()[-1])["peak"] / 2**20)
            say(f"  fit-cpu-50k-vocabulary · {side}: {found[side][-1]:,.0f} MiB")
    values = {side: median(peaks) for side, peaks in found.items()}
    for side, value in values.items():
        precision = "float32" if side == "trainer" else "bfloat16"
        yield Row("fit-cpu-50k-vocabulary", side, value, "MiB", values["ours"] / value, precision)


def large(settings: Settings) -> Iterator[Row]:
    """GPT-2 small's shape on a GPU: the share of the matrix rate."""
    if not torch.cuda.is_available():
        say("  fit-gpu-124m: skipped (no GPU)")
        return
    shape = GPT2(prompt=1, new=1, beams=None, documents=1, device="cuda")
    work = partial(ours, shape, "bfloat16", max(4, round(60 * settings.size)), batch=32, positions=1024)
    machine: Machine = rates("cuda")
    value = median(work(seed)[0] for seed in range(settings.rounds))
    limit = machine.products["bfloat16"] / operations(model_of(shape, 1024, 0), 1024)
    yield Row("fit-gpu-124m", "ours", value, "tokens/s", 1.0, "bfloat16", value / limit)


CASES = {"fit-cpu-small": small, "fit-cpu-50k-vocabulary": vocabulary_50k, "fit-gpu-124m": large}
