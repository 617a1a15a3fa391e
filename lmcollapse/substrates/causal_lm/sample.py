"""A generation writes its corpus: documents 0, 1, 2, … until there are as many tokens as wanted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from transformers import LogitsProcessorList, PretrainedConfig

from lmcollapse import processes
from lmcollapse.files import keep, kept
from lmcollapse.substrates.causal_lm.backends import Backend, backend_of, check_backend
from lmcollapse.substrates.causal_lm.blocks import to_texts
from lmcollapse.substrates.causal_lm.decoding import chooser, continue_prompts, shaped, spoken
from lmcollapse.substrates.causal_lm.devices import (
    autocast,
    batch_that_fits,
    decided,
    dtype_of,
    enter,
    memory,
    products_in,
    shrinking,
)
from lmcollapse.substrates.causal_lm.models import (
    LanguageModel,
    boundaries,
    check_positions,
    context,
    load_pretrained,
    trained_positions,
)
from lmcollapse.substrates.causal_lm.network import Network
from lmcollapse.substrates.causal_lm.options import ComputeOptions, ModelOptions, SamplingOptions, TrainOptions
from lmcollapse.substrates.causal_lm.shapes import network_of
from lmcollapse.substrates.causal_lm.stepping import Job, Tokens
from lmcollapse.substrates.causal_lm.watermark import processor
from lmcollapse.substrates.causal_lm.writing import write
from lmcollapse.types import Corpus, Emptied, Floats, Ints, Progress, Silent, UserError

SHARD = 1 << 20
"""Tokens that are written before they are put aside: a killed step loses no more."""

PREVIEW = 128
"""Tokens of a document of `sample_texts`, where neither the caller nor the model says how many."""


def uniforms(seed: int, documents: Sequence[int] | range, tokens: int) -> Floats:
    """`(documents, tokens)` random numbers in [0, 1), each a function of (seed, document, position) alone.

    Philox is counter-based (Salmon et al., SC 2011): seed and document are its key, the position its counter. So what
    a document says does not depend on which others are written beside it.
    """
    keys = [np.array([seed, document], np.uint64) for document in documents]
    return np.array([np.random.Generator(np.random.Philox(key=key)).random(tokens) for key in keys])


def prompts_of(rows: Corpus, options: SamplingOptions, eos: int) -> tuple[Ints, Ints]:
    """The leading tokens of every row that is long enough, `(rows, prompt_tokens)`, and which rows these are.

    Where documents are written until their end, a row that ends with its prompt has no continuation and is left out.
    """
    length = options.prompt_tokens
    assert length is not None, "options are not checked"
    starts = {row: rows.tokens(row)[:length] for row in np.flatnonzero(rows.lengths >= length).tolist()}
    starts = {row: start for row, start in starts.items() if not (options.until_eos and start[-1] == eos)}
    if not starts:
        raise Emptied(
            f"sampling.prompt: no row of the {options.prompt} corpus has {length} tokens to prompt with (the longest "
            f"has {rows.lengths.max(initial=0)}); lower sampling.prompt_tokens",
            "corpus",
        )
    return np.array(list(starts.values()), np.int64), np.array(list(starts), np.int64)


def sample(
    model: LanguageModel,
    human: Corpus,
    previous: Corpus,
    generation: int,
    seed: int,
    options: SamplingOptions,
    bos: bool,
    compute: ComputeOptions,
    progress: Progress,
    bench: Path,
) -> Corpus:
    """A corpus of at least as many tokens as wanted, and no document more than that takes. Raises Speechless
    where the model has no distribution to draw from.

    options : settled ones; without `tokens`, as many as the human training part has.
    bos : whether BOS stands before a prompt, as it stood before the rows of the fit.
    bench : where shards of finished documents are kept until the corpus is whole.
    """
    begin, end = boundaries(model.tokenizer)
    prompts, rows = np.array([[begin]]), np.array([-1])
    if options.prompt != "none":
        prompts, rows = prompts_of(human if options.prompt == "human" else previous, options, end)
        prompts = np.insert(prompts, 0, begin, axis=1) if bos else prompts
    wanted = options.tokens or int(human.lengths.sum())
    writer = Writer(model, prompts, options, compute, seed, progress)

    def documents() -> Iterator[Tokens]:
        count = written = 0
        while written < wanted:
            size = next_shard(count, written, wanted, options)
            for document in _shard(bench, count, size, writer, advance):
                yield document
                count, written = count + 1, written + len(document)
                if written >= wanted:
                    break

    with closing(writer), progress.stage("sample", total=wanted, unit="tokens") as advance:
        corpus = Corpus.of_tokens(documents(), generation)
    origins = rows[np.arange(len(corpus)) % len(rows)]
    return replace(corpus, texts=to_texts(model.tokenizer, corpus.rows()), prompt=origins)


def next_shard(documents: int, written: int, wanted: int, options: SamplingOptions) -> int:
    """How many documents the next shard has: what it surely takes at first, then what it takes by their length so far.

    A shard starts and ends with an empty batch, and its size follows from the shards before it alone, so that a corpus
    whose writing was interrupted is the same as any other.
    """
    assert options.new_tokens is not None, "options are not settled"
    mean = written / documents if documents else options.new_tokens
    return max(1, min(math.ceil((wanted - written) / mean), math.ceil(SHARD / mean)))


def _shard(bench: Path, first: int, size: int, writer: Writer, advance: Callable[[int], None]) -> list[Tokens]:
    """Documents `first` and after, from the bench where they are there already; processes share them."""
    file, together = bench / f"documents_{first:09d}.parquet", processes.count()
    found = processes.agree(_read_shard(file) if processes.is_first() else None)
    if found is not None:
        advance(sum(map(len, found)))
        return found
    mine = range(first + processes.number(), first + size, together)
    parts = processes.gathered(writer.write(mine, lambda tokens: advance(together * tokens)))
    documents = [parts[document % together][document // together] for document in range(size)]
    spoken(documents)  # of all processes, so that all of them end here
    if processes.is_first():
        _write_shard(file, documents)
    return documents


def _write_shard(file: Path, documents: Sequence[Tokens]) -> None:
    offsets = np.concatenate([[0], np.cumsum([len(document) for document in documents])]).astype(np.int64)
    tokens = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(documents)))
    content = BytesIO()
    pq.write_table(pa.table({"tokens": tokens}), content, compression="zstd")
    keep(file, content.getvalue())


def _read_shard(file: Path) -> list[Tokens] | None:
    """A shard, if it is there and whole."""
    content = kept(file)
    if content is None:
        return None
    column = pq.read_table(pa.BufferReader(content)).combine_chunks().column("tokens").chunk(0)
    ends = np.cumsum(np.asarray(column.value_lengths(), np.int64))
    return np.split(np.asarray(column.flatten(), np.int32), ends[:-1])


@dataclass(frozen=True)
class Writer:
    """Writes documents by number: what document i says follows from the model, the seed and i.

    prompts : `(prompts, positions)` token ids, BOS among them; document i continues prompt i, and after the last
        prompt the first again.
    options : settled ones.
    """

    model: LanguageModel
    prompts: Ints
    options: SamplingOptions
    compute: ComputeOptions
    seed: int
    progress: Progress

    @property
    def _precision(self) -> str:
        return self.options.precision or decided(self.compute).precision

    @cached_property
    def _network(self) -> Network | None:
        """The fast path, for the shapes that have one."""
        if self.options.watermark is not None:
            return None
        device = enter(self.compute)
        module = self.model.module.to(device).eval()  # type: ignore[arg-type]
        dtype = dtype_of(self._precision)
        # float32 stands for the precision that the weights have
        return network_of(module, module.dtype if dtype == torch.float32 else dtype)

    @cached_property
    def _backend(self) -> Backend | None:
        """Another package that writes, where the options name one."""

        def prompts(documents: Sequence[int]) -> list[list[int]]:
            return self._prompts(documents, torch.device("cpu")).tolist()

        return backend_of(self.model, prompts, self.options, self.compute, self.seed)

    def close(self) -> None:
        """Give back what another package that wrote has taken."""
        backend = self.__dict__.get("_backend")
        if backend is not None:
            backend.close()

    def write(self, documents: Sequence[int] | range, advance: Callable[[int], None]) -> list[Tokens]:
        """These documents, in their order."""
        if not documents:
            return []
        device = enter(self.compute)
        done: dict[int, Tokens] = {}
        size = self.options.batch_size or batch_size(self.model.module.config, self.options, self._precision, device)

        def rest(rows: int) -> None:
            """Go on with what is not written yet, so many rows at a time; nothing that is finished is written again."""
            left = [document for document in documents if document not in done]
            with torch.inference_mode(), products_in(self._precision):
                for document, tokens in self._finished(left, rows, device, advance):
                    done[document] = tokens

        shrinking(rest, size, self.progress, "sample")
        return [done[document] for document in documents]

    def _finished(
        self, documents: Sequence[int], rows: int, device: torch.device, advance: Callable[[int], None]
    ) -> Iterator[tuple[int, Tokens]]:
        options = self.options
        assert options.new_tokens is not None, "options are not settled"
        _, eos = boundaries(self.model.tokenizer)
        draws = options.decoder == "ancestral"
        if self._backend is not None:
            for document, tokens in self._backend.write(documents, rows):
                advance(len(tokens))
                yield document, tokens
            return
        if self._network is None:
            yield from self._by_the_module(documents, rows, device, advance)
            return
        job = Job(
            prompts=lambda numbers: self._prompts(numbers, device),
            new_tokens=options.new_tokens,
            stop=eos if options.until_eos else None,
            shape=shaped(options),
            choose=chooser(options),
            uniforms=(lambda numbers: self._uniforms(numbers, device)) if draws else None,
            advance=advance,
        )
        yield from write(self._network, job, documents, rows, options.beams)

    def _by_the_module(
        self, documents: Sequence[int], rows: int, device: torch.device, advance: Callable[[int], None]
    ) -> Iterator[tuple[int, Tokens]]:
        """The same by the module's own forward pass, for shapes without a fast path."""
        module = self.model.module.to(device).eval()  # type: ignore[arg-type]
        _, eos = boundaries(self.model.tokenizer)
        assert self.options.new_tokens is not None
        watermark = self.options.watermark
        for first in range(0, len(documents), rows):
            some = documents[first : first + rows]
            draws = uniforms(self.seed, some, self.options.new_tokens) if self.options.decoder == "ancestral" else None
            with autocast(self._precision, device):
                marks = [] if watermark is None else [processor(watermark, module.config, device)]
                written = continue_prompts(
                    module, self._prompts(some, device), self.options, eos, draws, LogitsProcessorList(marks)
                )
            advance(sum(map(len, written)))
            yield from zip(some, written, strict=True)

    def _prompts(self, documents: Sequence[int], device: torch.device) -> Tensor:
        return torch.from_numpy(self.prompts[np.array(documents) % len(self.prompts)]).to(device)

    def _uniforms(self, documents: Sequence[int], device: torch.device) -> Tensor:
        assert self.options.new_tokens is not None
        return torch.from_numpy(uniforms(self.seed, documents, self.options.new_tokens)).to(device)


