"""Scoring: lm-evaluation-harness's own number, every token once, and the perplexity of any model on any file."""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lmcollapse.evaluate import evaluate
from lmcollapse.parquet import read_scores, write_scores
from lmcollapse.substrates.causal_lm import score as score_module
from lmcollapse.substrates.causal_lm.blocks import tokenize
from lmcollapse.substrates.causal_lm.models import TRAINED_POSITIONS, LanguageModel, boundaries, load_pretrained
from lmcollapse.substrates.causal_lm.options import ComputeOptions, ModelOptions, ScoringOptions
from lmcollapse.substrates.causal_lm.score import score, window_size, windows_of
from lmcollapse.types import HUMAN, Corpus, Scores, Silent, UserError
from tests.text import documents
from tests.tiny import SHAPES, Shape, tiny, tiny_module

COMPUTE = ComputeOptions(device="cpu", threads=1)
WINDOW = 16


@pytest.fixture(scope="module", params=SHAPES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    shape: Shape = request.param
    return load_pretrained(ModelOptions(name=str(tiny(shape, tmp_path_factory.mktemp(shape)))))


def scored(model: LanguageModel, corpus: Corpus, **options: Any) -> Scores:
    return score(model, corpus, ScoringOptions(**{"window": WINDOW, **options}), COMPUTE, Silent())


def texts_of_lengths(model: LanguageModel, lengths: list[int]) -> list[str]:
    """Texts that have so many tokens, whether tokenized before or after they were text."""
    [ids] = tokenize(model.tokenizer, [documents(1, 200)[0]])
    return [str(model.tokenizer.decode(ids[:length])) for length in lengths]


def test_perplexity_is_that_of_lm_evaluation_harness(model: LanguageModel) -> None:
    pytest.importorskip("lm_eval", reason="the test extra brings lm-eval")
    from lm_eval.api.instance import Instance  # type: ignore[import-untyped]
    from lm_eval.models.huggingface import HFLM  # type: ignore[import-untyped]

    lengths = [1, 2, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW - 1, 2 * WINDOW, 2 * WINDOW + 1, 5 * WINDOW + 7]
    texts = texts_of_lengths(model, lengths)
    # add_bos_token: theirs would score the BOS that OPT's tokenizer adds as if it were text
    theirs = HFLM(pretrained=model.module, tokenizer=model.tokenizer, max_length=WINDOW, add_bos_token=False)
    requests = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in texts]
    expected = -np.array(theirs.loglikelihood_rolling(requests, disable_tqdm=True))

    ours = scored(model, Corpus.of_tokens(tokenize(model.tokenizer, texts), HUMAN, texts=texts))
    assert ours.tokens.tolist() == lengths
    np.testing.assert_allclose(ours.nats, expected, rtol=2e-6)


def test_disjoint_windows_are_scored_each_by_itself(model: LanguageModel) -> None:
    tokens = np.random.default_rng(0).integers(3, 300, 2 * WINDOW + 5)
    prefixed = np.insert(tokens, 0, boundaries(model.tokenizer)[0])
    nats = 0.0
    for start in range(0, len(tokens), WINDOW):
        block = torch.tensor(prefixed[start : start + WINDOW + 1])[None]
        with torch.no_grad():
            logs = model.module(block[:, :-1]).logits.log_softmax(-1)
        nats -= float(logs.gather(2, block[:, 1:, None]).double().sum())
    found = scored(model, Corpus.of_tokens([tokens], 0), windows="disjoint")
    assert found.nats[0] == pytest.approx(nats, rel=1e-6)
    assert found.nats[0] != pytest.approx(scored(model, Corpus.of_tokens([tokens], 0)).nats[0], rel=1e-6)


@pytest.mark.parametrize("kind", ["rolling", "disjoint"])
@pytest.mark.parametrize("size", [1, 4, 7])
def test_windows_score_every_token_once_and_are_no_longer_than_asked(kind: Any, size: int) -> None:
    for tokens in range(0, 25):
        windows = list(windows_of(0, tokens, size, kind))
        assert [t for w in windows for t in range(w.first, w.stop)] == list(range(tokens))
        assert all(0 <= w.start <= w.first and w.stop - w.start <= size for w in windows)
        if kind == "rolling":
            assert all(w.stop - w.start == min(size, tokens) for w in windows), "every window is of full size"


def test_scores_do_not_depend_on_batches_or_neighbours(model: LanguageModel) -> None:
    rng = np.random.default_rng(1)
    rows = [rng.integers(3, 300, n) for n in (5, 40, 0, 16, 3, 33)]
    together = scored(model, Corpus.of_tokens(rows, 0), batch_size=4)
    alone = [scored(model, Corpus.of_tokens([row], 0), batch_size=1).nats[0] for row in rows]
    np.testing.assert_allclose(together.nats, alone, rtol=1e-6)
    assert together.tokens.tolist() == [5, 40, 0, 16, 3, 33] and together.nats[2] == 0


