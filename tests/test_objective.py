"""The loss of a fit and its gradients: those of the module itself, and never all logits at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, linear
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from lmcollapse.substrates.causal_lm import objective
from lmcollapse.substrates.causal_lm.blocks import IGNORED
from lmcollapse.substrates.causal_lm.objective import LinearCrossEntropy, Objective
from tests.tiny import SHAPES, Shape, tiny_module


def batch(rows: int = 5, positions: int = 30, vocabulary: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(3, vocabulary, (rows, positions + 1), generator=torch.Generator().manual_seed(0))
    labels = ids[:, 1:].clone()
    labels[0, :7] = IGNORED
    labels[3] = IGNORED
    return ids[:, :-1], labels


def without_dropout(shape: Shape, **options: Any) -> PreTrainedModel:
    module: PreTrainedModel = tiny_module(shape, **options)
    module.train()
    for rate in ("resid_pdrop", "embd_pdrop", "attn_pdrop", "dropout", "attention_dropout"):
        if hasattr(module.config, rate):
            setattr(module.config, rate, 0.0)
    for part in module.modules():
        for rate in ("p", "dropout", "attention_dropout"):
            if isinstance(getattr(part, rate, None), float):
                setattr(part, rate, 0.0)
    return module


def by_the_module(shape: Shape, **precision: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    module = without_dropout(shape).to(**precision)
    inputs, labels = batch()
    loss = cross_entropy(module(inputs).logits.flatten(0, 1), labels.flatten(), reduction="sum")
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), [p.grad for p in module.parameters() if p.grad is not None]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize("kind", ["known", "unknown"])
def test_loss_and_gradients_are_those_of_the_module(
    shape: Shape, lean: bool, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "LOGITS", 300 * 64)  # several parts
    if kind == "unknown":
        monkeypatch.setattr(objective, "PLAIN_HEADS", ())
        monkeypatch.setattr("lmcollapse.substrates.causal_lm.shapes.PLAIN_HEADS", ())
    expected, gradients = by_the_module(shape, dtype=torch.float64)
    module = without_dropout(shape).double()
    found = Objective(module, torch.float64, lean=lean)
    assert (found.network is not None) == (lean and kind == "known")
    loss = found(*batch())
    loss.backward()
    # without the network autocast knows no float64, and torch's loss of logits is in float32
    tolerance: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9} if kind == "known" else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(loss.detach().double(), expected, **tolerance)
    for mine, theirs in zip((p.grad for p in module.parameters() if p.grad is not None), gradients, strict=True):
        torch.testing.assert_close(mine, theirs, **tolerance)


@pytest.mark.parametrize("shape", SHAPES)
def test_in_bfloat16_it_is_nearly_the_same(shape: Shape) -> None:
    expected, gradients = by_the_module(shape, dtype=torch.float32)
    for lean in (True, False):
        module = without_dropout(shape)
        loss = Objective(module, torch.bfloat16, lean=lean)(*batch())
        loss.backward()
        assert loss.item() == pytest.approx(float(expected), rel=2e-3)
        mine = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
        theirs = torch.cat([gradient.flatten() for gradient in gradients])
        assert torch.nn.functional.cosine_similarity(mine, theirs, 0) > 0.99
        assert mine.dtype == torch.float32


def test_with_dropout_the_module_itself_is_used() -> None:
    module = without_dropout("gpt2")
    assert Objective(module, torch.float32, lean=True).network is not None
    module.config.resid_pdrop = 0.1
    assert Objective(module, torch.float32, lean=True).network is None


@pytest.mark.parametrize("rows", [1, 63, 64, 200])
def test_a_linear_layer_and_cross_entropy_in_one(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective, "LOGITS", 0)  # parts of 64 rows
    torch.manual_seed(0)
    states = torch.randn(rows, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(40, 6, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 40, (rows,))
    found = LinearCrossEntropy.apply(states, weight, labels, torch.float64) * 3  # type: ignore[no-untyped-call]
    expected = cross_entropy(linear(states, weight), labels, reduction="sum") * 3
    torch.testing.assert_close(found, expected)
    mine, theirs = (torch.autograd.grad(loss, (states, weight)) for loss in (found, expected))
    torch.testing.assert_close(mine, theirs)


def test_all_logits_are_never_there_at_once() -> None:
    class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
        values = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            if isinstance(found, torch.Tensor):
                self.values = max(self.values, found.numel())
            return found

    vocabulary = 50_000
    module = without_dropout("gpt2", vocabulary=vocabulary)
    inputs, labels = batch(40, 60, vocabulary)
    with Largest() as largest:  # type: ignore[no-untyped-call]
        Objective(module, torch.float32, lean=True)(inputs, labels).backward()
    assert largest.values < 0.1 * inputs.numel() * vocabulary
