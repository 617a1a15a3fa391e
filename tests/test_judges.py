"""Judges: models from outside the run, with tokenizers of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lmcollapse.substrates.causal_lm import CausalLM
from lmcollapse.substrates.causal_lm.blocks import tokenize
from lmcollapse.substrates.causal_lm.models import load_pretrained
from lmcollapse.substrates.causal_lm.options import ComputeOptions, ModelOptions, ScoringOptions
from lmcollapse.substrates.causal_lm.score import score
from lmcollapse.types import Corpus, Silent, UserError
from tests.text import documents
from tests.tiny import tiny

CPU = ComputeOptions(device="cpu", threads=1)


def judged_by(*judges: str) -> CausalLM:
    return CausalLM(scoring=ScoringOptions(judges=judges), compute=CPU)


def test_a_judge_reads_the_text_with_its_own_tokenizer(tmp_path: Path) -> None:
    name = str(tiny("llama", tmp_path / "judge", vocabulary=400))
    texts = ["", *documents(3, 80), ""]
    written = Corpus.of_tokens([[7] * 3 for _ in texts], 2, texts=texts)  # tokens of some other model
    found = judged_by(name).judge(name, written, Silent())
    model = load_pretrained(ModelOptions(name=name))
    ids = list(tokenize(model.tokenizer, texts))
    expected = score(model, Corpus.of_tokens(ids, 0), ScoringOptions(), CPU, Silent())
    assert found.tokens.tolist() == [len(row) for row in ids] and found.tokens[0] == found.tokens[-1] == 0
    np.testing.assert_allclose(found.nats, expected.nats, rtol=1e-6)
    nothing = judged_by(name).judge(name, Corpus.of_tokens([[7]], 2, texts=[""]), Silent())
    assert nothing.tokens.tolist() == [0] and nothing.nats.tolist() == [0]


def test_judges_that_cannot_judge_are_refused_before_compute(tmp_path: Path) -> None:
    one, two = (str(tiny("gpt2", tmp_path / folder)) for folder in ("a/judge-1", "b/Judge_1"))
    judged_by(one).check("scratch")
    for judges in ((one, one), (one, two), ("generation_0",)):
        with pytest.raises(UserError, match="last parts of their names must differ"):
            judged_by(*judges).check("scratch")
    with pytest.raises(UserError, match="nowhere"):
        judged_by(str(tmp_path / "nowhere")).check("scratch")
    (Path(one) / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json"):
        judged_by(one).check("scratch")
