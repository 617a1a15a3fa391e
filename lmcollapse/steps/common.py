"""What all steps have in common: the run directory, the configuration, seeds, and how choices and corpora are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lmcollapse.catalog import find
from lmcollapse.config import Config
from lmcollapse.files import local
from lmcollapse.parquet import read_corpus
from lmcollapse.policies.rows import every
from lmcollapse.records import HISTORY, Facts
from lmcollapse.store import Artefact, Run, step_seed
from lmcollapse.types import HUMAN, Corpus, Pool, Selection, Substrate

T = TypeVar("T")

Rows = tuple[Corpus, Corpus]
"""The human training part and the held-out part."""

ARTEFACTS = ("train", "model", "corpus", "scores", "measures")
"""The folders of a generation, in the order in which they are made."""

LOGS = (HISTORY,)
"""Files that a substrate leaves and that say how long things took."""

CORPUS = "corpus.parquet"

RESERVE = "reserve.parquet"
"""Human text that generation 0 does not read, where there is any."""

REFERENCE = "reference"
"""The folder of the measures of held-out human text."""

BEFORE = ("human", "base", "rows", REFERENCE)
"""The folders that are made before generation 0, in that order."""


def folder_of(generation: int) -> str:
    """The folder of a generation in a run directory; names sort in order up to generation 999."""
    return f"generation_{generation:03d}"


@dataclass(frozen=True)
class Common:
    """One experiment in one run directory."""

    run: Run
    config: Config
    substrate: Substrate
    member: int = 0
    """Of a population; its members have the human data and the base model in common, and nothing that is random."""

    def make(
        self,
        name: str,
        write: Callable[..., Facts | None],
        read: Callable[[Path], T],
        inputs: Mapping[str, Artefact[Any]],
        seed: int | None = None,
        start: str | None = None,
        *,
        bench: bool = False,
        shared: bool = False,
        more: Mapping[str, Any] | None = None,
    ) -> Artefact[T]:
        """A step that depends on the substrate's options, and on more."""
        options = {"substrate": self.config.substrate, "start": start} | self.substrate.model_dump(mode="json")
        options |= more or {}
        return self.run.make(
            name, write, read, inputs=inputs, options=options, seed=seed, bench=bench, shared=shared, logs=LOGS
        )

    def seed(self, generation: int, artefact: str) -> int:
        """The seed of one step."""
        member = f"member {self.member}/" if self.member and generation != HUMAN else ""
        return step_seed(self.config.seed, generation, member + artefact)

    def select(self, generation: int, pool: Pool) -> Selection:
        """The policy's choice, row by row; generation 0 reads the human part."""
        kind, options = self.config.section("policy")
        if generation == 0:
            return every(pool, HUMAN).spelled_out(pool)
        rng = np.random.default_rng(self.seed(generation, "train"))
        chosen: Selection = find("policy", kind)(pool, rng, **options)
        return chosen.spelled_out(pool)

    def pool(self, rows: Artefact[Rows], synthetic: Sequence[int]) -> Pool:
        """What there is to choose from, where each generation has written so many rows."""
        reserve = rows.facts.get("reserve", {"rows": 0})["rows"]
        return Pool(rows.facts["train"]["rows"], tuple(synthetic), reserve, seed=(self.seed(HUMAN, "train"),))


def write_selection(chosen: Selection, folder: Path) -> Facts:
    """Write a choice of rows; return its sizes and shares."""
    table = pa.table({"generation": chosen.generation, "row": chosen.row})
    pq.write_table(table, local(folder / "selection.parquet"), compression="zstd")
    origins, rows_of = np.unique(chosen.generation, return_counts=True)
    return {
        "rows": len(chosen),
        "human_fraction": float(np.mean(chosen.generation == HUMAN)),
        "origins": dict(zip(map(str, origins.tolist()), rows_of.tolist(), strict=True)),
        "same_steps": chosen.same_steps,
    }


def read_selection(folder: Path) -> Selection:
    """What `write_selection` wrote."""
    table = pq.read_table(local(folder / "selection.parquet"))
    return Selection(table.column("generation").to_numpy(), table.column("row").to_numpy())


def corpus_in(folder: Path) -> Corpus:
    """The corpus in the folder of a step."""
    return read_corpus(folder / CORPUS)


def human_rows(rows: Artefact[Rows]) -> Corpus:
    """All human rows that may be trained on: those of the training part, then those in reserve."""
    train, file = rows.read()[0], rows.path / RESERVE
    return Corpus.concatenate([train, read_corpus(file)]) if file.is_file() else train


def gather(selection: Selection, rows: Artefact[Rows], corpora: Sequence[Artefact[Corpus]]) -> Corpus:
    """The rows that a policy chose, human ones first, then by generation.

    Only corpora that something was chosen from are read.
    """

    def chosen(origin: int) -> Corpus:
        corpus = human_rows(rows) if origin == HUMAN else corpora[origin].read()
        return corpus.take(selection.row[selection.generation == origin])

    # HUMAN is -1, so it comes first
    return Corpus.concatenate([chosen(origin) for origin in np.unique(selection.generation).tolist()])


def by_folder(corpora: Sequence[Artefact[Corpus]]) -> dict[str, Artefact[Any]]:
    """What each generation so far has written, as inputs of a step."""
    return {folder_of(generation): corpus for generation, corpus in enumerate(corpora)}


def size(corpus: Corpus) -> dict[str, int]:
    """Rows and tokens."""
    return {"rows": len(corpus), "tokens": int(corpus.lengths.sum())}
