"""Writing: decoders against `generate` and exact distributions, filters that take effect, streams, budgets, prompts."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel

from lmcollapse.substrates.causal_lm import decoding, devices, sample, shapes
from lmcollapse.substrates.causal_lm.decoding import ancestral, continue_prompts
from lmcollapse.substrates.causal_lm.devices import shrinking
from lmcollapse.substrates.causal_lm.models import LanguageModel, load_pretrained
from lmcollapse.substrates.causal_lm.options import ComputeOptions, ModelOptions, SamplingOptions, TrainOptions
from lmcollapse.substrates.causal_lm.shapes import network_of
from lmcollapse.substrates.causal_lm.stepping import Job
from lmcollapse.substrates.causal_lm.writing import write
from lmcollapse.types import HUMAN, Corpus, Silent, UserError
from tests.tiny import SHAPES, Shape, tiny, tiny_module

COMPUTE = ComputeOptions(device="cpu", precision="float32", threads=1)


def settled(**options: Any) -> SamplingOptions:
    return SamplingOptions(**{"new_tokens": 20, "until_eos": False, **options}).settled(TrainOptions())


def double(shape: Shape, **options: Any) -> PreTrainedModel:
    """A model in float64, in which there are no near-ties."""
    return tiny_module(shape, **options).double()


def prompts(batch: int = 6, length: int = 7) -> torch.Tensor:
    return torch.randint(3, 300, (batch, length), generator=torch.Generator().manual_seed(1))


def by_the_network(
    module: PreTrainedModel,
    starts: torch.Tensor,
    options: SamplingOptions,
    eos: int,
    uniforms: Any = None,
    processors: LogitsProcessorList | None = None,
    rows: int = 4,
) -> list[Any]:
    """What `continue_prompts` does, on the fast path."""
    network = network_of(module, module.dtype)
    assert network is not None and options.new_tokens is not None
    before = LogitsProcessorList([*decoding.penalties(options), *(processors or [])])
    chain = LogitsProcessorList([*before, *(decoding.filters(options) if options.decoder == "ancestral" else [])])
    job = Job(
        prompts=lambda numbers: starts[list(numbers)],
        new_tokens=options.new_tokens,
        stop=eos if options.until_eos else None,
        shape=chain if len(chain) else None,
        choose=decoding.chooser(options),
        uniforms=None if uniforms is None else lambda numbers: torch.from_numpy(uniforms)[list(numbers)],
    )
    with torch.inference_mode():
        found = dict(write(network, job, range(len(starts)), rows, options.beams))
    return [found[number] for number in range(len(starts))]


PATHS = {"network": by_the_network, "module": continue_prompts}


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> Any:
    return PATHS[request.param]


def written(path: Any, module: PreTrainedModel, options: SamplingOptions, eos: int = 2, **more: Any) -> list[list[int]]:
    draws = sample.uniforms(3, range(6), 20) if options.decoder == "ancestral" else None
    return [row.tolist() for row in path(module, prompts(), options, eos, draws, **more)]


def by_generate(module: PreTrainedModel, starts: torch.Tensor, beams: int, penalty: float) -> torch.Tensor:
    """What transformers itself writes: `(prompts, 20)`."""
    module.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    found: torch.Tensor = module.generate(  # type: ignore[operator]
        starts,
        attention_mask=torch.ones_like(starts),
        max_new_tokens=20,
        num_beams=beams,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        repetition_penalty=penalty,
    )
    return found[:, starts.shape[1] :]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("beams", [1, 5])
def test_in_float32_only_near_ties_are_decided_otherwise(shape: Shape, penalty: float, beams: int) -> None:
    module = tiny_module(shape)
    starts = prompts(60)
    decoder = {"decoder": "beam", "beams": beams} if beams > 1 else {"decoder": "greedy"}
    options = settled(**decoder, repetition_penalty=penalty)
    ours = torch.from_numpy(np.array(by_the_network(module, starts, options, 2))).long()
    theirs = by_generate(module, starts, beams, penalty)
    other = (ours != theirs).any(1)
    assert other.sum() <= 1, f"{int(other.sum())} of 60 texts differ"
    for start, mine, its in zip(starts[other], ours[other], theirs[other], strict=True):
        # both are as likely as can be told in float32
        with torch.no_grad():
            logits = module.double()(torch.stack([torch.cat([start, mine]), torch.cat([start, its])])).logits
        first = int((mine != its).nonzero()[0])
        one, two = logits[0, 6 + first, [int(mine[first]), int(its[first])]]
        assert beams > 1 or penalty > 1 or abs(one - two) < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("beams", [1, 5])
@pytest.mark.parametrize("until_eos", [False, True])
def test_greedy_and_beam_write_what_generate_writes(
    path: Any, shape: Shape, penalty: float, beams: int, until_eos: bool
) -> None:
    module = double(shape)
    decoder = {"decoder": "beam", "beams": beams} if beams > 1 else {"decoder": "greedy"}
    options = settled(**decoder, repetition_penalty=penalty, until_eos=until_eos)
    text = [token for row in written(path, module, options.model_copy(update={"until_eos": False})) for token in row]
    eos = max(set(text), key=text.count)  # a token that does come
    given = {"num_beams": beams, "do_sample": False, "max_new_tokens": 20, "repetition_penalty": penalty}
    module.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    ids = module.generate(  # type: ignore[operator]
        prompts(), attention_mask=torch.ones(6, 7), eos_token_id=eos if until_eos else None, pad_token_id=eos, **given
    )
    expected = [row[7:].tolist() for row in ids]
    if until_eos:
        expected = [row[: row.index(eos) + 1] if eos in row else row for row in expected]
    # the model's own EOS is no reason to stop
    module.generation_config = GenerationConfig(eos_token_id=eos)  # type: ignore[no-untyped-call]
    assert written(path, module, options, eos) == expected
    assert (min(map(len, expected)) < 20) == until_eos
    assert module.generation_config.eos_token_id == eos, "the model's own settings are given back"


def test_a_beam_as_wide_as_the_vocabulary_finds_the_most_likely_text(path: Any) -> None:
    module = double("gpt2", vocabulary=12)
    start = torch.tensor([[3, 5]])
    pairs = torch.cartesian_prod(torch.arange(12), torch.arange(12))
    with torch.no_grad():
        logs = module(torch.cat([start.expand(144, 2), pairs], 1)).logits.log_softmax(-1)
    likely = logs[:, 1].gather(1, pairs[:, :1]) + logs[:, 2].gather(1, pairs[:, 1:])
    [found] = path(module, start, settled(decoder="beam", beams=12, new_tokens=2), 0)
    assert found.tolist() == pairs[likely.argmax()].tolist()


def test_every_decoder_writes_something_else(path: Any) -> None:
    module = double("llama")
    decoders: list[dict[str, Any]] = [
        {"decoder": "greedy"},
        {"decoder": "beam"},
        {"decoder": "greedy", "repetition_penalty": 2.0},
        {"decoder": "beam", "repetition_penalty": 2.0},
        {},
        {"temperature": 0.5},
        {"top_k": 3},
        {"top_p": 0.5},
        {"min_p": 0.2},
        {"repetition_penalty": 2.0},
    ]
    texts = [str(written(path, module, settled(**options))) for options in decoders]
    assert len(set(texts)) == len(texts)
    cold: list[dict[str, Any]] = [{"temperature": 1e-4}, {"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}]
    for options in cold:
        assert str(written(path, module, settled(**options))) == texts[0], options


def probabilities(logits: np.ndarray[Any, Any], seen: set[int], options: SamplingOptions) -> np.ndarray[Any, Any]:
    """The distribution that the options describe, written down a second time."""
    for token in seen if options.repetition_penalty != 1 else ():
        logits[token] *= options.repetition_penalty if logits[token] < 0 else 1 / options.repetition_penalty
    p = np.exp((logits - logits.max()) / options.temperature)
    p /= p.sum()
    if options.top_k:
        p[p < np.sort(p)[-options.top_k]] = 0
        p /= p.sum()
    if options.top_p:
        order = np.argsort(-p)
        p[order[np.searchsorted(np.cumsum(p[order]), options.top_p) + 1 :]] = 0
        p /= p.sum()
    if options.min_p:
        p[p < options.min_p * p.max()] = 0
    shares: np.ndarray[Any, Any] = p / p.sum()
    return shares


UNIFORMS = sample.uniforms(11, range(200_000), 1)
FILTERS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.7},
    {"temperature": 1.6},
    {"top_k": 10},
    {"top_p": 0.8},
    {"min_p": 0.05},
    {"repetition_penalty": 1.5},
    {"repetition_penalty": 1.3, "temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.02},
]


def draws_and_distribution(path: Any, drawn: dict[str, Any], exact: dict[str, Any]) -> tuple[Any, Any]:
    """Counts of 200,000 tokens drawn after one prompt by the options `drawn`, and the distribution of `exact`."""
    module, prompt = double("gpt2", vocabulary=60), torch.tensor([[5, 9]])
    more = {"rows": 20_000} if path is by_the_network else {}
    rows = path(module, prompt.expand(len(UNIFORMS), 2), settled(**drawn, new_tokens=1), 0, UNIFORMS, **more)
    with torch.no_grad():
        logits = module(prompt).logits[0, -1].numpy()
    return np.bincount(np.concatenate(rows), minlength=60), probabilities(logits, {5, 9}, settled(**exact))


def p_value(counts: Any, p: Any) -> float:
    expected = p * counts.sum()
    small = expected < 5
    pooled = np.append(expected[~small], expected[small].sum()), np.append(counts[~small], counts[small].sum())
    kept = pooled[0] > 0
    return float(chisquare(pooled[1][kept], pooled[0][kept]).pvalue)


@pytest.mark.parametrize("options", FILTERS, ids=str)
def test_tokens_are_drawn_from_the_filtered_distribution(path: Any, options: dict[str, Any]) -> None:
    counts, p = draws_and_distribution(path, options, options)
    assert not counts[p == 0].any(), "a token that the filters leave no probability was drawn"
    assert p_value(counts, p) > 0.001


def test_a_wrong_filter_would_be_noticed(path: Any) -> None:
    counts, p = draws_and_distribution(path, {"temperature": 0.9}, {})
    assert p_value(counts, p) < 1e-6
    counts, p = draws_and_distribution(path, {"top_k": 11}, {"top_k": 10})
    assert counts[p == 0].any()


def test_the_ends_of_the_distribution_are_drawn_rightly() -> None:
    impossible = float("-inf")
    scores = torch.tensor([[impossible, 0.0, impossible, 0.0, impossible]]).expand(4, 5)
    uniforms = torch.tensor([0.0, 0.5 - 2**-53, 0.5, 1 - 2**-53], dtype=torch.double)
    assert ancestral(scores, uniforms).tolist() == [1, 1, 3, 3]


def test_further_processors_are_applied(path: Any) -> None:
    class Only(torch.nn.Module):
        def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            return torch.full_like(scores, float("-inf")).index_fill(1, torch.tensor([42]), 0.0)

    for options in (settled(decoder="greedy"), settled(), settled(decoder="beam")):
        rows = written(path, double("gpt2"), options, processors=LogitsProcessorList([Only()]))
        assert rows == [[42] * 20] * 6


def test_a_stream_is_a_function_of_seed_document_and_position() -> None:
    all_of_them = sample.uniforms(5, range(8), 30)
    assert (sample.uniforms(5, [6, 2], 30) == all_of_them[[6, 2]]).all()
    assert (sample.uniforms(5, range(8), 10) == all_of_them[:, :10]).all()
    many = np.concatenate([sample.uniforms(seed, range(20_000), 2) for seed in (0, 1, 2**63 - 1)])
    assert many.size - len(np.unique(many)) == 0, "duplicates"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = tiny("llama", tmp_path_factory.mktemp("tiny") / "llama", vocabulary=280)
    loaded = load_pretrained(ModelOptions(name=str(folder)))
    loaded.module.double()
    return loaded


def rows_of(lengths: list[int], eos_at_end: bool = False) -> Corpus:
    rng = np.random.default_rng(0)
    rows = [rng.integers(3, 280, n) for n in lengths]
    for row in rows if eos_at_end else []:
        row[-1] = 2
    return Corpus.of_tokens(rows, HUMAN)


def corpus(
    model: LanguageModel, human: Corpus, bos: bool = True, previous: Corpus | None = None, **options: Any
) -> Corpus:
    given = settled(**{"batch_size": 7, **options})
    with tempfile.TemporaryDirectory() as bench:
        return sample.sample(model, human, previous or human, 4, 99, given, bos, COMPUTE, Silent(), Path(bench))


HUMAN_ROWS = rows_of([16] * 20)


def test_a_corpus_has_the_size_of_the_human_one_unless_told(model: LanguageModel) -> None:
    made = corpus(model, HUMAN_ROWS)
    assert made.lengths.tolist() == [20] * 16 and set(made.generation) == {4} and set(made.prompt) == {-1}
    assert len(corpus(model, HUMAN_ROWS, tokens=21)) == 2
    assert made.texts is not None and len(set(made.texts)) == 16


@pytest.mark.parametrize("until_eos", [False, True])
@pytest.mark.parametrize("prompt", [{}, {"prompt": "human", "prompt_tokens": 5}])
def test_a_corpus_does_not_depend_on_the_batch_size(
    model: LanguageModel, until_eos: bool, prompt: dict[str, Any]
) -> None:
    made = [corpus(model, HUMAN_ROWS, until_eos=until_eos, batch_size=size, **prompt) for size in (1, 7, 64)]
    for other in made[1:]:
        assert other.values.tolist() == made[0].values.tolist()
        assert other.lengths.tolist() == made[0].lengths.tolist()
        assert other.prompt.tolist() == made[0].prompt.tolist()


@pytest.mark.parametrize("until_eos", [False, True])
def test_a_corpus_does_not_depend_on_its_shards(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, until_eos: bool
) -> None:
    whole = corpus(model, HUMAN_ROWS, until_eos=until_eos, tokens=1500)
    shards: list[Path] = []
    write_shard = sample._write_shard

    def spy(file: Path, documents: Any) -> None:
        shards.append(file)
        write_shard(file, documents)

    monkeypatch.setattr(sample, "_write_shard", spy)
    for size, at_least in ((100, 10), (600, 3)):
        monkeypatch.setattr(sample, "SHARD", size)
        shards.clear()
        made = corpus(model, HUMAN_ROWS, until_eos=until_eos, tokens=1500)
        assert len(shards) >= at_least
        assert made.values.tolist() == whole.values.tolist() and made.lengths.tolist() == whole.lengths.tolist()


def test_documents_end_at_eos_and_only_where_asked(model: LanguageModel) -> None:
    made = corpus(model, HUMAN_ROWS, until_eos=True, tokens=1500, new_tokens=40)
    rows = [made.tokens(i).tolist() for i in range(len(made))]
    short = [row for row in rows if len(row) < 40]
    assert len(short) > 1 and all(row[-1] == 2 for row in short)
    assert all(2 not in row[:-1] for row in rows)
    assert made.lengths[:-1].sum() < 1500 <= made.lengths.sum(), "no more documents than the budget takes"
    ongoing = corpus(model, HUMAN_ROWS, tokens=1500, new_tokens=40)
    assert set(ongoing.lengths) == {40}
    assert any(2 in ongoing.tokens(i)[:-1] for i in range(len(ongoing))), "EOS is a token like others"
    # the same document, cut at its end or not
    assert rows[0] == ongoing.tokens(0).tolist()[: len(rows[0])]


def test_prompts_are_the_leading_tokens_of_rows_that_are_long_enough(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[int]] = []
    prompts_given = sample.Writer._prompts

    def spy(self: Any, documents: Any, device: Any) -> torch.Tensor:
        chosen = prompts_given(self, documents, device)
        given.extend(chosen.tolist())
        return chosen

    monkeypatch.setattr(sample.Writer, "_prompts", spy)
    human, previous = rows_of([4, 9, 8, 3, 12]), rows_of([8, 8])
    made = corpus(model, human, prompt="human", prompt_tokens=8, tokens=100)
    assert made.prompt.tolist() == [1, 2, 4, 1, 2]
    assert given == [[1, *human.tokens(row)[:8]] for row in made.prompt]
    assert made.lengths.tolist() == [20] * 5, "the prompt is no part of the row"
    given.clear()
    made = corpus(model, human, bos=False, previous=previous, prompt="previous", prompt_tokens=8, tokens=30)
    assert given == [previous.tokens(0).tolist(), previous.tokens(1).tolist()] and made.prompt.tolist() == [0, 1]
    with pytest.raises(UserError, match="no row of the human corpus has 13 tokens"):
        corpus(model, human, prompt="human", prompt_tokens=13)


def test_a_document_that_ends_with_its_prompt_is_not_continued(model: LanguageModel) -> None:
    human = rows_of([8, 9, 8], eos_at_end=True)
    made = corpus(model, human, prompt="human", prompt_tokens=8, until_eos=True, tokens=60)
    assert set(made.prompt) == {1}


@pytest.mark.parametrize("until_eos", [False, True])
def test_memory_that_runs_out_halves_the_batch_and_loses_no_document(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, until_eos: bool
) -> None:
    lines: list[str] = []

    class Listening(Silent):
        def say(self, line: str) -> None:
            lines.append(line)

    prompts_given = sample.Writer._prompts

    def small(self: Any, documents: Any, device: Any) -> torch.Tensor:
        if len(documents) > 5:
            raise torch.OutOfMemoryError("out of memory")
        return prompts_given(self, documents, device)

    whole = corpus(model, HUMAN_ROWS, until_eos=until_eos)
    monkeypatch.setattr(sample.Writer, "_prompts", small)
    options = settled(batch_size=16, until_eos=until_eos)
    made = sample.sample(model, HUMAN_ROWS, HUMAN_ROWS, 4, 99, options, True, COMPUTE, Listening(), tmp_path)
    assert made.values.tolist() == whole.values.tolist()
    assert set(lines) == {f"sample: out of memory, going on with batches of {n}" for n in (8, 4)}


def test_memory_that_runs_out_on_a_cpu_halves_the_batch_too() -> None:
    def work(size: int) -> int:
        return size if size < 3 else torch.empty(size << 50).numel()

    assert shrinking(work, 16, Silent(), "sample") == (2, 2)
    with pytest.raises(UserError, match="not even a batch of one"):
        shrinking(lambda size: torch.empty(size << 50), 4, Silent(), "sample")
    with pytest.raises(RuntimeError, match="shapes"):
        shrinking(lambda size: torch.ones(2, 3) @ torch.ones(2, 3), 4, Silent(), "sample")


def test_the_batch_follows_from_the_memory(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, options = torch.device("cpu"), settled(new_tokens=512)

    def size(precision: str = "float32", **changes: Any) -> int:
        return sample.batch_size(model.module.config, options.model_copy(update=changes), precision, cpu)

    sizes = []
    for available in (1, 2**24, 2**26, 2**28, 2**40):
        monkeypatch.setattr(devices, "_available", lambda available=available: available)
        sizes.append(size())
    assert sizes[0] == 1 and sizes[-1] == 512 and sizes == sorted(set(sizes))
    monkeypatch.setattr(devices, "_available", lambda: 2**26)
    assert size("bfloat16") > size() > size(beams=5)


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(devices, "CGROUPS", ((limit, used),))
    free = devices._available()
    assert free > 2**20
    limit.write_text("max\n")
    used.write_text("300000\n")
    assert devices._available() > 2**20
    limit.write_text("800000\n")
    assert devices._available() == 500_000


def test_a_tall_head_is_multiplied_by_slices() -> None:
    torch.manual_seed(0)
    for rows in (8 * shapes.SLICE, 8 * shapes.SLICE + 1, 9 * shapes.SLICE + 7):
        layer = torch.nn.Linear(16, rows, bias=False)
        product = shapes._product(layer, dtype=torch.float32, fitted=False)
        for x in (torch.randn(3, 16), torch.randn(2, 5, 16)):
            with torch.inference_mode():
                torch.testing.assert_close(product(x), layer(x))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_writes_nearly_the_same(precision: str) -> None:
    module = tiny_module("gpt2")
    job = Job(lambda n: prompts(6)[list(n)], 8, None, None, decoding.chooser(settled(decoder="greedy")), None)
    texts = []
    for name in (precision, "float32"):
        network = network_of(module, getattr(torch, name))
        assert network is not None and network.dtype == getattr(torch, name)
        with torch.inference_mode():
            texts.append(np.array([row for _, row in write(network, job, range(6), 6, None)]))
    assert (texts[0] == texts[1]).mean() > 0.6


def test_a_killed_step_goes_on_from_its_shards(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sample, "SHARD", 300)
    options = settled(batch_size=7, until_eos=True, tokens=1500)
    arguments = (model, HUMAN_ROWS, HUMAN_ROWS, 4, 99, options, True, COMPUTE, Silent())
    (tmp_path / "whole").mkdir()
    whole = sample.sample(*arguments, tmp_path / "whole")
    shards = sorted((tmp_path / "whole").iterdir())
    assert len(shards) >= 5
    bench = tmp_path / "killed"
    bench.mkdir()
    for shard in shards[:3]:
        (bench / shard.name).write_bytes(shard.read_bytes())
    damaged = bytearray(shards[2].read_bytes())
    damaged[len(damaged) // 8] ^= 4
    (bench / shards[2].name).write_bytes(damaged)
    written: list[int] = []
    really = sample.Writer.write

    def spy(self: Any, documents: Any, advance: Any) -> Any:
        written.append(documents[0])
        return really(self, documents, advance)

    monkeypatch.setattr(sample.Writer, "write", spy)
    again = sample.sample(*arguments, bench)
    assert again.values.tolist() == whole.values.tolist()
    assert [f"documents_{first:09d}.parquet" for first in written] == [shard.name for shard in shards[2:]]
    assert [file.read_bytes() for file in sorted(bench.iterdir())] == [file.read_bytes() for file in shards]


def test_no_two_documents_share_a_stream(model: LanguageModel) -> None:
    made = corpus(model, HUMAN_ROWS, tokens=4000, batch_size=64)
    assert made.texts is not None and len(set(made.texts)) == len(made)


def test_texts_from_a_checkpoint(tmp_path: Path) -> None:
    folder = str(tiny("gpt2", tmp_path / "gpt2"))
    texts = sample.sample_texts(folder, 3, SamplingOptions(new_tokens=12), seed=1)
    assert len(texts) == 3 == len(set(texts))
    assert texts == sample.sample_texts(folder, 3, SamplingOptions(new_tokens=12), seed=1)
    assert texts != sample.sample_texts(folder, 3, SamplingOptions(new_tokens=12), seed=2)
    assert len(sample.sample_texts(folder, 1, SamplingOptions(decoder="beam"), seed=1)) == 1
    for options, n, message in (
        ({"new_tokens": 65}, 1, "can read 64"),
        ({}, 0, "from 1 on"),
        ({"prompt": "human"}, 1, "prompt"),
    ):
        with pytest.raises(UserError, match=message):
            sample.sample_texts(folder, n, SamplingOptions(**options), seed=1)
