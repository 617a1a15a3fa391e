"""Rows to blocks, blocks to a fitted model: every token once, equal bytes, what happens when things go wrong."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from lmcollapse.substrates.causal_lm import CausalLM
from lmcollapse.substrates.causal_lm import fit as fitting
from lmcollapse.substrates.causal_lm.blocks import IGNORED, encode, tokenize, training_blocks
from lmcollapse.substrates.causal_lm.fit import fit
from lmcollapse.substrates.causal_lm.models import read_tokenizer
from lmcollapse.substrates.causal_lm.objective import Objective
from lmcollapse.substrates.causal_lm.options import ComputeOptions, ModelOptions, TrainOptions
from lmcollapse.types import HUMAN, Corpus, Diverged, Documents, Human, Silent, UserError
from tests.tiny import human, tiny, tiny_module

BOS, EOS = 1, 2
FLOAT32 = ComputeOptions(device="cpu", precision="float32", threads=1)
TEXT = human()


def rows(*lengths: int, ended: bool = True) -> Corpus:
    """Rows in which every token but EOS is another."""
    tokens = iter(range(3, 10_000))
    return Corpus.of_tokens([[next(tokens) for _ in range(n - ended)] + [EOS] * ended for n in lengths], HUMAN)


def pairs(corpus: Corpus, options: TrainOptions, bos: int = BOS, seed: int = 0) -> tuple[Any, Any]:
    blocks = training_blocks(corpus, options, bos, EOS, seed)
    assert blocks.inputs.shape == blocks.labels.shape
    return blocks.inputs, blocks.labels


# blocks


def test_a_block_predicts_all_its_tokens_from_bos() -> None:
    inputs, labels = pairs(rows(4, 4), TrainOptions(block_size=4))
    assert inputs.tolist() == [[BOS, 3, 4, 5], [BOS, 6, 7, 8]] and labels.tolist() == [[3, 4, 5, EOS], [6, 7, 8, EOS]]


def test_without_bos_the_first_token_is_only_read() -> None:
    inputs, labels = pairs(rows(4, 4), TrainOptions(block_size=4, bos=False))
    assert inputs.tolist() == [[3, 4, 5], [6, 7, 8]] and labels.tolist() == [[4, 5, EOS], [7, 8, EOS]]


def test_rows_of_another_length_are_laid_end_to_end() -> None:
    _, labels = pairs(rows(3, 4, 2, 6, ended=False), TrainOptions(block_size=4))
    assert labels.tolist() == [[6, 7, 8, 9], [3, 4, 5, 10], [11, 12, 13, 14]]  # 15 to 17 fill no block
    with pytest.raises(UserError, match=r"9 tokens do not fill one block of train\.block_size 10"):
        pairs(rows(3, 6), TrainOptions(block_size=10))


@pytest.mark.parametrize("bos", [BOS, EOS])
@pytest.mark.parametrize("ended", [True, False])
def test_documents_predict_each_token_once_from_what_stands_before_it(bos: int, ended: bool) -> None:
    corpus = rows(5, 3, 9, 2, 7, ended=ended)
    inputs, labels = pairs(corpus, TrainOptions(unit="document", block_size=6), bos)
    trained = labels[labels != IGNORED].tolist()
    # each document's BOS is predicted too where it says that the one before has ended
    extra = 4 if ended and bos != EOS else 0
    assert Counter(trained) == Counter(corpus.values.tolist()) + Counter({bos: extra})
    assert (inputs.ravel()[1:] == labels.ravel()[:-1])[labels.ravel()[:-1] != IGNORED].all(), "a label is read next"
    before = dict(zip(labels.ravel().tolist(), inputs.ravel().tolist(), strict=True))
    for row in range(len(corpus)):
        first, *rest = corpus.tokens(row).tolist()
        assert before[first] == bos
        for a, b in zip([first, *rest], rest, strict=False):
            assert b == EOS or before[b] == a


def test_a_document_that_was_cut_short_is_not_learned_to_end() -> None:
    _, labels = pairs(rows(5, 5, ended=False), TrainOptions(unit="document", block_size=11), EOS)
    assert (
        labels == IGNORED
    ).sum() == 1 and EOS not in labels  # BOS is EOS: predicted, it would say that texts end here


def test_no_token_is_doubled_where_eos_is_bos() -> None:
    inputs, _ = pairs(rows(5, 5), TrainOptions(unit="document", block_size=10), EOS)
    assert (inputs == EOS).sum() == 2 and not ((inputs[:, 1:] == EOS) & (inputs[:, :-1] == EOS)).any()


def test_documents_are_laid_in_another_order_for_another_seed() -> None:
    options = TrainOptions(unit="document", block_size=6)
    orders = [pairs(rows(5, 3, 9, 2, 7), options, seed=seed)[1].tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


# human text as rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny("llama", tmp_path_factory.mktemp("hub") / "llama")


def test_human_text_as_blocks(folder: Path) -> None:
    tokenizer = read_tokenizer(ModelOptions(name=str(folder)))
    train, heldout = encode(tokenizer, TEXT, TrainOptions(block_size=16))
    stream = [token for ids in tokenize(tokenizer, TEXT.train.texts) for token in [*ids, EOS]]
    assert set(train.lengths) == {16} and train.values.tolist() == stream[: len(stream) // 16 * 16]
    assert train.texts is not None and TEXT.train.texts[0].startswith(train.texts[0])
    joined = next(text for row, text in enumerate(train.texts) if EOS in train.tokens(row)[1:-1])
    assert "\n\n" in joined and "</s>" not in joined
    assert heldout.texts == TEXT.heldout.texts and heldout.sources == TEXT.heldout.sources
    assert EOS not in heldout.values and len(heldout) == len(TEXT.heldout)


def test_human_text_as_documents(folder: Path) -> None:
    tokenizer = read_tokenizer(ModelOptions(name=str(folder)))
    train, _ = encode(tokenizer, TEXT, TrainOptions(unit="document"))
    assert len(train) == len(TEXT.train) and train.texts == TEXT.train.texts and train.sources == TEXT.train.sources
    assert train.tokens(3).tolist() == [*next(tokenize(tokenizer, [TEXT.train.texts[3]])), EOS]


def test_text_that_is_too_little_is_refused(folder: Path) -> None:
    tokenizer = read_tokenizer(ModelOptions(name=str(folder)))
    some, none = Documents(["ba do"], ["a"]), Documents([], [])
    for parts, message in (((none, some), "training part"), ((some, none), "held-out part"), ((some, some), "fill")):
        with pytest.raises(UserError, match=message):
            encode(tokenizer, Human(*parts), TrainOptions(block_size=64))


# the fit


RECORD = {"step", "tokens", "loss", "learning_rate", "gradient_norm", "tokens_per_second", "utilisation"}


def fitted(seed: int = 0, compute: ComputeOptions = FLOAT32, **options: Any) -> tuple[Any, list[dict[str, float]]]:
    module = tiny_module("llama", vocabulary=60)
    given = TrainOptions(**{"block_size": 8, "batch_size": 4, "epochs": 3, "learning_rate": 1e-2, **options})
    corpus = Corpus.of_tokens([[(i + j) % 50 for j in range(8)] for i in range(30)], HUMAN)
    history = fit(module, training_blocks(corpus, given, BOS, EOS, 0), given, compute, seed, Silent())
    return module, history


def same(a: Any, b: Any, **tolerance: Any) -> bool:
    return all(torch.allclose(x, y, **tolerance) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_a_fit_learns() -> None:
    module, history = fitted(epochs=30)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert not module.training


def test_history_follows_steps_and_schedule() -> None:
    for options, steps in (
        ({"epochs": 3}, 24),
        ({"epochs": 0.5}, 4),
        ({"epochs": 3, "steps": 7}, 7),
        ({"epochs": 0.01}, 1),
    ):
        _, history = fitted(**options)
        assert [record["step"] for record in history] == list(range(1, steps + 1))
    assert history[0].keys() == RECORD
    assert fitted(epochs=1)[1][-1]["tokens"] == 30 * 8
    rates = {
        s: [r["learning_rate"] for r in fitted(schedule=s, warmup=0.25)[1]] for s in ("constant", "linear", "cosine")
    }
    assert all(rate[0] == 0 and max(rate) == rate[6] == 1e-2 for rate in rates.values())
    assert rates["constant"][-1] == 1e-2
    assert rates["linear"][15] == pytest.approx(1e-2 * (24 - 15) / 18)
    assert rates["cosine"][15] == pytest.approx(1e-2 * (1 + math.cos(math.pi * 9 / 18)) / 2)
    assert len(fitted(steps=501)[1]) <= 200


def test_every_block_is_read_once_an_epoch() -> None:
    batches = fitting._batches(10, 4, seed=0)
    epochs = [[next(batches) for _ in range(3)] for _ in range(2)]
    assert [sorted(np.concatenate(epoch)) for epoch in epochs] == [list(range(10))] * 2
    assert np.concatenate(epochs[0]).tolist() != np.concatenate(epochs[1]).tolist()


def test_the_loss_is_a_mean_over_trained_tokens_of_the_batch() -> None:
    module = tiny_module("llama", vocabulary=60)
    corpus = Corpus.of_tokens([[5, 6, 7], [8, 9, 10, 11], [12, 13]], HUMAN)
    options = TrainOptions(unit="document", block_size=6, batch_size=8, steps=1)
    blocks = training_blocks(corpus, options, BOS, EOS, 0)
    with torch.no_grad():
        logits = module(torch.from_numpy(blocks.inputs.astype(np.int64))).logits
    expected = cross_entropy(logits.flatten(0, 1), torch.from_numpy(blocks.labels.astype(np.int64)).flatten())
    [record] = fit(module, blocks, options, FLOAT32, 0, Silent())
    assert record["loss"] == pytest.approx(float(expected), rel=1e-6) and record["tokens"] == 9


def test_only_matrices_decay() -> None:
    module = tiny_module("gpt2")
    optimizer = fitting._optimizer(module, TrainOptions(weight_decay=0.3))
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] == 0.3 for p in group["params"]}
    names = {name for name, p in module.named_parameters() if id(p) in decayed}
    assert names == {
        name for name, _ in module.named_parameters() if name.endswith("weight") and ".h." in name and "ln" not in name
    }
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(module.parameters()))
    assert len(fitting._optimizer(module, TrainOptions(weight_decay=0)).param_groups[0]["params"]) > 0


def test_options_of_the_fit_take_effect() -> None:
    plain, _ = fitted()
    assert same(plain, fitted()[0], rtol=0, atol=0)
    for options in (
        {"seed": 1},
        {"weight_decay": 0.5},
        {"gradient_clip": 0.01},
        {"gradient_clip": None},
        {"batch_size": 5},
    ):
        assert not same(plain, fitted(**options)[0], rtol=1e-5, atol=1e-6), options


def test_in_bfloat16_the_weights_stay_in_float32() -> None:
    module, history = fitted(compute=ComputeOptions(device="cpu", precision="bfloat16", threads=1))
    exact, exactly = fitted()
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert not same(module, exact, rtol=0, atol=0), "bfloat16 takes effect"
    assert module.config._attn_implementation == exact.config._attn_implementation == "sdpa", "as it was before"
    assert history[-1]["loss"] == pytest.approx(exactly[-1]["loss"], rel=0.1)


def test_a_smaller_piece_at_a_time_gives_the_same_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, history = fitted()
    lines: list[str] = []

    class Listening(Silent):
        def say(self, line: str) -> None:
            lines.append(line)

    objective = Objective.forward

    def small(self: Objective, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return objective(self, inputs, labels)

    monkeypatch.setattr(Objective, "forward", small)
    monkeypatch.setattr("tests.test_fit.Silent", Listening)
    pieces, again = fitted()
    assert lines == ["fit: out of memory, going on with batches of 2"]
    assert same(whole, pieces, rtol=1e-4, atol=1e-6)
    assert again[-1]["loss"] == pytest.approx(history[-1]["loss"], rel=1e-5)
    assert same(pieces, fitted(micro_batch_size=2)[0], rtol=0, atol=0)


def test_a_loss_that_is_not_finite_ends_the_fit_and_names_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, calls = Objective.forward, iter(range(100))

    def third(self: Objective, *given: torch.Tensor) -> torch.Tensor:
        return objective(self, *given) * (math.nan if next(calls) == 2 else 1)

    monkeypatch.setattr(Objective, "forward", third)
    with pytest.raises(Diverged, match="its loss is nan at step 3"):
        fitted()
    with pytest.raises(Diverged, match=r"at step \d+; lower train.learning_rate"):
        fitted(learning_rate=1e18, gradient_clip=None, warmup=0)


PROGRAM = """
import sys
from pathlib import Path
from tests.test_fit import scratch_fit
scratch_fit(Path(sys.argv[1]))
"""


def scratch_fit(folder: Path) -> None:
    """A scratch model prepared, fitted and saved, with dropout and in the precision of this machine."""
    lm = CausalLM.model_validate(
        {
            "model": {"layers": 2, "width": 32, "heads": 2, "vocabulary": 300, "dropout": 0.1},
            "train": {"block_size": 32, "epochs": 1, "batch_size": 8},
            "compute": {"device": "cpu", "threads": 2},
        }
    ).decide()
    for name in ("base", "model"):
        (folder / name).mkdir(parents=True)
    lm.prepare(TEXT, folder / "base", seed=1)
    train, _ = lm.encode(folder / "base", TEXT)
    lm.save(lm.fit(folder / "base", train, "scratch", None, 2, Silent()), folder / "model")


def test_two_processes_fit_to_the_same_bytes(tmp_path: Path) -> None:
    scratch_fit(tmp_path / "here")
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "there")], check=True, cwd=root, capture_output=True)
    files = sorted(file.relative_to(tmp_path / "here") for file in (tmp_path / "here").rglob("*.*"))
    assert {file.name for file in files} >= {"model.safetensors", "config.json", "tokenizer.json", "fit.jsonl"}
    for file in files:
        if file.name == "fit.jsonl":
            continue  # says how long it took
        assert (tmp_path / "here" / file).read_bytes() == (tmp_path / "there" / file).read_bytes(), file
    records = [json.loads(line) for line in (tmp_path / "here/model/fit.jsonl").read_text().splitlines()]
    assert records[0].keys() == RECORD
