"""Fits that are interrupted, validated, adapted or too large: where they end, and what they leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lmcollapse.substrates.causal_lm import CausalLM
from lmcollapse.substrates.causal_lm import fit as fitting
from lmcollapse.substrates.causal_lm.blocks import Blocks, training_blocks
from lmcollapse.substrates.causal_lm.fit import fit
from lmcollapse.substrates.causal_lm.options import TrainOptions
from lmcollapse.types import HUMAN, Corpus, Silent, UserError
from lmcollapse.verify.same import TIMES
from tests.test_fit import BOS, EOS, FLOAT32, same
from tests.tiny import SHAPES, Shape, tiny_module


def blocks(options: TrainOptions, noise: int = 0) -> Blocks:
    rng = np.random.default_rng(0)
    rows = [[(i + j + int(rng.integers(0, noise + 1))) % 50 for j in range(8)] for i in range(40)]
    return training_blocks(Corpus.of_tokens(rows, HUMAN), options, BOS, EOS, 0)


def fitted(shape: Shape = "gpt2", bench: Path | None = None, noise: int = 0, **options: Any) -> tuple[Any, Any]:
    module = tiny_module(shape, vocabulary=60)
    given = TrainOptions(**{"block_size": 8, "batch_size": 4, "epochs": 3, "learning_rate": 1e-2, **options})
    return module, fit(module, blocks(given, noise), given, FLOAT32, 5, Silent(), bench)


def without_times(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in record.items() if k not in TIMES} for record in history]


class Killed(BaseException):
    """Stands for a signal."""


def killed_at(step: int, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    gradients, calls = fitting._gradients, []

    def bomb(*given: Any) -> float:
        calls.append(1)
        if len(calls) == step:
            raise Killed
        return gradients(*given)

    with monkeypatch.context() as patched:
        patched.setattr(fitting, "_gradients", bomb)
        with pytest.raises(Killed):
            fitted(**options)


@pytest.mark.parametrize("more", [{}, {"validation": 0.2, "validation_steps": 3}, {"dropout": True}], ids=str)
def test_a_killed_fit_goes_on_from_its_state_to_the_same_end(
    more: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if more.pop("dropout", False):
        make = tiny_module
        monkeypatch.setattr("tests.test_long_fits.tiny_module", lambda *a, **o: with_dropout(make(*a, **o)))
    whole, history = fitted(**more)
    options = {"bench": tmp_path, "checkpoint_steps": 4, **more}
    killed_at(11, monkeypatch, **options)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["fit.json", "fit_000000008.safetensors"]
    killed_at(7, monkeypatch, **options)  # steps 9 to 14
    assert (tmp_path / "fit_000000012.safetensors").is_file()
    again, at_last = fitted(**options)
    assert same(whole, again, rtol=0, atol=0)
    assert without_times(at_last) == without_times(history)


def with_dropout(module: Any) -> Any:
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.2
    module.config.resid_pdrop = 0.2
    return module


def test_a_damaged_state_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = fitted()
    killed_at(11, monkeypatch, bench=tmp_path, checkpoint_steps=4)
    [state] = tmp_path.glob("*.safetensors")
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    assert same(whole, fitted(bench=tmp_path)[0], rtol=0, atol=0)


def test_a_record_of_a_state_that_was_changed_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a bit that makes another digit of a step, a loss or a name."""
    whole, history = fitted()
    killed_at(11, monkeypatch, bench=tmp_path, checkpoint_steps=4)
    record = tmp_path / "fit.json"
    content = record.read_bytes()
    for there, other in ((b'"step": 8', b'"step": 9'), (b'"tokens": ', b'"tokens": 1'), (b"fit_0", b"../fit_0")):
        assert there in content
        record.write_bytes(content.replace(there, other, 1))
        again, at_last = fitted(bench=tmp_path)
        assert same(whole, again, rtol=0, atol=0) and without_times(at_last) == without_times(history)


def test_the_state_is_kept_by_time_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_at(20, monkeypatch, bench=tmp_path, checkpoint_minutes=1e-9)
    assert (tmp_path / "fit_000000016.safetensors").is_file()


