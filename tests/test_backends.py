"""Other packages that write: the same text where nothing is drawn, the same distribution where something is."""

from __future__ import annotations

import gc
import importlib
import sys
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig, PreTrainedTokenizerFast

from lmcollapse.substrates.causal_lm import backends, sample
from lmcollapse.substrates.causal_lm.decoding import continue_prompts
from lmcollapse.substrates.causal_lm.models import LanguageModel
from lmcollapse.substrates.causal_lm.options import ComputeOptions, SamplingOptions
from lmcollapse.types import HUMAN, Corpus, Silent, UserError
from tests.test_models import causal_lm
from tests.test_sample import p_value, probabilities, settled
from tests.tiny import SHAPES, Shape, tiny, tiny_module

COMPUTE = ComputeOptions(device="cpu", precision="float32", threads=1)
PROMPTS = np.random.default_rng(0).integers(3, 300, (60, 7))
DRAWS = 60_000

needs_ctranslate2 = pytest.mark.skipif(find_spec("ctranslate2") is None, reason="ctranslate2 is not installed")


def model(shape: Shape = "gpt2", eos: int = 2, vocabulary: int = 304, **options: Any) -> LanguageModel:
    """A tiny model whose tokens are named by their numbers, and whose tokenizer has this EOS."""
    words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(vocabulary)}, "t0"))
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=words, bos_token="t1", eos_token=f"t{eos}", unk_token="t0"
    )
    return LanguageModel(tiny_module(shape, vocabulary=vocabulary, **options), tokenizer)


def writer(
    given: LanguageModel, options: SamplingOptions, seed: int = 3, prompts: Any = PROMPTS, batch: int = 16
) -> sample.Writer:
    return sample.Writer(given, prompts, options.model_copy(update={"batch_size": batch}), COMPUTE, seed, Silent())


def rows(given: LanguageModel, options: SamplingOptions, documents: Sequence[int] = range(60)) -> list[list[int]]:
    return [row.tolist() for row in writer(given, options).write(documents, lambda tokens: None)]


# CTranslate2


@needs_ctranslate2
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("decoder", [{"decoder": "greedy"}, {"decoder": "beam", "beams": 5}], ids=str)
def test_ctranslate2_finds_the_text_that_this_sampler_finds(shape: Shape, decoder: dict[str, Any]) -> None:
    given = model(shape)
    own = rows(given, settled(**decoder))
    assert rows(given, settled(**decoder, backend="ctranslate2")) == own
    assert {len(row) for row in own} == {20}


@needs_ctranslate2
@pytest.mark.parametrize("shape", SHAPES)
def test_ctranslate2_ends_at_eos_where_asked_and_goes_on_where_not(shape: Shape) -> None:
    text = [token for row in rows(model(shape), settled(decoder="greedy")) for token in row]
    given = model(shape, eos=max(set(text), key=text.count))  # a token that does come
    ongoing, ended = (
        rows(given, settled(decoder="greedy", until_eos=until_eos, backend="ctranslate2"))
        for until_eos in (False, True)
    )
    eos = given.tokenizer.eos_token_id
    assert sum(eos in row[:-1] for row in ongoing) > 5 and {len(row) for row in ongoing} == {20}
    assert ended == [row[: row.index(eos) + 1] if eos in row else row for row in ongoing]
    assert ended == rows(given, settled(decoder="greedy", until_eos=True))


FILTERS: list[dict[str, Any]] = [
    {},
    {"until_eos": True},
    {"temperature": 0.7},
    {"temperature": 1.6},
    {"top_k": 10},
    {"top_p": 0.7},
    {"temperature": 1.3, "top_k": 25, "top_p": 0.8},
]


def draws_and_distribution(drawn: dict[str, Any], exact: dict[str, Any]) -> tuple[Any, Any]:
    """Tokens counted that options draw after one prompt, and their exact probabilities under some options."""
    prompt = np.array([[5, 9]])
    module = tiny_module("gpt2", vocabulary=60)
    with torch.no_grad():
        logits = module(torch.from_numpy(prompt)).logits[0, -1].double().numpy()
    given = model(eos=int(logits.argmax()), vocabulary=60)  # EOS, which is likely here, must come as often as it should
    options = settled(**drawn, new_tokens=1, backend="ctranslate2")
    found = writer(given, options, prompts=prompt, batch=10_000).write(range(DRAWS), lambda tokens: None)
    return np.bincount(np.concatenate(found), minlength=60), probabilities(logits, {5, 9}, settled(**exact))


