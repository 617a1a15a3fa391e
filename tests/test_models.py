"""Language models: what is refused before any compute is spent, scratch models, starts, folders."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BertConfig, T5Config

from lmcollapse.catalog import CATALOG, find, summary
from lmcollapse.substrates.causal_lm import CausalLM, models
from lmcollapse.substrates.causal_lm.checkpoints import digest, prepare, starting_point
from lmcollapse.substrates.causal_lm.models import LanguageModel, check_weights, context, load_pretrained
from lmcollapse.substrates.causal_lm.options import ModelOptions
from lmcollapse.types import Silent, Start, UserError
from tests.tiny import SHAPES, Shape, human, tiny, tiny_module

TINY = {"layers": 2, "width": 16, "heads": 2, "vocabulary": 300}
HUMAN = human()


def causal_lm(**sections: Any) -> CausalLM:
    given = {"model": TINY, "train": {"block_size": 16, "steps": 2}, "compute": {"device": "cpu", "threads": 1}}
    return CausalLM.model_validate({**given, **sections})


# what is refused


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"sampling": {"decoder": "greedy", "temperature": 0.8, "prompt": "human"}}, "temperature has no effect"),
        ({"sampling": {"decoder": "beam", "top_p": 0.8, "prompt": "human"}}, "top_p has no effect"),
        ({"sampling": {"beams": 3}}, "beams has no effect with decoder: ancestral"),
        ({"sampling": {"prompt_tokens": 3}}, "prompt_tokens has no effect"),
        ({"sampling": {"prompt": "human"}}, "needs sampling.prompt_tokens"),
        ({"sampling": {"decoder": "greedy"}}, "one document over and over"),
        ({"train": {"unit": "document", "bos": False}}, "bos: false has no effect"),
        ({"model": {"width": 18, "heads": 4}}, "multiple of model.heads"),
        ({"model": {"architecture": "llama", "width": 12, "heads": 4}}, "even multiple"),
        ({"model": {"revision": "v1"}}, "no effect on a scratch model"),
        ({"model": {"name": "gpt2", "layers": 3}}, "layers has no effect on 'gpt2'"),
        ({"compute": {"device": "abacus"}}, "'abacus'"),
        ({"compute": {"device": "cuda:77"}}, "'cuda:77'"),
        ({"model": {"name": "./no/such/folder"}}, "no such folder"),
    ],
)
def test_options_that_cannot_work_or_have_no_effect_are_refused(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        causal_lm(**sections).check("base")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"train": {"block_size": 65}}, r"train\.block_size needs 65 positions and the model can read 64"),
        ({"sampling": {"new_tokens": 65}}, "needs 65 positions"),
        ({"sampling": {"new_tokens": 49, "prompt": "human", "prompt_tokens": 16}}, "needs 65 positions"),
        ({"scoring": {"window": 65}}, r"scoring\.window needs 65"),
    ],
)
def test_what_is_beyond_the_context_is_refused(sections: dict[str, Any], message: str, tmp_path: Path) -> None:
    name = str(tiny("gpt2", tmp_path / "gpt2"))
    with pytest.raises(UserError, match=message):
        causal_lm(model={"name": name}, **sections).check("base")
    causal_lm(model={"name": name}, train={"block_size": 64}, sampling={"new_tokens": 64}).check("base")
    exact = {"new_tokens": 48, "prompt": "human", "prompt_tokens": 16}
    causal_lm(model={"name": name}, sampling=exact).check("base")
    causal_lm(**(sections | {"model": TINY})).check("base")  # a scratch model gets the context that it needs


def test_prompts_longer_than_any_row_are_refused_before_anything_is_fitted() -> None:
    for source, new, message in (("human", 8, "rows to prompt with have 16"), ("previous", 8, "have 8")):
        sampling = {"prompt": source, "prompt_tokens": 17, "new_tokens": new}
        with pytest.raises(UserError, match=message):
            causal_lm(sampling=sampling).check("base")


def broken(folder: Path, how: str) -> None:
    tiny("gpt2", folder)
    if how == "no config":
        (folder / "config.json").unlink()
    elif how == "unknown type":
        (folder / "config.json").write_text('{"model_type": "perceptron"}')
    elif how == "not causal":
        T5Config().save_pretrained(folder)
    elif how == "pickled":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif how == "truncated":
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    elif how == "other shape":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"n_embd": 32}))
    elif how == "no tokenizer":
        for file in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"):
            (folder / file).unlink()
    elif how == "encoder":
        BertConfig().save_pretrained(folder)
    elif how == "no cache":
        (folder / "config.json").write_text('{"model_type": "rwkv"}')


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no config", "no config.json"),
        ("unknown type", "perceptron"),
        ("not causal", "no causal language model"),
        ("pickled", r"no safetensors \(pytorch_model.bin\); pickled weights are never loaded"),
        ("no tokenizer", "no tokenizer"),
        ("no cache", "no key/value cache"),
        ("encoder", "is an encoder"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(how: str, message: str, tmp_path: Path) -> None:
    broken(tmp_path / "model", how)
    with pytest.raises(UserError, match=message) as caught:
        causal_lm(model={"name": str(tmp_path / "model")}).check("base")
    assert "\n" not in str(caught.value) and str(tmp_path / "model") in str(caught.value)


def test_pickled_weights_are_not_loaded_by_any_way(tmp_path: Path) -> None:
    broken(tmp_path / "model", "pickled")
    for load in (models.read_module, load_pretrained, check_weights):
        with pytest.raises(UserError):
            load(ModelOptions(name=str(tmp_path / "model")))


@pytest.mark.parametrize("how", ["truncated", "other shape"])
def test_weights_that_do_not_fit_are_refused_in_one_line(how: str, tmp_path: Path) -> None:
    broken(tmp_path / "model", how)
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        models.read_module(ModelOptions(name=str(tmp_path / "model")))
    assert "\n" not in str(caught.value)


def test_incomplete_weights_are_not_filled_up_with_random_ones(tmp_path: Path) -> None:
    folder = tiny("gpt2", tmp_path / "model", layers=1)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_layer": 2}))
    with pytest.raises(UserError, match="incomplete"):
        models.read_module(ModelOptions(name=str(folder)))


def test_a_hub_that_cannot_be_reached_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_hub_answers", lambda: False)
    with pytest.raises(UserError, match=r"'nobody/nothing'.*cannot be reached.*model\.name=path/to/folder"):
        causal_lm(model={"name": "nobody/nothing"}).check("base")


# what is decided


def test_decisions_are_made_once_and_obeyed(tmp_path: Path) -> None:
    undecided = CausalLM.model_validate({"model": TINY})
    undecided.check("scratch")
    decided = undecided.decide()
    assert decided.compute.precision in ("float32", "bfloat16") and decided.compute.threads
    assert decided.sampling.batch_size and decided.scoring.batch_size
    assert CausalLM.model_validate(decided.model_dump(mode="json")).decide() == decided
    told = causal_lm(
        compute={"device": "cpu", "precision": "float32", "threads": 1}, sampling={"batch_size": 3}
    ).decide()
    assert (told.compute.precision, told.compute.threads, told.sampling.batch_size) == ("float32", 1, 3)
    assert causal_lm(model={"name": str(tiny("opt", tmp_path / "opt"))}).decide().sampling.batch_size


def test_reading_options_does_not_wait_for_torch() -> None:
    code = "import sys, lmcollapse.substrates.causal_lm; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_decoder_of_the_catalogue_is_there() -> None:
    for name in CATALOG["decoder"]:
        assert callable(find("decoder", name)) and summary("decoder", name)


# scratch models


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_scratch_model_is_an_ordinary_folder_with_the_context_that_it_needs(
    architecture: str, tmp_path: Path
) -> None:
    lm = causal_lm(
        model=TINY | {"architecture": architecture},
        sampling={"prompt": "human", "prompt_tokens": 10, "new_tokens": 12},
    )
    lm.prepare(HUMAN, tmp_path, seed=1)
    module = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert (module.config.model_type, module.dtype) == (architecture, torch.float32)
    assert context(module.config) == 1 + 10 + 12 - 1
    assert module.config.vocab_size == len(tokenizer) == 300
    assert tokenizer.bos_token == tokenizer.eos_token == "<|endoftext|>"
    assert module.config.eos_token_id == tokenizer.eos_token_id
    text = HUMAN.heldout.texts[0] + " Ünïcode\n\n\t<|endoftext|> 龍"
    assert tokenizer.decode(tokenizer(text, split_special_tokens=True).input_ids) == text


def test_positions_that_a_scratch_model_never_trained_are_said(tmp_path: Path) -> None:
    lines: list[str] = []

    class Listening(Silent):
        def say(self, line: str) -> None:
            lines.append(line)

    for block_size in (16, 12):
        lm = causal_lm(train={"block_size": block_size}, sampling={"new_tokens": 16, "tokens": 30})
        folder = tmp_path / str(block_size)
        folder.mkdir()
        lm.prepare(HUMAN, folder, seed=1)
        train, _ = lm.encode(folder, HUMAN)
        made = lm.sample(lm.load(folder), train, train, 0, 1, Listening(), folder)
        assert made.lengths.tolist() == [16, 16]
    [line] = lines
    assert "reach position 16 and the fit trained 12" in line


def test_the_base_depends_on_the_training_part_and_the_seed_alone(tmp_path: Path) -> None:
    other_heldout = replace(HUMAN, heldout=human(train=1, heldout=60).heldout)
    for name, text, seed in (("a", HUMAN, 1), ("b", other_heldout, 1), ("c", HUMAN, 2)):
        (tmp_path / name).mkdir()
        causal_lm().prepare(text, tmp_path / name, seed)
    files = {f.name: f.read_bytes() for f in (tmp_path / "a").iterdir()}
    assert files == {f.name: f.read_bytes() for f in (tmp_path / "b").iterdir()}
    assert files["model.safetensors"] != (tmp_path / "c" / "model.safetensors").read_bytes()
    assert files["tokenizer.json"] == (tmp_path / "c" / "tokenizer.json").read_bytes()


# starts


def start_of(lm: CausalLM, base: Path, start: Start, seed: int, previous: Path | None = None) -> str:
    return digest(starting_point(lm.model, base, start, previous, seed))


@pytest.mark.parametrize("name", ["scratch", *SHAPES])
def test_starts_give_what_they_say(name: str, tmp_path: Path) -> None:
    if name in SHAPES:
        shape: Shape = name
        folder = tiny(shape, tmp_path / "hub", vocabulary=300)
        lm = causal_lm(model={"name": str(folder)})
        original = digest(load_pretrained(lm.model).module)
    else:
        lm, original = causal_lm(), ""
    (tmp_path / "base").mkdir()
    lm.check("base")
    lm.prepare(HUMAN, tmp_path / "base", seed=1)
    base = start_of(lm, tmp_path / "base", "base", seed=5)
    assert base == start_of(lm, tmp_path / "base", "base", seed=6)
    assert original in ("", base)
    assert (tmp_path / "base" / "model.safetensors").is_file() == (name == "scratch"), "no copy of pretrained weights"

    scratch = [start_of(lm, tmp_path / "base", "scratch", seed) for seed in (5, 5, 6)]
    assert scratch[0] == scratch[1] and len({base, *scratch}) == 3

    train, _ = lm.encode(tmp_path / "base", HUMAN)
    model = lm.fit(tmp_path / "base", train, "base", None, 3, Silent())
    (tmp_path / "model").mkdir()
    lm.save(model, tmp_path / "model")
    after = start_of(lm, tmp_path / "base", "previous", seed=5, previous=tmp_path / "model")
    assert after == digest(model.module) != base


def test_weights_that_changed_since_the_run_began_are_refused(tmp_path: Path) -> None:
    folder = tiny("gpt2", tmp_path / "hub")
    options = ModelOptions(name=str(folder))
    (tmp_path / "base").mkdir()
    prepare(options, 16, HUMAN.train, tmp_path / "base", seed=1)
    starting_point(options, tmp_path / "base", "base", None, seed=1)
    tiny("gpt2", folder, seed=9)
    with pytest.raises(UserError, match="not those that this run began with"):
        starting_point(options, tmp_path / "base", "base", None, seed=1)


# folders


@pytest.mark.parametrize("shape", SHAPES)
def test_a_fitted_model_comes_back_as_it_was_saved(shape: Shape, tmp_path: Path) -> None:
    lm = causal_lm(
        model={"name": str(tiny(shape, tmp_path / "hub"))}, train={"block_size": 16, "epochs": 1, "bos": False}
    )
    for name in ("base", "model", "again"):
        (tmp_path / name).mkdir()
    lm.prepare(HUMAN, tmp_path / "base", seed=1)
    train, heldout = lm.encode(tmp_path / "base", HUMAN)
    model = lm.fit(tmp_path / "base", train, "base", None, 3, Silent())
    lm.save(model, tmp_path / "model")
    back = lm.load(tmp_path / "model")
    assert isinstance(back, LanguageModel)
    assert digest(back.module) == digest(model.module) and back.history == model.history
    assert back.module.config.lmcollapse_trained_positions == 15
    assert lm.score(model, heldout, Silent()).nats.tolist() == lm.score(back, heldout, Silent()).nats.tolist()
    lm.save(back, tmp_path / "again")
    for file in (tmp_path / "model").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert digest(plain) == digest(model.module) and plain.dtype == torch.float32
    assert AutoConfig.from_pretrained(tmp_path / "model").lmcollapse_trained_positions == 15
    assert str(tmp_path) not in "".join(f.read_text() for f in (tmp_path / "model").glob("*.json"))


def test_weights_of_the_hub_in_half_precision_are_read_in_float32(tmp_path: Path) -> None:
    module = load_pretrained(ModelOptions(name=str(tiny("opt", tmp_path / "opt")))).module
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    expected = tiny_module("opt").half().float()  # type: ignore[no-untyped-call]
    assert digest(module) == digest(expected)
