"""What a generation writes, and what is kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lmcollapse.catalog import find
from lmcollapse.config import CurationOptions
from lmcollapse.curation import best, curated
from lmcollapse.files import local
from lmcollapse.parquet import birth, write_corpus
from lmcollapse.records import Facts
from lmcollapse.scorers import Candidates
from lmcollapse.steps.common import CORPUS, Common, Rows, corpus_in, folder_of, size
from lmcollapse.store import Artefact, step_seed
from lmcollapse.types import Corpus, Floats, Progress, Scores, UserError


class Writing(Common):
    """From a model to a corpus."""

    def sample(
        self,
        generation: int,
        models: Sequence[Artefact[Any]],
        rows: Artefact[Rows],
        corpora: Sequence[Artefact[Corpus]],
    ) -> Artefact[Corpus]:
        """The corpus that this generation writes. What came before generation 0 is the human training part."""
        if self.config.curation is not None:
            return self._curate(generation, models, self._candidates(generation, models[-1], rows, corpora))

        def write(folder: Path, progress: Progress, bench: Path) -> Facts:
            human = rows.read()[0]
            previous = corpora[-1].read() if corpora else human
            corpus = self.substrate.sample(models[-1].read(), human, previous, generation, seed, progress, bench)
            write_corpus(corpus, folder / CORPUS, self._born(generation, seed, models[-1]))
            return size(corpus)

        seed, name = self.seed(generation, "corpus"), f"{folder_of(generation)}/corpus"
        inputs = _what_prompts(models[-1], rows, corpora)
        return self.make(name, write, corpus_in, inputs, seed, bench=True, shared=True)

    def _candidates(
        self, generation: int, model: Artefact[Any], rows: Artefact[Rows], corpora: Sequence[Artefact[Corpus]]
    ) -> Artefact[Corpus]:
        """Several samples of each document."""
        _, options = self.config.section("curation")
        seed, name = self.seed(generation, "corpus"), f"{folder_of(generation)}/candidates"

        def write(folder: Path, progress: Progress, bench: Path) -> Facts:
            human = rows.read()[0]
            previous = corpora[-1].read() if corpora else human
            parts = []
            for number in range(options["candidates"]):
                place = bench / f"candidate_{number:03d}"
                place.mkdir(exist_ok=True)
                draws = step_seed(seed, generation, f"candidate {number}")
                parts.append(self.substrate.sample(model.read(), human, previous, generation, draws, progress, place))
            documents = min(map(len, parts))  # where documents end where they end, there may be more of one sample
            corpus = Corpus.concatenate([part.take(np.arange(documents)) for part in parts])
            write_corpus(corpus, folder / CORPUS, self._born(generation, seed, model))
            return size(corpus)

        inputs = _what_prompts(model, rows, corpora)
        more = {"candidates": options["candidates"]}
        return self.make(name, write, corpus_in, inputs, seed, bench=True, shared=True, more=more)

    def _curate(
        self, generation: int, models: Sequence[Artefact[Any]], candidates: Artefact[Corpus]
    ) -> Artefact[Corpus]:
        """The samples that a scorer finds the best."""
        kind, options = self.config.section("curation")
        seed = self.seed(generation, "curation")

        def write(folder: Path, progress: Progress) -> Facts:
            corpus = candidates.read()

            def judged(name: str) -> Scores:
                own = {"own": models[-1], "generation_0": models[0]}
                if name in own:
                    return self.substrate.score(own[name].read(), corpus, progress)
                if name not in self.substrate.judges:
                    known = ", ".join(["own", "generation_0", *self.substrate.judges])
                    raise UserError(f"curation.judge is '{name}'; known: {known} (others by scoring.judges)")
                return self.substrate.judge(name, corpus, progress)

            common = {name: options[name] for name in CurationOptions.model_fields}
            own = {name: value for name, value in options.items() if name not in common}
            found = np.asarray(find("scorer", kind)(Candidates(corpus, judged), **own), np.float64)
            if found.shape != (len(corpus),) or np.isnan(found).any():
                raise UserError(f"curation: scorer '{kind}' must give one number for each of {len(corpus):,} samples")
            chosen = best(corpus.row, found, common["keep"], common["noise"], np.random.default_rng(seed))
            table = pa.table({"candidate": chosen, "score": found[chosen]})
            pq.write_table(table, local(folder / "chosen.parquet"))
            kept = curated(corpus, chosen, generation)
            write_corpus(kept, folder / CORPUS, self._born(generation, seed, models[-1]))
            return size(kept) | {"mean_score": _mean(found[chosen]), "mean_of_all": _mean(found)}

        inputs = {"candidates": candidates, "model": models[-1], "first": models[0]}
        name = f"{folder_of(generation)}/corpus"
        assert self.config.curation is not None
        more = {"curation": self.config.curation.model_dump(mode="json")}
        return self.make(name, write, corpus_in, inputs, seed, more=more)

    def _born(self, generation: int, seed: int, model: Artefact[Any]) -> dict[str, Any]:
        """Where the rows of a corpus come from."""
        # as configured: what the machine decided, such as how much is written at once, must not change the bytes
        return birth(generation, seed, model.digest, self.config.build_substrate().model_dump(mode="json"))


def _mean(scores: Floats) -> float | None:
    """None where it is no finite number: a scorer may find a sample infinitely bad, and there may be no sample."""
    if not len(scores) or not np.isfinite(scores).all():
        return None
    return float(scores.mean())


def _what_prompts(
    model: Artefact[Any], rows: Artefact[Rows], corpora: Sequence[Artefact[Corpus]]
) -> dict[str, Artefact[Any]]:
    """What a corpus is made from."""
    return {"model": model, "human": rows} | ({"previous": corpora[-1]} if corpora else {})