@needs_ctranslate2
@pytest.mark.parametrize("options", FILTERS, ids=str)
def test_ctranslate2_draws_from_the_filtered_distribution(options: dict[str, Any]) -> None:
    counts, p = draws_and_distribution(options, options)
    assert counts.sum() == DRAWS and not counts[p == 0].any()
    assert p_value(counts, p) > 0.001


@needs_ctranslate2
def test_ctranslate2_may_be_given_more_tokens_than_there_are_to_draw_from() -> None:
    some, every = (draws_and_distribution({"top_k": k}, {})[0] for k in (1000, None))
    assert some.tolist() == every.tolist()


@needs_ctranslate2
def test_a_wrong_filter_of_ctranslate2_would_be_noticed() -> None:
    counts, p = draws_and_distribution({"temperature": 0.9}, {})
    assert p_value(counts, p) < 1e-6
    counts, p = draws_and_distribution({"top_k": 11}, {"top_k": 10})
    assert counts[p == 0].any()


@needs_ctranslate2
def test_a_shard_of_ctranslate2_follows_from_seed_and_first_document_and_repeats_no_other() -> None:
    given, options = model(), settled(new_tokens=12, backend="ctranslate2")

    def shard(who: sample.Writer, first: int) -> list[tuple[int, ...]]:
        documents = range(first, first + 300)
        return [tuple(row.tolist()) for row in who.write(documents, lambda tokens: None)]

    one = writer(given, options, prompts=PROMPTS[:1], batch=64)
    shards = [shard(one, first) for first in (0, 300, 600)]
    assert len({row for rows in shards for row in rows}) == 900, "no two documents share a stream"
    assert shard(one, 300) == shards[1], "again, by the same writer"
    again = writer(given, options, prompts=PROMPTS[:1], batch=64)
    assert shard(again, 600) == shards[2], "by another, to which the first shards are not known"
    other = writer(given, options, seed=4, prompts=PROMPTS[:1], batch=64)
    assert not {*shard(other, 0)} & {row for rows in shards for row in rows}


@needs_ctranslate2
def test_a_whole_corpus_is_written_by_ctranslate2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    given = model("llama")
    human = Corpus.of_tokens([np.arange(3, 3 + length) for length in (4, 16, 30, 5, 12)], HUMAN)

    def corpus(**options: Any) -> Corpus:
        with tempfile.TemporaryDirectory() as bench:
            return sample.sample(
                given, human, human, 1, 99, settled(batch_size=7, **options), True, COMPUTE, Silent(), Path(bench)
            )

    prompted = {"decoder": "greedy", "prompt": "human", "prompt_tokens": 5, "tokens": 130}
    own, made = (corpus(**prompted, backend=backend) for backend in ("own", "ctranslate2"))
    assert made.prompt.tolist() == own.prompt.tolist() == [1, 2, 3, 4, 1, 2, 3]
    assert made.values.tolist() == own.values.tolist() and made.texts == own.texts
    made = corpus(tokens=4000, until_eos=True, backend="ctranslate2")
    assert made.lengths[:-1].sum() < 4000 <= made.lengths.sum()
    assert made.values.tolist() == corpus(tokens=4000, until_eos=True, backend="ctranslate2").values.tolist()
    assert not [*tmp_path.iterdir()], "the converted model is left behind"


@needs_ctranslate2
def test_memory_that_runs_out_in_ctranslate2_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    package = importlib.import_module("ctranslate2")
    sizes: list[int] = []

    class Small:
        def __init__(self, *given: Any, **options: Any) -> None:
            self.real = really(*given, **options)
            self.forward_batch = self.real.forward_batch

        def generate_batch(self, words: list[list[str]], **options: Any) -> Any:
            sizes.append(len(words))
            if len(words) > 5:
                raise RuntimeError("CUDA failed with error out of memory")
            return self.real.generate_batch(words, **options)

    really = package.Generator
    given, options = model(), settled(decoder="greedy", backend="ctranslate2")
    whole = rows(given, options)
    monkeypatch.setattr(package, "Generator", Small)
    assert rows(given, options) == whole
    assert sizes == [16, 8] + [4] * 15


@needs_ctranslate2
def test_texts_by_ctranslate2(tmp_path: Path) -> None:
    folder = str(tiny("llama", tmp_path / "llama"))
    texts = sample.sample_texts(folder, 5, SamplingOptions(backend="ctranslate2", new_tokens=12), 1, device="cpu")
    assert len(set(texts)) == 5
    with pytest.raises(UserError, match="min_p"):
        sample.sample_texts(folder, 5, SamplingOptions(backend="ctranslate2", min_p=0.1), 1, device="cpu")


