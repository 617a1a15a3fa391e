"""Writing a corpus: tokens a second, against transformers' `generate` and CTranslate2."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from benchmarks.racing import Elsewhere, Row, Settings, Side, race, say
from lmcollapse.substrates.causal_lm.models import LanguageModel
from lmcollapse.substrates.causal_lm.options import ComputeOptions, SamplingOptions, TrainOptions
from lmcollapse.substrates.causal_lm.sample import Writer
from lmcollapse.types import Silent

BATCHES = {"cpu": (32, 64, 128, 256, 512), "cuda": (256, 512, 1024, 2048, 4096)}
"""Every side is timed at the best of these."""

OURS = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class Shape:
    """A GPT-2 of random weights, and what it writes."""

    layers: int
    width: int
    heads: int
    vocabulary: int
    prompt: int
    new: int
    beams: int | None
    documents: int
    device: str = "cpu"

    def model(self) -> LanguageModel:
        """The model, with a tokenizer that gives every token a name."""
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=self.vocabulary,
            n_positions=max(128, self.prompt + self.new),
            n_embd=self.width,
            n_layer=self.layers,
            n_head=self.heads,
            bos_token_id=0,
            eos_token_id=0,
        )
        words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(self.vocabulary)}, "t1"))
        tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=words, bos_token="t0", eos_token="t0", unk_token="t1"
        )
        return LanguageModel(GPT2LMHeadModel(config), tokenizer, [])

    def prompts(self) -> Any:
        """`(documents, prompt)` random tokens."""
        return np.random.default_rng(0).integers(1, self.vocabulary, (self.documents, self.prompt))


Write = Callable[[int, int], object]
"""`write(batch, documents)`: the work of a side, in a process of its own."""


def ours(shape: Shape, precision: str, backend: str = "own") -> Write:
    """The project's sampler, its own or by another package."""
    model = shape.model()
    compute = ComputeOptions(device=shape.device, precision=precision)  # type: ignore[arg-type]

    @cache
    def writer(batch: int) -> Writer:
        options = SamplingOptions(
            decoder="beam" if shape.beams else "ancestral",
            beams=shape.beams,
            new_tokens=shape.new,
            until_eos=False,
            batch_size=batch,
            backend=backend,  # type: ignore[arg-type]
        )
        return Writer(model, shape.prompts(), options.settled(TrainOptions()), compute, 0, Silent())

    return lambda batch, documents: len(writer(batch).write(range(documents), lambda tokens: None))


def transformers(shape: Shape, precision: str) -> Write:
    """`generate` of transformers."""
    module: Any = shape.model().module
    module.eval().to(shape.device)
    prompts = torch.from_numpy(shape.prompts()).to(shape.device)
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=shape.beams is None,
        top_k=0,
        num_beams=shape.beams or 1,
        max_new_tokens=shape.new,
        min_new_tokens=shape.new,
        pad_token_id=0,
    )

    def work(batch: int, documents: int) -> None:
        with torch.inference_mode(), torch.autocast(shape.device, torch.bfloat16, enabled=precision == "bfloat16"):
            for first in range(0, documents, batch):
                some = prompts[first : min(first + batch, documents)]
                module.generate(some, attention_mask=torch.ones_like(some), generation_config=config)

    return work


def ctranslate2(shape: Shape, folder: Path, precision: str) -> Write:
    """CTranslate2's generator."""
    generator = importlib.import_module("ctranslate2").Generator(
        str(folder), device=shape.device, compute_type=precision, intra_threads=torch.get_num_threads()
    )
    prompts = [[f"t{i}" for i in row] for row in shape.prompts().tolist()]

    def work(batch: int, documents: int) -> None:
        generator.generate_batch(
            prompts[:documents],
            max_batch_size=batch,
            beam_size=shape.beams or 1,
            max_length=shape.new,
            min_length=shape.new,
            sampling_topk=1 if shape.beams else 0,
            include_prompt_in_result=False,
        )

    return work


def converted(shape: Shape, folder: Path) -> Path:
    """The model in CTranslate2's format."""
    converters, model = importlib.import_module("ctranslate2.converters"), shape.model()
    model.module.save_pretrained(folder / "model")
    model.tokenizer.save_pretrained(folder / "model")
    converters.TransformersConverter(str(folder / "model")).convert(str(folder / "converted"))
    return folder / "converted"


def best(case: str, side: str, shape: Shape, write: Write, documents: int) -> int:
    """The batch at which a side is fastest, each tried on one batch."""
    took = {}
    for batch in BATCHES[shape.device]:
        if batch > documents:
            continue
        try:
            write(batch, BATCHES[shape.device][0])  # what is done once is not timed
            began = time.perf_counter()
            write(batch, batch)
        except RuntimeError as error:  # out of memory
            say(f"  {case} · {side}: no batches of {batch} ({error:.100})")
            break
        took[batch] = (time.perf_counter() - began) / batch
    found = min(took, key=lambda batch: took[batch])
    say(f"  {case} · {side}: batches of {found}")
    return found


@dataclass(frozen=True)
class Machine:
    """What the machine does at best, measured.

    products : operations a second of large matrix products, by precision.
    copies : bytes a second read and written by a large copy.
    """

    products: dict[str, float]
    copies: float


