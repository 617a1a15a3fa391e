"""Each step of the experiment as one artefact of the run directory: what it is made from, how it is made and read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lmcollapse.catalog import find
from lmcollapse.config import Config, CorpusOptions
from lmcollapse.corpora import load_human
from lmcollapse.files import write_json
from lmcollapse.options import bind, options_of
from lmcollapse.parquet import (
    read_corpus,
    read_documents,
    read_scores,
    write_corpus,
    write_documents,
    write_scores,
)
from lmcollapse.policies.rows import every
from lmcollapse.store import Artefact, Facts, Run, step_seed
from lmcollapse.types import HUMAN, Corpus, Human, Pool, Progress, Reading, Scene, Scores, Selection, Substrate

Rows = tuple[Corpus, Corpus]
"""The human training part and the held-out part."""


ARTEFACTS = ("train", "model", "corpus", "scores", "measures")
"""The folders of a generation, in the order in which they are made."""


def folder_of(generation: int) -> str:
    """The folder of a generation in a run directory; names sort in order up to generation 999."""
    return f"generation_{generation:03d}"


@dataclass(frozen=True)
class Steps:
    """The steps of one experiment, in the order in which the loop takes them."""

    run: Run
    config: Config
    substrate: Substrate

    def check(self) -> None:
        """Try the policy on a pool of a few rows: what it refuses is refused before any compute is spent."""
        self._select(1, Pool(human=10, synthetic=(10,)))

    def human(self) -> Artefact[Human]:
        """Human text in its two parts."""
        options, seed = self.config.corpus.model_dump(mode="json"), self._seed(HUMAN, "human")

        def write(folder: Path, progress: Progress) -> Facts:
            kind, given = self.config.section("corpus")
            with progress.stage(f"reading human text ({kind})"):
                sizes = {name: given.pop(name) for name in CorpusOptions.model_fields}
                corpus = bind(options_of(find("corpus", kind)), given, "corpus")
                human = load_human(kind, corpus, seed=seed, **sizes)
            write_documents(human.train, folder / "train.parquet")
            write_documents(human.heldout, folder / "heldout.parquet")
            return human.facts

        def read(folder: Path) -> Human:
            return Human(read_documents(folder / "train.parquet"), read_documents(folder / "heldout.parquet"))

        return self.run.make("human", write, read, options=options, seed=seed)

    def base(self, human: Artefact[Human]) -> Artefact[Path]:
        """What is settled before generation 0: a tokenizer, the model that generations may start from."""

        seed = self._seed(HUMAN, "base")

        def write(folder: Path, progress: Progress) -> None:
            with progress.stage("preparing the base model"):
                self.substrate.prepare(human.read(), folder, seed)

        return self._make("base", write, lambda folder: folder, {"human": human}, seed)

    def rows(self, base: Artefact[Path], human: Artefact[Human]) -> Artefact[Rows]:
        """Human text as rows that the substrate reads."""

        def write(folder: Path, progress: Progress) -> Facts:
            with progress.stage("encoding human text"):
                train, heldout = self.substrate.encode(base.path, human.read())
            write_corpus(train, folder / "train.parquet")
            write_corpus(heldout, folder / "heldout.parquet")
            return {"train": _size(train), "heldout": _size(heldout)}

        def read(folder: Path) -> Rows:
            return read_corpus(folder / "train.parquet"), read_corpus(folder / "heldout.parquet")

        return self._make("rows", write, read, {"base": base, "human": human})

    def mix(self, generation: int, rows: Artefact[Rows], corpora: Sequence[Artefact[Corpus]]) -> Artefact[Selection]:
        """The policy's choice of the rows that this generation trains on."""
        pool = Pool(rows.facts["train"]["rows"], tuple(corpus.facts["rows"] for corpus in corpora))

        def write(folder: Path, progress: Progress) -> Facts:
            chosen = self._select(generation, pool)
            table = pa.table({"generation": chosen.generation, "row": chosen.row})
            pq.write_table(table, folder / "selection.parquet", compression="zstd")
            return {"rows": len(chosen), "human_fraction": float(np.mean(chosen.generation == HUMAN))}

        def read(folder: Path) -> Selection:
            table = pq.read_table(folder / "selection.parquet")
            return Selection(table.column("generation").to_numpy(), table.column("row").to_numpy())

        inputs: dict[str, Artefact[Any]] = {"human": rows} | {folder_of(g): corpus for g, corpus in enumerate(corpora)}
        return self.run.make(
            f"{folder_of(generation)}/train",
            write,
            read,
            inputs=inputs,
            options=self.config.policy.model_dump(mode="json"),
            seed=self._seed(generation, "train"),
        )

    def fit(
        self,
        generation: int,
        base: Artefact[Path],
        train: Artefact[Selection],
        rows: Artefact[Rows],
        corpora: Sequence[Artefact[Corpus]],
        models: Sequence[Artefact[Any]],
    ) -> Artefact[Any]:
        """The model fitted to the chosen rows. Generation 0 has no previous model and starts from the base instead."""
        start = self.config.start if models or self.config.start != "previous" else "base"
        previous = models[-1] if start == "previous" else None
        seed = self._seed(generation, "model")

        def write(folder: Path, progress: Progress) -> Facts:
            chosen = gather(train.read(), lambda g: rows.read()[0] if g == HUMAN else corpora[g].read())
            model = self.substrate.fit(base.path, chosen, start, previous.path if previous else None, seed, progress)
            self.substrate.save(model, folder)
            human = chosen.lengths[chosen.generation == HUMAN].sum()
            return _size(chosen) | {"human_fraction_of_tokens": float(human / chosen.lengths.sum())}

        inputs: dict[str, Artefact[Any]] = {"base": base, "train": train, "human": rows}
        inputs |= {"previous": previous} if previous else {}
        inputs |= {folder_of(g): corpus for g, corpus in enumerate(corpora)}
        return self._make(f"{folder_of(generation)}/model", write, self.substrate.load, inputs, seed, start)

    def sample(
        self, generation: int, model: Artefact[Any], rows: Artefact[Rows], corpora: Sequence[Artefact[Corpus]]
    ) -> Artefact[Corpus]:
        """The corpus that this generation writes. What came before generation 0 is the human training part."""
        seed = self._seed(generation, "corpus")

        def write(folder: Path, progress: Progress) -> Facts:
            human = rows.read()[0]
            previous = corpora[-1].read() if corpora else human
            corpus = self.substrate.sample(model.read(), human, previous, generation, seed, progress)
            write_corpus(corpus, folder / "corpus.parquet")
            return _size(corpus)

        inputs: dict[str, Artefact[Any]] = {"model": model, "human": rows}
        inputs |= {"previous": corpora[-1]} if corpora else {}
        name = f"{folder_of(generation)}/corpus"
        return self._make(name, write, lambda folder: read_corpus(folder / "corpus.parquet"), inputs, seed)

    def score(
        self, generation: int, models: Sequence[Artefact[Any]], rows: Artefact[Rows], corpus: Artefact[Corpus]
    ) -> Artefact[tuple[Scores, Scores]]:
        """This generation's model on held-out human text, and generation 0's model on what this generation wrote."""

        def write(folder: Path, progress: Progress) -> None:
            heldout = self.substrate.score(models[-1].read(), rows.read()[1], progress)
            write_scores(heldout, folder / "heldout.parquet")
            write_scores(self.substrate.score(models[0].read(), corpus.read(), progress), folder / "corpus.parquet")

        def read(folder: Path) -> tuple[Scores, Scores]:
            return read_scores(folder / "heldout.parquet"), read_scores(folder / "corpus.parquet")

        inputs = {"model": models[-1], "first": models[0], "human": rows, "corpus": corpus}
        return self._make(f"{folder_of(generation)}/scores", write, read, inputs)

    def measure(
        self,
        generation: int,
        human: Artefact[Human],
        rows: Artefact[Rows],
        corpus: Artefact[Corpus],
        scores: Artefact[tuple[Scores, Scores]],
    ) -> Artefact[list[Reading]]:
        """Every measure of the configuration on this generation."""

        def write(folder: Path, progress: Progress) -> None:
            scene = Scene(generation, human.read().train.texts, rows.read()[1], corpus.read(), *scores.read())
            readings: list[Reading] = []
            with progress.stage("measuring"):
                for name, options in self.config.measures:
                    if options is not None:
                        readings += find("measure", name)(scene, **options.model_dump())
            write_json(folder / "measures.json", [asdict(reading) for reading in readings])

        def read(folder: Path) -> list[Reading]:
            return [Reading(**entry) for entry in json.loads((folder / "measures.json").read_text(encoding="utf-8"))]

        return self.run.make(
            f"{folder_of(generation)}/measures",
            write,
            read,
            inputs={"human": human, "rows": rows, "corpus": corpus, "scores": scores},
            options=self.config.measures.model_dump(mode="json"),
        )

    def _seed(self, generation: int, artefact: str) -> int:
        return step_seed(self.config.seed, generation, artefact)

    def _select(self, generation: int, pool: Pool) -> Selection:
        kind, options = self.config.section("policy")
        if generation == 0:
            return every(pool, HUMAN)
        chosen: Selection = find("policy", kind)(
            pool, np.random.default_rng(self._seed(generation, "train")), **options
        )
        return chosen

    def _make(
        self,
        name: str,
        write: Callable[[Path, Progress], Facts | None],
        read: Callable[[Path], Any],
        inputs: dict[str, Artefact[Any]],
        seed: int | None = None,
        start: str | None = None,
    ) -> Artefact[Any]:
        """A step that depends on the substrate's options."""
        options = {"substrate": self.config.substrate, "start": start} | self.substrate.model_dump(mode="json")
        return self.run.make(name, write, read, inputs=inputs, options=options, seed=seed)


def gather(selection: Selection, corpus_of: Callable[[int], Corpus]) -> Corpus:
    """The rows that a policy chose, human ones first, then by generation.

    Only corpora that something was chosen from are read.
    """
    origins = np.unique(selection.generation)  # HUMAN is -1, so it comes first
    return Corpus.concatenate([corpus_of(int(g)).take(selection.row[selection.generation == g]) for g in origins])


def _size(corpus: Corpus) -> dict[str, int]:
    return {"rows": len(corpus), "tokens": int(corpus.lengths.sum())}
