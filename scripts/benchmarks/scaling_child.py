"""One run of a language-model experiment without its model, in a process of its own: what each step took, as JSON.

Everything but the arithmetic of the model is the project's own: reading, splitting, the tokenizer, rows, the policy's
choice, blocks, corpora on disk, drift, measures, hashes. In the place of a fit the blocks are made and the base
model is kept; what is written are the human rows in another order; a score is a number drawn at random.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure_child import peak
from lmcollapse.config import parse
from lmcollapse.loop import run
from lmcollapse.store import Artefact, Run
from lmcollapse.substrates.causal_lm import CausalLM
from lmcollapse.substrates.causal_lm.blocks import training_blocks
from lmcollapse.substrates.causal_lm.models import LanguageModel, boundaries
from lmcollapse.types import Corpus, Progress, Scores, Start, TokenScores


class NoModel(CausalLM):
    """A causal language model that is neither fitted nor asked."""

    def fit(
        self,
        base: Path,
        train: Corpus,
        start: Start,
        previous: Path | None,
        seed: int,
        progress: Progress,
        bench: Path | None = None,
        passes: float = 1.0,
    ) -> LanguageModel:
        """The base model, once the blocks of a fit were made."""
        blocks = training_blocks(train, self.train, *boundaries(self._tokenizer(base)), seed)
        assert len(blocks)
        return self.load(base)

    def sample(
        self,
        model: LanguageModel,
        human: Corpus,
        previous: Corpus,
        generation: int,
        seed: int,
        progress: Progress,
        bench: Path,
    ) -> Corpus:
        """The human rows, as many drawn with replacement: what a perfect model that resamples would write."""
        drawn = human.take(np.random.default_rng(seed).integers(len(human), size=len(human)))
        return Corpus.of_tokens(drawn.rows(), generation, texts=drawn.texts)

    def score(self, model: LanguageModel, corpus: Corpus, progress: Progress, *, by_token: bool = False) -> Scores:
        """Random nats."""
        assert corpus.offsets is not None
        nats = 5 * np.random.default_rng(len(corpus)).standard_exponential(len(corpus.values), np.float32)
        sums = np.add.reduceat(nats, corpus.offsets[:-1]).astype(np.float64)
        every = TokenScores(nats, np.full(len(nats), 0.3, np.float32), nats < 1) if by_token else None
        return Scores(sums, corpus.lengths, every)


def watched(steps: list[dict[str, Any]]) -> Callable[..., Artefact[Any]]:
    """`Run.make` that notes processor time and, where the kernel can be asked to forget it, the peak of memory."""
    make, forget = Run.make, Path("/proc/self/clear_refs")

    def making(self: Run, name: str, *given: Any, **named: Any) -> Artefact[Any]:
        if forget.exists():
            forget.write_text("5", encoding="ascii")
        began = time.process_time()
        artefact = make(self, name, *given, **named)
        size = sum(file.stat().st_size for file in artefact.path.iterdir())
        steps.append({"step": name, "seconds": time.process_time() - began, "peak": peak(), "bytes": size})
        return artefact

    return making


def main(given: str, out: str) -> None:
    """Run, and print."""
    config = parse(json.loads(given))
    steps: list[dict[str, Any]] = []
    Run.make = watched(steps)  # type: ignore[method-assign]
    run(config, Path(out))
    facts = json.loads((Path(out) / "rows" / "step.json").read_text(encoding="utf-8"))["facts"]
    print(json.dumps({"steps": steps, "tokens": facts["train"]["tokens"]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