def rates(device: str) -> Machine:
    """Measure a machine."""

    def seconds(work: Callable[[], object]) -> float:
        found = []
        for _ in range(10):
            began = time.perf_counter()
            work()
            if device == "cuda":
                torch.cuda.synchronize()
            found.append(time.perf_counter() - began)
        return min(found)

    size, products = (8192 if device == "cuda" else 2048), {}
    for name, dtype in OURS.items():
        one, other = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
        products[name] = 2 * size**3 / seconds(partial(torch.matmul, one, other))
    source = torch.zeros(2**28, dtype=torch.uint8, device=device)
    return Machine(products, 2 * len(source) / seconds(partial(torch.empty_like(source).copy_, source)))


def roofline(shape: Shape, machine: Machine, precision: str, batch: int) -> float:
    """Tokens a second that the slower of products and memory would allow, were it all that has to be done.

    Products: weights and attention, and of a prompt its share. Memory: weights once a step, keys and values of all
    places so far, and logits written and read once.
    """
    beams, bytes_ = shape.beams or 1, OURS[precision].itemsize
    weights = 12 * shape.layers * shape.width**2 + shape.width * shape.vocabulary
    places = shape.prompt + shape.new / 2
    operations = 2 * (beams * weights + 12 * shape.layers * shape.width**2 * shape.prompt / shape.new)
    operations += 4 * beams * shape.layers * shape.width * places
    moved = weights * bytes_ / batch + beams * 2 * shape.vocabulary * 4
    # beams share the places of their prompt
    moved += 2 * shape.layers * shape.width * bytes_ * (shape.prompt + beams * shape.new / 2)
    return min(machine.products[precision] / operations, machine.copies / moved)


def case_of(name: str, shape: Shape, precisions: tuple[str, ...]) -> Callable[[Settings], Iterator[Row]]:
    """A case: all sides in turn; the first precision is the one that others are compared with."""

    def run(settings: Settings) -> Iterator[Row]:
        if shape.device == "cuda" and not torch.cuda.is_available():
            say(f"  {name}: skipped (no GPU)")
            return
        documents = max(BATCHES[shape.device][0], round(shape.documents * settings.size))
        with tempfile.TemporaryDirectory(prefix="lmcollapse-benchmark-") as scratch:
            makers: dict[str, tuple[str, Callable[..., Write], tuple[object, ...]]] = {}
            for precision in precisions:
                suffix = "" if precision == precisions[0] else f"-{precision}"
                makers[f"ours{suffix}"] = precision, ours, (shape, precision)
            for precision in precisions[::-1]:
                suffix = "" if precision == precisions[-1] else f"-{precision}"
                makers[f"transformers{suffix}"] = precision, transformers, (shape, precision)
            try:
                folder = converted(shape, Path(scratch))
                for precision in ("float32", "int8"):
                    makers[f"ctranslate2-{precision}"] = precision, ctranslate2, (shape, folder, precision)
            except ImportError as error:
                say(f"  {name} · ctranslate2: skipped ({error})")
            if shape.device == "cuda" and importlib.util.find_spec("vllm"):
                makers["vllm"] = precisions[0], ours, (shape, precisions[0], "vllm")
            else:
                say(f"  {name} · vllm: skipped (not installed, or no GPU)")
            machine = rates(shape.device)
            writes = {side: Elsewhere(prepare, *given) for side, (_, prepare, given) in makers.items()}
            batches = {side: best(name, side, shape, write, documents) for side, write in writes.items()}
            sides = [Side(side, partial(write, batches[side], documents)) for side, write in writes.items()]
            for row in race(name, sides, settings.rounds, documents * shape.new, "tokens/s"):
                precision, share = makers[row.side][0], None
                if precision in OURS:
                    share = row.value / roofline(shape, machine, precision, batches[row.side])
                yield replace(row, precision=precision, roofline=share)
            for write in writes.values():
                write.close()
        for precision in precisions:
            limit = roofline(shape, machine, precision, max(batches.values()))
            yield Row(name, "roofline", limit, "tokens/s", None, precision)

    return run


SMALL = partial(Shape, layers=4, width=128, heads=4, vocabulary=4096)
GPT2 = partial(Shape, layers=12, width=768, heads=12, vocabulary=50257)

CASES = {
    "cpu-small-ancestral": case_of(
        "cpu-small-ancestral", SMALL(prompt=1, new=127, beams=None, documents=512), ("bfloat16", "float32")
    ),
    "cpu-small-beam": case_of(
        "cpu-small-beam", SMALL(prompt=64, new=64, beams=5, documents=128), ("bfloat16", "float32")
    ),
    "cpu-124m-ancestral": case_of(
        "cpu-124m-ancestral", GPT2(prompt=1, new=31, beams=None, documents=128), ("float32", "bfloat16")
    ),
    "gpu-124m-ancestral": case_of(
        "gpu-124m-ancestral",
        GPT2(prompt=64, new=64, beams=None, documents=4096, device="cuda"),
        ("bfloat16",),
    ),
    "gpu-124m-beam": case_of(
        "gpu-124m-beam", GPT2(prompt=64, new=64, beams=5, documents=1024, device="cuda"), ("bfloat16",)
    ),
}
