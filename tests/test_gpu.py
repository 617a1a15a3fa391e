"""What only a GPU can show: captured and replayed steps write what a CPU writes. Skipped where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lmcollapse.substrates.causal_lm import sample
from lmcollapse.substrates.causal_lm.models import LanguageModel, load_pretrained
from lmcollapse.substrates.causal_lm.options import ComputeOptions, ModelOptions, SamplingOptions, TrainOptions
from lmcollapse.types import Silent
from tests.tiny import SHAPES, Shape, tiny

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

DECODERS: list[dict[str, Any]] = [
    {},
    {"top_k": 20, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2},
    {"decoder": "greedy"},
    {"decoder": "beam", "beams": 5},
]


def written(model: LanguageModel, device: str, options: dict[str, Any], precision: str) -> list[list[int]]:
    given = {"new_tokens": 50, "until_eos": False, "batch_size": 32, **options}
    settled = SamplingOptions(**given).settled(TrainOptions())
    prompts = np.random.default_rng(0).integers(3, 280, (100, 6))
    compute = ComputeOptions(device=device, precision=precision)  # type: ignore[arg-type]
    writer = sample.Writer(model, prompts, settled, compute, 5, Silent())
    return [row.tolist() for row in writer.write(range(100), lambda tokens: None)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", DECODERS, ids=str)
@pytest.mark.parametrize("until_eos", [False, True])
def test_captured_steps_write_what_a_cpu_writes(
    shape: Shape, options: dict[str, Any], until_eos: bool, tmp_path: Path
) -> None:
    model = load_pretrained(ModelOptions(name=str(tiny(shape, tmp_path / shape, vocabulary=280))))
    model.module.double()
    options = {**options, "until_eos": until_eos}
    assert written(model, "cuda", options, "float32") == written(model, "cpu", options, "float32")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_writes_documents_of_the_same_lengths(precision: str, tmp_path: Path) -> None:
    model = load_pretrained(ModelOptions(name=str(tiny("gpt2", tmp_path / "gpt2", vocabulary=280))))
    rows = written(model, "cuda", {"precision": precision}, "float32")
    assert [len(row) for row in rows] == [50] * 100
    assert all(0 <= token < 280 for row in rows for token in row)