def test_the_weights_that_validate_best_are_kept() -> None:
    """On noise a fit that goes on learns its training blocks by heart and gets worse on others."""
    options: dict[str, Any] = {"noise": 40, "validation": 0.25, "epochs": 40, "schedule": "constant"}
    _, history = fitted(**options)
    looks = [record["validation_loss"] for record in history if "validation_loss" in record]
    assert looks[-1] > min(looks) + 0.1
    best = looks.index(min(looks))
    module, _ = fitted(**options)
    given = TrainOptions(block_size=8, validation=0.25)
    _, held = fitting._parts(blocks(given, 40), given, 5)
    with torch.no_grad():
        logits = module(torch.from_numpy(held.inputs.astype(np.int64))).logits
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), torch.from_numpy(held.labels.astype(np.int64)).flatten()
        )
    assert float(loss) == pytest.approx(min(looks), rel=1e-5)
    stopped = fitted(**options, patience=2)[1]
    assert [record["validation_loss"] for record in stopped if "validation_loss" in record] == looks[: best + 3]


def test_a_validation_part_is_not_trained_on_and_must_be_one() -> None:
    given = TrainOptions(block_size=8, validation=0.25)
    train, held = fitting._parts(blocks(given), given, 5)
    assert len(train) == 30 and len(held) == 10
    assert not {row.tobytes() for row in train.inputs} & {row.tobytes() for row in held.inputs}
    with pytest.raises(UserError, match="0 of 40 blocks"):
        fitted(validation=0.001)


def test_the_loss_of_the_last_tokens_alone() -> None:
    _, history = fitted(loss_tokens=2, epochs=1)
    assert history[-1]["tokens"] == 40 * 2


@pytest.mark.parametrize("shape", SHAPES)
def test_checkpointed_activations_give_the_same_fit(shape: Shape) -> None:
    plain, _ = fitted(shape, epochs=1)
    again, _ = fitted(shape, epochs=1, gradient_checkpointing=True)
    assert same(plain, again, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_low_rank_updates_are_added_to_the_weights(shape: Shape, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    before = dict(tiny_module(shape, vocabulary=60).named_parameters())
    module, history = fitted(shape, lora_rank=2, epochs=10)
    after = dict(module.named_parameters())
    assert after.keys() == before.keys() and history[-1]["loss"] < history[0]["loss"]
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and not any("emb" in name or "wte" in name or "wpe" in name for name in changed)
    for name in changed:
        assert torch.linalg.matrix_rank(after[name] - before[name], atol=1e-5) <= 2
    module.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("adapter*"))


def test_low_rank_updates_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    whole, _ = fitted(lora_rank=2)
    killed_at(11, monkeypatch, bench=tmp_path, checkpoint_steps=4, lora_rank=2)
    assert same(whole, fitted(bench=tmp_path, lora_rank=2)[0], rtol=0, atol=0)


def test_packages_that_are_missing_are_named_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmcollapse.substrates.causal_lm.options.find_spec", lambda name: None)
    for options, package in (({"lora_rank": 2}, "peft"), ({"trackers": ["wandb"]}, "wandb")):
        with pytest.raises(UserError, match=f"needs {package}, which is not installed: pip install {package}"):
            CausalLM.model_validate({"train": options}).check("scratch")


def test_a_tracker_is_told_what_the_record_says(tmp_path: Path) -> None:
    loading = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    bench = tmp_path / "run" / "generation_002" / ".model.bench"
    bench.mkdir(parents=True)
    _, history = fitted(bench=bench, epochs=1, trackers=("tensorboard",))
    [folder] = (tmp_path / "run" / "trackers").iterdir()
    assert folder.name == "run-generation_002"
    events = loading.EventAccumulator(str(folder))
    events.Reload()
    shown = [event.value for event in events.Scalars("loss")]
    assert shown == pytest.approx([record["loss"] for record in history])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patience": 2}, "train.patience has no effect without a validation part"),
        ({"lora_alpha": 2}, "train.lora_alpha has no effect"),
        ({"loss_tokens": 9, "block_size": 8}, "train.loss_tokens is 9"),
    ],
)
def test_options_without_effect_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CausalLM.model_validate({"train": options}).check("scratch")
    with pytest.raises(UserError, match="tf32, which cpu does not have"):
        CausalLM.model_validate({"compute": {"device": "cpu", "precision": "tf32"}}).check("scratch")