def batch_size(config: PretrainedConfig, options: SamplingOptions, precision: str, device: torch.device) -> int:
    """Documents that fit into memory at once."""
    text = config.get_text_config()
    beams = options.beams or 1
    places = 1 + (options.prompt_tokens or 0) + beams * (options.new_tokens or 0)  # beams share their prompt
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = heads * text.hidden_size // text.num_attention_heads
    cache = places * text.num_hidden_layers * width * 2 * dtype_of(precision).itemsize
    work = 50 * text.vocab_size + 40 * text.hidden_size  # logits, as floats and as whole numbers; states of a layer
    most = 4096 if device.type == "cuda" else 512  # beyond it nothing was gained
    return batch_that_fits(cache + beams * work, memory(device), most)


def sample_texts(
    checkpoint: str,
    n: int,
    options: SamplingOptions,
    seed: int,
    *,
    device: str = "auto",
    trust_remote_code: bool = False,
) -> list[str]:
    """What a model writes from nothing: `n` documents, for a person to look at.

    checkpoint : a model folder or a hub id.
    options : `new_tokens` are by default as many as the model was trained on, at most PREVIEW for pretrained models.
    """
    if n < 1:
        raise UserError(f"{n} documents are wanted; give a number from 1 on")
    if options.prompt != "none":
        raise UserError(
            f"sampling.prompt is {options.prompt}, and there is no corpus to prompt with here; give prompt: none"
        )
    model = load_pretrained(ModelOptions(name=checkpoint, trust_remote_code=trust_remote_code))
    config = model.module.config
    length = options.new_tokens or trained_positions(config) or min(PREVIEW, context(config) or PREVIEW)
    # vLLM wants a place for the last token too, which is never read
    check_positions(config, length + (options.backend == "vllm"), "sampling.new_tokens")
    settled = options.model_copy(update={"new_tokens": length}).settled(TrainOptions())
    bos, _ = boundaries(model.tokenizer)
    compute = ComputeOptions(device=device)
    check_backend(settled, compute, config)
    with closing(Writer(model, np.array([[bos]]), settled, compute, seed, Silent())) as writer:
        return list(to_texts(model.tokenizer, spoken(writer.write(range(n), lambda tokens: None))))