@pytest.mark.parametrize("kind", ["rolling", "disjoint"])
def test_predictions_are_those_of_every_token_in_its_place(model: LanguageModel, kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [rng.integers(3, 300, n) for n in (5, 40, 0, 16, 3, 33)]
    corpus = Corpus.of_tokens(rows, 0)
    found = score(model, corpus, ScoringOptions(window=WINDOW, windows=kind), COMPUTE, Silent(), by_token=True)  # type: ignore[arg-type]
    assert found.by_token is not None and corpus.offsets is not None
    by_row = [float(found.by_token.nats[a:b].astype(float).sum()) for a, b in pairwise(corpus.offsets)]
    np.testing.assert_allclose(by_row, found.nats, rtol=1e-5)
    # one row by hand: a window of its first tokens predicts them, whatever the kind
    first = torch.tensor(np.insert(rows[1], 0, boundaries(model.tokenizer)[0])[: WINDOW + 1])[None]
    with torch.no_grad():
        logits = model.module(first[:, :-1]).logits[0]
    start = int(corpus.offsets[1])
    here = slice(start, start + WINDOW)
    np.testing.assert_allclose(found.by_token.confidence[here], logits.softmax(-1).max(-1)[0].numpy(), rtol=1e-4)
    assert found.by_token.correct[here].tolist() == (logits.argmax(-1) == first[0, 1:]).tolist()
    nats = -logits.log_softmax(-1).gather(1, first[0, 1:, None])[:, 0]
    np.testing.assert_allclose(found.by_token.nats[here], nats.numpy(), rtol=1e-4)

    write_scores(found, tmp_path / "scores.parquet")
    back = read_scores(tmp_path / "scores.parquet")
    assert back.nats.tolist() == found.nats.tolist() and back.by_token is not None
    for name in ("nats", "confidence", "correct"):
        assert getattr(back.by_token, name).tolist() == getattr(found.by_token, name).tolist()


def test_the_head_is_applied_in_parts_with_the_same_result(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = Corpus.of_tokens([np.arange(3, 43)] * 5, 0)
    parts = scored(model, corpus).nats
    monkeypatch.setattr(score_module, "PLAIN_HEADS", ())  # the module's own logits, as for unknown kinds of models
    np.testing.assert_allclose(scored(model, corpus).nats, parts, rtol=1e-6)
    monkeypatch.undo()
    monkeypatch.setattr(score_module, "HEAD_VALUES", 700)
    np.testing.assert_allclose(scored(model, corpus).nats, parts, rtol=1e-6)


def test_memory_that_runs_out_halves_the_batch(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Corpus.of_tokens([np.arange(3, 43)] * 5, 0)
    whole = scored(model, corpus)
    used = "lmcollapse.substrates.causal_lm.score._predictions"
    predictions = score_module._predictions

    def small(module: Any, inputs: torch.Tensor, *rest: Any) -> Any:
        if len(inputs) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return predictions(module, inputs, *rest)

    monkeypatch.setattr(used, small)
    np.testing.assert_allclose(scored(model, corpus, batch_size=8).nats, whole.nats, rtol=1e-6)
    monkeypatch.setattr(used, lambda *_, **__: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    with pytest.raises(UserError, match="not even a batch of one"):
        scored(model, corpus)


def test_the_window_is_what_was_trained_unless_asked() -> None:
    config = tiny_module("gpt2").config
    assert window_size(config, ScoringOptions()) == 64
    setattr(config, TRAINED_POSITIONS, 24)
    assert window_size(config, ScoringOptions()) == 24
    assert window_size(config, ScoringOptions(window=50)) == 50
    with pytest.raises(UserError, match=r"scoring\.window needs 65 positions and the model can read 64"):
        window_size(config, ScoringOptions(window=65))


def test_evaluate_a_text_file(tmp_path: Path) -> None:
    folder, text = tiny("opt", tmp_path / "opt"), tmp_path / "text.txt"
    content = documents(1, 300)[0] + "\r\n\r\nÄrger, <|endoftext|></s>\n"
    text.write_bytes(content.encode())
    found = evaluate(str(folder), text, device="cpu")
    assert json.loads(json.dumps(found)) == found
    model = load_pretrained(ModelOptions(name=str(folder)))
    ids = list(tokenize(model.tokenizer, [content]))
    assert 2 not in ids[0], "special tokens are not read out of a text"
    assert found["tokens"] == len(ids[0]) and found["window"] == 64 and found["documents"] == 1
    assert found["bytes"] == text.stat().st_size == len(content) + 1
    assert found["nats"] == pytest.approx(scored(model, Corpus.of_tokens(ids, HUMAN), window=64).nats[0])
    assert found["perplexity"] == pytest.approx(math.exp(found["nats"] / found["tokens"]))
    assert found["bits_per_byte"] == pytest.approx(found["nats"] / math.log(2) / found["bytes"])
    assert found["word_perplexity"] == pytest.approx(math.exp(found["nats"] / len(re.split(r"\s+", content))))
    assert 0 <= found["next_token_accuracy"] <= 1 and 0 <= found["expected_calibration_error"] <= 1
    bands = evaluate(str(folder), text, reference=text, device="cpu")
    assert bands["cross_entropy_head"] != bands["cross_entropy_tail"] and {*found} < {*bands}
    assert evaluate(str(folder), text, window=8, windows="disjoint", device="cpu")["nats"] != found["nats"]


def test_a_text_that_cannot_be_scored_is_refused(tmp_path: Path) -> None:
    folder = str(tiny("gpt2", tmp_path / "gpt2"))
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin.txt").write_bytes("Ärger".encode("latin-1"))
    (tmp_path / "good.txt").write_text("ba do")
    for name, message in (("empty.txt", "empty"), ("latin.txt", "not UTF-8"), ("no.txt", "cannot be read")):
        with pytest.raises(UserError, match=f"{name}.*{message}"):
            evaluate(folder, tmp_path / name)
    with pytest.raises(UserError, match="nowhere"):
        evaluate(str(tmp_path / "nowhere"), tmp_path / "good.txt")
    with pytest.raises(UserError, match="can read 64"):
        evaluate(folder, tmp_path / "good.txt", window=65, device="cpu")
    with pytest.raises(UserError, match="'tpu9'"):
        evaluate(folder, tmp_path / "good.txt", device="tpu9")
