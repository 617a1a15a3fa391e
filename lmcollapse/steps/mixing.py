"""Which rows a generation trains on: what is offered, what the policy chooses of it, what a detector leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lmcollapse.catalog import find
from lmcollapse.config import DetectorOptions
from lmcollapse.detectors import probabilities
from lmcollapse.files import local
from lmcollapse.parquet import write_corpus
from lmcollapse.records import Facts
from lmcollapse.steps.common import (
    CORPUS,
    Common,
    Rows,
    by_folder,
    corpus_in,
    folder_of,
    gather,
    read_selection,
    size,
    write_selection,
)
from lmcollapse.store import Artefact
from lmcollapse.types import Corpus, Emptied, Floats, Progress, Selection
from lmcollapse.unlabelled import questions, what_is_left

DETECTED = "detected.parquet"


class Mixing(Common):
    """From the corpora that there are to a training set."""

    def offered(
        self, generation: int, member: int, wrote: Sequence[Sequence[Artefact[Corpus]]]
    ) -> list[Artefact[Corpus]]:
        """The corpora of all generations before this one that a member may train on.

        wrote : those that each member has written.
        """
        if self.config.population is None:
            return list(wrote[member])
        if self.config.population.exchange == "ring":
            return list(wrote[member - 1])
        return [self._pooled(g, [corpora[g] for corpora in wrote]) for g in range(generation)]

    def _pooled(self, generation: int, corpora: Sequence[Artefact[Corpus]]) -> Artefact[Corpus]:
        """As many rows as a member has written on average, drawn from what all members wrote; each says from whom."""
        seed = self.seed(generation, "pool")

        def write(folder: Path, progress: Progress) -> Facts:
            parts = [corpus.read() for corpus in corpora]
            named = [replace(part, sources=[f"member {m}"] * len(part)) for m, part in enumerate(parts)]
            everything = Corpus.concatenate(named)
            rng = np.random.default_rng(seed)
            chosen = np.sort(rng.choice(len(everything), round(len(everything) / len(parts)), replace=False))
            pooled = everything.take(chosen)
            write_corpus(pooled, folder / CORPUS)
            return size(pooled)

        inputs = {f"member {m}": corpus for m, corpus in enumerate(corpora)}
        return self.run.make(f"{folder_of(generation)}/pool", write, corpus_in, inputs=inputs, seed=seed)

    def mix(
        self,
        generation: int,
        base: Artefact[Path],
        rows: Artefact[Rows],
        corpora: Sequence[Artefact[Corpus]],
        models: Sequence[Artefact[Any]],
    ) -> tuple[Artefact[Selection], Artefact[Floats] | None]:
        """The policy's choice of the rows that this generation trains on; and what a detector made of it, if any."""
        if self.config.detector is None or generation == 0:
            return self._chosen(generation, "train", rows, corpora), None
        offered = self._chosen(generation, "offered", rows, corpora)
        detected = self._detected(generation, offered, base, rows, corpora, models)
        seed, options = self.seed(generation, "detector"), self.config.section("detector")[1]

        def write(folder: Path, progress: Progress) -> Facts:
            return write_selection(
                what_is_left(offered.read(), detected.read(), options, np.random.default_rng(seed)), folder
            )

        inputs: dict[str, Artefact[Any]] = {"offered": offered, "detected": detected}
        name = f"{folder_of(generation)}/train"
        how = self.config.detector.model_dump(mode="json")
        return self.run.make(name, write, read_selection, inputs=inputs, options=how, seed=seed), detected

    def _chosen(
        self,
        generation: int,
        step: str,
        rows: Artefact[Rows],
        corpora: Sequence[Artefact[Corpus]],
    ) -> Artefact[Selection]:
        """What the policy chooses."""
        pool = self.pool(rows, [corpus.facts["rows"] for corpus in corpora])

        def write(folder: Path, progress: Progress) -> Facts:
            chosen = self.select(generation, pool)
            if not len(chosen):
                raise Emptied(
                    f"policy {self.config.section('policy')[0]} leaves no row to train on: of human text there are "
                    f"{pool.human:,}, and the generations before wrote {', '.join(map(str, pool.synthetic))}; take "
                    "human rows too (policy mix), or accumulate"
                )
            return write_selection(chosen, folder)

        return self.run.make(
            f"{folder_of(generation)}/{step}",
            write,
            read_selection,
            inputs={"human": rows} | by_folder(corpora),
            options=self.config.policy.model_dump(mode="json"),
            seed=self.seed(generation, "train"),
        )

    def _detected(
        self,
        generation: int,
        offered: Artefact[Selection],
        base: Artefact[Path],
        rows: Artefact[Rows],
        corpora: Sequence[Artefact[Corpus]],
        models: Sequence[Artefact[Any]],
    ) -> Artefact[Floats]:
        """How likely each row of the policy's choice is synthetic, as far as a detector can tell."""
        assert self.config.detector is not None
        kind, options = self.config.section("detector")
        own = {name: value for name, value in options.items() if name not in DetectorOptions.model_fields}
        seed = self.seed(generation, "detected")

        def write(folder: Path, progress: Progress) -> None:
            pool = gather(offered.read(), rows, corpora)
            places = {"base": base.path, "generation_0": models[0].path}
            suspects, known = questions(pool, rows.read()[0], corpora[0].read(), seed, places)
            found = probabilities(kind, find("detector", kind)(suspects, known, progress, **own), len(pool))
            table = pa.table({"synthetic_probability": found})
            pq.write_table(table, local(folder / DETECTED), compression="zstd")

        def read(folder: Path) -> Floats:
            return np.asarray(pq.read_table(local(folder / DETECTED)).column("synthetic_probability"))

        inputs: dict[str, Artefact[Any]] = {"offered": offered, "human": rows, "first": models[0], "base": base}
        inputs |= by_folder(corpora)
        how = {"kind": kind} | self.config.detector.model_dump(mode="json", include=set(own))
        return self.run.make(f"{folder_of(generation)}/detected", write, read, inputs=inputs, options=how, seed=seed)