@needs_ctranslate2
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_scratch_models_are_fit_for_ctranslate2(architecture: str) -> None:
    shape = {"architecture": architecture, "layers": 2, "width": 16, "heads": 2, "vocabulary": 301}
    causal_lm(model=shape, sampling={"backend": "ctranslate2"}).check("base")


@needs_ctranslate2
@pytest.mark.parametrize(
    ("config", "message"),
    [
        (GPT2Config(n_embd=32, n_head=2, scale_attn_by_inverse_layer_idx=True), "computes other logits .* gpt2"),
        (
            LlamaConfig(hidden_size=32, num_attention_heads=2, intermediate_size=32, head_dim=32),
            "other logits .* llama",
        ),
        (GPT2Config(n_embd=32, n_head=2, activation_function="tanh"), "cannot convert this gpt2 model"),
        (
            GPTNeoXConfig(hidden_size=32, num_attention_heads=2, intermediate_size=32, hidden_act="tanh"),
            "cannot convert",
        ),
    ],
    ids=["scaled attention", "wide heads", "activation", "another shape"],
)
def test_shapes_that_ctranslate2_does_not_compute_are_refused(config: Any, message: str) -> None:
    options = settled(backend="ctranslate2")
    with pytest.raises(UserError, match=message):
        backends.check_backend(options, COMPUTE, config)


# what is refused


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ({"backend": "ctranslate2", "min_p": 0.1}, "min_p is not in ctranslate2"),
        ({"backend": "ctranslate2", "repetition_penalty": 1.2}, "spares the first token"),
        ({"backend": "vllm", "min_p": 0.1, "top_p": 0.9}, "min_p comes before top_p in vllm"),
        ({"backend": "vllm", "temperature": 3.0}, "vllm takes 0.01 to 2"),
        ({"backend": "vllm", "decoder": "beam", "repetition_penalty": 1.2}, "is not that of transformers"),
        ({"backend": "vllm", "decoder": "beam", "until_eos": True}, "ends its search by another rule"),
        ({"backend": "ctranslate2", "decoder": "beam", "until_eos": True}, "ends its search by another rule"),
        ({"backend": "vllm"}, "first GPU .* compute.device is cpu"),
    ],
)
def test_what_a_package_has_no_equal_of_is_refused(
    sampling: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: name)
    prompted = {"prompt": "human", "prompt_tokens": 3} if "decoder" in sampling else {}
    with pytest.raises(UserError, match=message):
        causal_lm(sampling={**sampling, **prompted}).check("base")


@pytest.mark.parametrize("backend", ["ctranslate2", "vllm"])
def test_a_missing_package_is_named(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"{backend}, which is not installed: pip install 'lmcollapse\[{backend}\]'"):
        causal_lm(sampling={"backend": backend}).check("base")


# vLLM, by a stand-in: the names are those of its 0.33.0, and what it does is done by transformers


@dataclass
class SamplingParams:
    max_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    ignore_eos: bool = False
    min_tokens: int = 0
    stop_token_ids: list[int] = field(default_factory=list)
    detokenize: bool = True


@dataclass
class BeamSearchParams:
    beam_width: int
    max_tokens: int
    ignore_eos: bool = False
    temperature: float = 0.0
    length_penalty: float = 1.0


