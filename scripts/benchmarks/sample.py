"""Writing a corpus: tokens a second, against transformers' `generate` and CTranslate2."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from benchmarks.racing import Row, Settings, Side, race, say
from lmcollapse.substrates.causal_lm.models import LanguageModel
from lmcollapse.substrates.causal_lm.options import ComputeOptions, SamplingOptions, TrainOptions
from lmcollapse.substrates.causal_lm.sample import Writer
from lmcollapse.types import Silent

BATCHES = (32, 64, 128, 256, 512)
"""Every side is timed at the best of these."""


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


Make = Callable[[int, int], Callable[[], object]]
"""`make(batch, documents)`: the work of a side."""


def ours(shape: Shape, model: LanguageModel, precision: str, batch: int, documents: int) -> Callable[[], object]:
    """The project's own sampler."""
    options = SamplingOptions(
        decoder="beam" if shape.beams else "ancestral",
        beams=shape.beams,
        new_tokens=shape.new,
        until_eos=False,
        batch_size=batch,
    )
    compute = ComputeOptions(device=shape.device, precision=precision)  # type: ignore[arg-type]
    writer = Writer(model, shape.prompts(), options.settled(TrainOptions()), compute, 0, Silent())
    return lambda: len(writer.write(range(documents), lambda tokens: None))


def transformers(
    shape: Shape, model: LanguageModel, precision: str, batch: int, documents: int
) -> Callable[[], object]:
    """`generate` of transformers."""
    module: Any = model.module
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

    def work() -> None:
        with torch.inference_mode(), torch.autocast(shape.device, torch.bfloat16, enabled=precision == "bfloat16"):
            for first in range(0, documents, batch):
                some = prompts[first : min(first + batch, documents)]
                module.generate(some, attention_mask=torch.ones_like(some), generation_config=config)

    return work


def ctranslate2(shape: Shape, folder: Path, precision: str, batch: int, documents: int) -> Callable[[], object]:
    """CTranslate2's generator."""
    generator = importlib.import_module("ctranslate2").Generator(
        str(folder), device=shape.device, compute_type=precision, intra_threads=torch.get_num_threads()
    )
    prompts = [[f"t{i}" for i in row] for row in shape.prompts()[:documents].tolist()]

    def work() -> None:
        generator.generate_batch(
            prompts,
            max_batch_size=batch,
            beam_size=shape.beams or 1,
            max_length=shape.new,
            min_length=shape.new,
            sampling_topk=1 if shape.beams else 0,
            include_prompt_in_result=False,
        )

    return work


def converted(shape: Shape, model: LanguageModel, folder: Path) -> Path:
    """The model in CTranslate2's format."""
    converters = importlib.import_module("ctranslate2.converters")
    model.module.save_pretrained(folder / "model")
    model.tokenizer.save_pretrained(folder / "model")
    converters.TransformersConverter(str(folder / "model")).convert(str(folder / "converted"))
    return folder / "converted"


def best(case: str, name: str, make: Make, documents: int) -> int:
    """The batch at which a side is fastest, each tried on one batch."""
    took = {}
    for batch in BATCHES:
        if batch > documents:
            continue
        work = make(batch, batch)
        began = time.perf_counter()
        work()
        took[batch] = (time.perf_counter() - began) / batch
    found = min(took, key=lambda batch: took[batch])
    say(f"  {case} · {name}: batches of {found}")
    return found


def roofline(shape: Shape, precision: torch.dtype) -> float:
    """Tokens a second that the machine's matrix rate alone would allow, measured here."""
    size = 2048
    one, other = (torch.randn(size, size, dtype=precision, device=shape.device) for _ in range(2))
    rates = []
    for _ in range(10):
        began = time.perf_counter()
        one @ other
        if shape.device == "cuda":
            torch.cuda.synchronize()
        rates.append(2 * size**3 / (time.perf_counter() - began))
    work = 2 * (12 * shape.layers * shape.width**2 + shape.width * shape.vocabulary) * (shape.beams or 1)
    return max(rates) / work


def case_of(name: str, shape: Shape, precisions: tuple[str, ...]) -> Callable[[Settings], Iterator[Row]]:
    """A case: all sides in turn, and what the matrix rate alone would allow."""

    def run(settings: Settings) -> Iterator[Row]:
        if shape.device == "cuda" and not torch.cuda.is_available():
            say(f"  {name}: skipped (no GPU)")
            return
        documents = max(BATCHES[0], round(shape.documents * settings.size))
        model = shape.model()
        with tempfile.TemporaryDirectory(prefix="lmcollapse-benchmark-") as scratch:
            makers: dict[str, Make] = {}
            for precision in precisions:
                makers[f"ours-{precision}"] = partial(ours, shape, model, precision)
                makers[f"transformers-{precision}"] = partial(transformers, shape, model, precision)
            try:
                folder = converted(shape, model, Path(scratch))
                for precision in ("float32", "int8"):
                    makers[f"ctranslate2-{precision}"] = partial(ctranslate2, shape, folder, precision)
            except ImportError as error:
                say(f"  {name} · ctranslate2: skipped ({error})")
            sides = []
            for side, make in makers.items():
                slow = 0.25 if side.startswith("transformers") and not settings.full else 1.0
                some = max(BATCHES[0], round(documents * slow))
                sides.append(Side(side, make(best(name, side, make, some), some), share=some / documents))
            rows = list(race(name, sides, settings.rounds, documents * shape.new, "tokens/s"))
        yield from rows
        for precision in precisions:
            limit = roofline(shape, getattr(torch, precision))
            value = next(row.value for row in rows if row.side == f"ours-{precision}")
            yield Row(name, f"matrix rate alone, {precision}", limit, "tokens/s", value / limit)

    return run


SMALL = partial(Shape, layers=4, width=128, heads=4, vocabulary=4096)
GPT2 = partial(Shape, layers=12, width=768, heads=12, vocabulary=50257)
BOTH = ("bfloat16", "float32")

CASES = {
    "cpu-small-ancestral": case_of("cpu-small-ancestral", SMALL(prompt=1, new=127, beams=None, documents=512), BOTH),
    "cpu-small-beam": case_of("cpu-small-beam", SMALL(prompt=64, new=64, beams=5, documents=128), BOTH),
    "cpu-124m-ancestral": case_of("cpu-124m-ancestral", GPT2(prompt=1, new=63, beams=None, documents=64), BOTH),
    "gpu-124m-ancestral": case_of(
        "gpu-124m-ancestral",
        GPT2(prompt=64, new=64, beams=None, documents=4096, device="cuda"),
        ("bfloat16",),
    ),
    "gpu-124m-beam": case_of(
        "gpu-124m-beam", GPT2(prompt=64, new=64, beams=5, documents=1024, device="cuda"), ("bfloat16",)
    ),
}
