"""One whole generation: fitted, written, scored and measured, against `Trainer`, `generate` and the usual packages."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, Trainer, TrainingArguments

from benchmarks.fit import Rows
from benchmarks.racing import Elsewhere, Row, Settings, Side, race, say
from benchmarks.self_bleu_rivals import nltk
from lmcollapse.catalog import CATALOG
from lmcollapse.config import Config, parse
from lmcollapse.loop import run
from lmcollapse.parquet import read_corpus
from lmcollapse.substrates.causal_lm.models import load_pretrained
from lmcollapse.substrates.causal_lm.options import ModelOptions

BLOCK = 128

MEASURED = ("perplexity", "distinct_n", "self_bleu")
"""What all sides measure; ours gives intervals besides."""


def configuration(words: int) -> Config:
    """One generation of a scratch model on the embedded corpus: three epochs, and as many tokens as were read."""
    return parse(
        {
            "generations": 1,
            "start": "scratch",
            "policy": "replace",
            "corpus": {"kind": "docs", "train_words": words, "heldout_words": words // 5},
            "model": {"name": "scratch", "layers": 4, "width": 128, "heads": 4, "vocabulary": 4096},
            "train": {"unit": "block", "block_size": BLOCK, "epochs": 3, "batch_size": 32, "schedule": "linear"},
            "compute": {"device": "cpu"},
            "measures": {name: None for name in CATALOG["measure"] if name not in MEASURED},
        }
    )


def ours(prepared: Path, words: int) -> None:
    """The generation itself; human text and tokenizer are there."""
    with tempfile.TemporaryDirectory(prefix="lmcollapse-benchmark-") as folder:
        out = Path(folder) / "run"
        shutil.copytree(prepared, out)
        run(configuration(words), out)


def by_packages(prepared: Path, batch: int, documents: int, bf16: bool) -> None:
    """The same by Trainer, generate, a loop of perplexities, counted n-grams and NLTK."""
    model = load_pretrained(ModelOptions(name=str(prepared / "base")))
    module: Any = model.module
    train, heldout = (read_corpus(prepared / "rows" / f"{part}.parquet") for part in ("train", "heldout"))
    blocks = train.values.reshape(-1, BLOCK).astype("int64")
    half = partial(torch.autocast, "cpu", torch.bfloat16, enabled=bf16)
    with tempfile.TemporaryDirectory(prefix="lmcollapse-benchmark-") as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=3,
            per_device_train_batch_size=32,
            learning_rate=1e-3,
            weight_decay=0.1,
            bf16=bf16,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
        )
        Trainer(model=module, args=arguments, train_dataset=Rows(blocks)).train()
    module.eval()
    bos = model.tokenizer.bos_token_id
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True, top_k=0, max_new_tokens=BLOCK, min_new_tokens=BLOCK, eos_token_id=None, pad_token_id=0
    )
    written: list[list[int]] = []
    with torch.inference_mode(), half():
        while len(written) < len(blocks):
            starts = torch.full((min(batch, len(blocks) - len(written)), 1), bos)
            found = module.generate(starts, attention_mask=torch.ones_like(starts), generation_config=config)
            written += found[:, 1:].tolist()
    scored = [heldout.tokens(row).tolist() for row in range(len(heldout))]
    with half():
        for rows in (scored, written):
            perplexity(module, rows, bos, batch)
    texts = [str(model.tokenizer.decode(ids)).split() for ids in written]
    for n in (1, 2, 3, 4):
        grams = Counter(tuple(words[i : i + n]) for words in texts for i in range(len(words) - n + 1))
        assert 0 < len(grams) <= sum(grams.values())
    nltk(texts[:documents], documents)


def perplexity(module: Any, rows: list[list[int]], bos: int, batch: int) -> float:
    """Mean over tokens, rows padded to the longest of a batch and cut at what the model can read."""
    total = count = 0.0
    with torch.inference_mode():
        for first in range(0, len(rows), batch):
            some = [[bos, *row][: module.config.n_positions] for row in rows[first : first + batch]]
            width = max(map(len, some))
            ids = torch.tensor([row + [0] * (width - len(row)) for row in some])
            counted = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in some])[:, 1:].bool()
            losses = torch.nn.functional.cross_entropy(
                module(ids).logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none"
            )
            total += float(losses[counted].sum())
            count += float(counted.sum())
    return math.exp(total / count)


def small(settings: Settings) -> Iterator[Row]:
    """All sides in turn, from human text that is ready."""
    words = max(2000, round(20_000 * settings.size))
    with tempfile.TemporaryDirectory(prefix="lmcollapse-benchmark-") as folder:
        prepared = Path(folder) / "prepared"
        run(configuration(words), prepared)
        for made in (*prepared.glob("generation_*"), prepared / "reference"):
            shutil.rmtree(made)
        (prepared / "metrics.jsonl").unlink()
        documents = 200  # as many as our self-BLEU looks at
        rows = len(read_corpus(prepared / "rows" / "train.parquet"))
        say(f"  generation-cpu-small: {rows} blocks of {BLOCK} tokens")
        works = {
            "ours": Elsewhere(partial, ours, prepared, words),
            "trainer": Elsewhere(partial, by_packages, prepared, 8, documents, False),
            "trainer-bf16": Elsewhere(partial, by_packages, prepared, 256, documents, True),
        }
        for work in works.values():
            work()  # once for imports
        sides = [Side(side, work, needs="nltk" if side != "ours" else None) for side, work in works.items()]
        yield from race("generation-cpu-small", sides, settings.rounds)
        for work in works.values():
            work.close()


def nature(settings: Settings) -> Iterator[Row]:
    """The Nature protocol at 135M: five epochs over 2.4M tokens, as many written with five beams; random weights."""
    if not torch.cuda.is_available():
        say("  nature-gpu-135m: skipped (no GPU)")
        return
    import numpy as np

    from benchmarks.fit import model_of
    from benchmarks.sample import Shape
    from lmcollapse.substrates.causal_lm.blocks import Blocks
    from lmcollapse.substrates.causal_lm.fit import fit
    from lmcollapse.substrates.causal_lm.options import ComputeOptions, SamplingOptions, TrainOptions
    from lmcollapse.substrates.causal_lm.sample import Writer
    from lmcollapse.types import Silent

    shape = Shape(
        12, 768, 12, 50257, prompt=64, new=64, beams=5, documents=round(37_500 * settings.size), device="cuda"
    )
    tokens = np.random.default_rng(0).integers(1, shape.vocabulary, (shape.documents, 65), dtype=np.int32)
    compute = ComputeOptions(device="cuda", precision="bfloat16")

    def work() -> None:
        model = shape.model()
        model.module = model_of(shape, 128, 0)
        train = TrainOptions(block_size=64, epochs=5, batch_size=128, learning_rate=2e-5)
        fit(model.module, Blocks(tokens[:, :-1], tokens[:, 1:]), train, compute, 0, Silent())
        options = SamplingOptions(decoder="beam", beams=5, new_tokens=64, until_eos=False).settled(TrainOptions())
        writer = Writer(model, tokens[:, :64], options, compute, 0, Silent())
        writer.write(range(shape.documents), lambda written: None)

    yield from race("nature-gpu-135m", [Side("ours", work)], settings.rounds)


CASES = {"generation-cpu-small": small, "nature-gpu-135m": nature}