class LLM:
    """Writes as told; a text ends at the model's own EOS unless told to go on, and where its longest length is."""

    made: ClassVar[list[weakref.ref[LLM]]] = []

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        seed: int = 0,
        max_model_len: int,
        max_num_seqs: int,
        max_logprobs: int = 20,
        use_fp64_gumbel: bool = False,
    ) -> None:
        assert 0 <= seed < 2**32 and use_fp64_gumbel and dtype == "float32"
        assert (Path(model) / "tokenizer.json").is_file()
        self.module = AutoModelForCausalLM.from_pretrained(model)
        self.module.eval()  # type: ignore[no-untyped-call]
        self.longest, self.max_logprobs, self.rows = max_model_len, max_logprobs, max_num_seqs
        LLM.made.append(weakref.ref(self))

    def generate(
        self, prompts: list[dict[str, list[int]]], sampling_params: list[SamplingParams], *, use_tqdm: bool = True
    ) -> list[Any]:
        assert not use_tqdm
        pairs = zip(prompts, sampling_params, strict=True)
        return [SimpleNamespace(outputs=[self.one(p["prompt_token_ids"], params)]) for p, params in pairs]

    def one(self, prompt: list[int], params: SamplingParams) -> Any:
        assert params.ignore_eos and not params.min_tokens and not params.detokenize
        greedy = {"decoder": "greedy", "repetition_penalty": params.repetition_penalty}
        drawn = {"temperature": params.temperature, "top_p": params.top_p, "top_k": params.top_k or None}
        options = settled(
            **(drawn if params.temperature else greedy),
            new_tokens=min(params.max_tokens, self.longest - len(prompt)),
            until_eos=bool(params.stop_token_ids),
        )
        noise = np.random.default_rng(params.seed).random((1, 20)) if params.temperature else None
        stop = params.stop_token_ids[0] if params.stop_token_ids else 0
        return SimpleNamespace(
            token_ids=continue_prompts(self.module, torch.tensor([prompt]), options, stop, noise)[0].tolist()
        )

    def beam_search(
        self, prompts: list[dict[str, list[int]]], params: BeamSearchParams, concurrency_limit: int | None = None
    ) -> list[Any]:
        assert params.ignore_eos and self.max_logprobs >= 2 * params.beam_width and concurrency_limit == self.rows
        starts = torch.tensor([prompt["prompt_token_ids"] for prompt in prompts])
        assert starts.shape[1] + params.max_tokens <= self.longest
        options = settled(decoder="beam", beams=params.beam_width, new_tokens=params.max_tokens)
        texts = continue_prompts(self.module, starts, options, 0)
        return [
            SimpleNamespace(sequences=[SimpleNamespace(tokens=[*start, *text.tolist()])])
            for start, text in zip(starts.tolist(), texts, strict=True)
        ]


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    package, parameters = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    vars(package).update(LLM=LLM, SamplingParams=SamplingParams, TokensPrompt=dict)
    vars(parameters).update(BeamSearchParams=BeamSearchParams)
    monkeypatch.setitem(sys.modules, "vllm", package)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", parameters)
    monkeypatch.setattr(LLM, "made", [])


@pytest.mark.usefixtures("vllm")
@pytest.mark.parametrize(
    "options",
    [
        {"decoder": "greedy"},
        {"decoder": "greedy", "until_eos": True, "repetition_penalty": 1.3},
        {"decoder": "beam", "beams": 12},
    ],
    ids=str,
)
def test_vllm_is_asked_for_the_text_that_this_sampler_finds(options: dict[str, Any]) -> None:
    text = [token for row in rows(model(), settled(decoder="greedy")) for token in row]
    given = model(eos=max(set(text), key=text.count))
    own = rows(given, settled(**options))
    assert rows(given, settled(**options, backend="vllm")) == own
    assert (min(map(len, own)) < 20) == ("until_eos" in options)


@pytest.mark.usefixtures("vllm")
def test_a_document_of_vllm_follows_from_seed_and_number() -> None:
    given, options = model(), settled(backend="vllm")
    whole = rows(given, options)
    assert rows(given, options, [7, 3, 50]) == [whole[7], whole[3], whole[50]]
    assert len({*map(tuple, rows(given, options, [0, 60, 120]))}) == 3, "of one prompt"
    other = writer(given, options, seed=4).write(range(60), lambda tokens: None)
    assert all(row.tolist() != text for row, text in zip(other, whole, strict=True))
    hot = rows(given, options.model_copy(update={"top_k": 1}))
    assert hot == rows(given, settled(decoder="greedy"))


@pytest.mark.usefixtures("vllm")
def test_vllm_is_loaded_once_and_let_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sample, "SHARD", 100)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    human = Corpus.of_tokens([np.arange(3, 23)] * 20, HUMAN)
    with tempfile.TemporaryDirectory() as bench:
        options = settled(batch_size=4, backend="vllm")
        made = sample.sample(model(), human, human, 1, 99, options, True, COMPUTE, Silent(), Path(bench))
        assert len([*Path(bench).iterdir()]) == 4
    assert made.lengths.tolist() == [20] * 20 and made.texts is not None and len(set(made.texts)) == 20
    gc.collect()
    [engine] = LLM.made
    assert engine() is None, "it would keep the GPU's memory from the next step"
    assert not [*tmp_path.iterdir()]


def test_vllm_has_a_position_for_the_last_token_too() -> None:
    """A request ends once it has as many tokens as the model has positions, though the last one is never read."""
    assert causal_lm(train={"block_size": 16})._positions == 16
    assert causal_lm(train={"block_size": 16}, sampling={"backend": "vllm"})._positions == 17
