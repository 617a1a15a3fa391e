"""Language models through the whole loop: folders in the hub's format stand in for hub ids, as the papers use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from lmcollapse.config import parse
from lmcollapse.evaluate import evaluate
from lmcollapse.loop import run
from lmcollapse.parquet import read_corpus, read_scores
from lmcollapse.types import Corpus
from tests.text import text_file
from tests.tiny import SHAPES, Shape, tiny

NATURE = {
    "train": {"block_size": 16, "bos": False, "epochs": 1, "batch_size": 32, "schedule": "constant"},
    "sampling": {"decoder": "beam", "beams": 2, "prompt": "human", "prompt_tokens": 16, "new_tokens": 16},
}
"""Shumailov et al. 2024 at a quarter of its size: each block prompts as many tokens as it has, by beam search."""


def experiment(tmp_path: Path, model: Path, **sections: Any) -> dict[str, Any]:
    return {
        "generations": 2,
        "start": "base",
        "policy": {"kind": "mix", "human_keep": 0.1},
        "corpus": {"kind": "files", "path": str(text_file(tmp_path / "human.txt")), "train_words": 1500},
        "model": str(model),
        "compute": {"device": "cpu", "precision": "float32"},
        **NATURE,
        **sections,
    }


def corpus_of(out: Path, generation: int) -> Corpus:
    return read_corpus(out / f"generation_{generation:03d}" / "corpus" / "corpus.parquet")


@pytest.mark.parametrize("shape", SHAPES)
def test_the_nature_protocol_with_a_pretrained_folder(shape: Shape, tmp_path: Path) -> None:
    out = run(parse(experiment(tmp_path, tiny(shape, tmp_path / shape))), tmp_path / "run")
    human = read_corpus(out / "rows" / "train.parquet")
    for generation in (0, 1):
        corpus = corpus_of(out, generation)
        assert len(corpus) == len(human) and set(corpus.lengths) == {16}  # the same size every generation
        assert corpus.prompt.tolist() == list(range(len(human)))
    chosen = json.loads((out / "generation_001" / "train" / "step.json").read_text())["facts"]
    kept = round(0.1 * len(human))
    assert chosen["rows"] == len(human) + kept
    assert chosen["human_fraction"] == pytest.approx(kept / chosen["rows"])
    folder = out / "generation_001" / "model"
    AutoModelForCausalLM.from_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder).encode("ba do", add_special_tokens=False)


def test_prompts_may_come_from_the_previous_generation(tmp_path: Path) -> None:
    model = tiny("gpt2", tmp_path / "gpt2")
    outs = []
    for source in ("human", "previous"):
        sampling = {"prompt": source, "prompt_tokens": 8, "new_tokens": 16, "tokens": 800}
        outs.append(run(parse(experiment(tmp_path, model, sampling=sampling)), tmp_path / source))
    first, second = (corpus_of(out, 0) for out in outs)
    assert first.values.tolist() == second.values.tolist()  # what came before generation 0 is the human text
    first, second = (corpus_of(out, 1) for out in outs)
    assert first.values.tolist() != second.values.tolist()


def test_generations_start_where_they_are_told(tmp_path: Path) -> None:
    """One step of Adam moves a weight by the learning rate at most, so the distance tells where a fit began."""
    model, rate = tiny("gpt2", tmp_path / "gpt2"), 0.01
    one_step = {"block_size": 16, "steps": 1, "warmup": 0, "schedule": "constant", "weight_decay": 0}

    def weights(folder: Path) -> npt.NDArray[np.float64]:
        module = AutoModelForCausalLM.from_pretrained(folder)
        return np.concatenate([p.detach().double().numpy().ravel() for p in module.parameters()])

    for start, steps_from_base in (("base", 1), ("previous", 2), ("scratch", None)):
        given = experiment(tmp_path, model, start=start, train={**one_step, "learning_rate": rate})
        out = run(parse(given), tmp_path / start)
        first, second = (weights(out / f"generation_00{g}" / "model") for g in (0, 1))
        moved = np.abs(second - weights(model)).max() / rate
        if steps_from_base is None:
            assert moved > 5 and np.abs(second - first).max() / rate > 5  # other random weights each time
        else:
            assert moved == pytest.approx(steps_from_base, rel=0.05), start


def test_the_recorded_perplexity_is_that_of_evaluate(tmp_path: Path) -> None:
    """What a run writes down, and what `lmcollapse evaluate` finds in the model that it left."""
    out = run(parse(experiment(tmp_path, tiny("llama", tmp_path / "llama"))), tmp_path / "run")
    heldout = read_corpus(out / "rows" / "heldout.parquet")
    scores = read_scores(out / "generation_001" / "scores" / "heldout.parquet")
    assert heldout.texts is not None
    for row in range(2):
        file = tmp_path / "document.txt"
        file.write_text(heldout.texts[row], encoding="utf-8")
        found = evaluate(str(out / "generation_001" / "model"), file, device="cpu")
        assert found["tokens"] == scores.tokens[row]
        assert found["nats"] == pytest.approx(scores.nats[row], rel=1e-5)
    line = json.loads((out / "metrics.jsonl").read_text().splitlines()[1])
    assert line["perplexity"] == pytest.approx(np.exp(scores.nats.sum() / scores.tokens.sum()))


def test_documents_until_they_end(tmp_path: Path) -> None:
    sections = {
        "train": {"unit": "document", "block_size": 32, "epochs": 1},
        "sampling": {"temperature": 0.7, "top_p": 0.9, "tokens": 1000},
    }
    out = run(parse(experiment(tmp_path, tiny("opt", tmp_path / "opt"), **sections)), tmp_path / "run")
    human, corpus = read_corpus(out / "rows" / "train.parquet"), corpus_of(out, 0)
    assert {int(human.tokens(row)[-1]) for row in range(len(human))} == {2}  # </s>
    assert corpus.lengths.max() <= 32 and 1000 <= corpus.lengths.sum() < 1032
    assert all(2 not in corpus.tokens(row)[:-1] for row in range(len(corpus)))
