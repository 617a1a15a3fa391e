"""Each step of the experiment as one artefact of the run directory: what it is made from, how it is made and read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lmcollapse.catalog import find
from lmcollapse.config import Config, CorpusOptions
from lmcollapse.corpora import load_human
from lmcollapse.metrics.drift import drift
from lmcollapse.metrics.scene import Heldout, Judged, Scene
from lmcollapse.options import bind, options_of
from lmcollapse.parquet import (
    birth,
    read_corpus,
    read_documents,
    read_scores,
    write_corpus,
    write_documents,
    write_scores,
)
from lmcollapse.policies.rows import every
from lmcollapse.readings import human_text, lineage, load_readings, read_off, write_readings
from lmcollapse.store import Artefact, Facts, Run, step_seed
from lmcollapse.types import (
    HUMAN,
    Corpus,
    Documents,
    Human,
    Ints,
    Pool,
    Progress,
    Reading,
    Scores,
    Selection,
    Substrate,
)

Rows = tuple[Corpus, Corpus]
"""The human training part and the held-out part."""


@dataclass(frozen=True)
class AllScores:
    """What models find of one generation's text.

    heldout : this generation's model on held-out human text, token by token.
    corpora : each judge on what this generation wrote, by its name; "generation_0" is the first model of the run.
    """

    heldout: Scores
    corpora: Mapping[str, Scores]


ARTEFACTS = ("train", "model", "corpus", "scores", "measures")
"""The folders of a generation, in the order in which they are made."""


LOGS = ("fit.jsonl",)
"""Files that a substrate leaves and that say how long things took."""

RESERVE = "reserve.parquet"
"""Human text that generation 0 does not read, where there is any."""

REFERENCE = "reference"
"""The folder of the measures of held-out human text."""


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
        self._select(1, Pool(human=10, synthetic=(10,), reserve=10))

    def check_reserve(self, rows: Artefact[Rows]) -> None:
        """Raise UserError where the human text in reserve will not last for all generations."""
        last = self.config.generations - 1
        if last:
            self._select(last, self._pool(rows, [rows.facts["train"]["rows"]] * last))

    def _pool(self, rows: Artefact[Rows], synthetic: Sequence[int]) -> Pool:
        reserve = rows.facts.get("reserve", {"rows": 0})["rows"]
        return Pool(rows.facts["train"]["rows"], tuple(synthetic), reserve)

    def human(self) -> Artefact[Human]:
        """Human text in its two parts."""
        assert self.config.corpus is not None
        options, seed = self.config.corpus.model_dump(mode="json"), self._seed(HUMAN, "human")

        def write(folder: Path, progress: Progress) -> Facts:
            kind, given = self.config.section("corpus")
            with progress.stage(f"reading human text ({kind})"):
                sizes = {name: given.pop(name) for name in CorpusOptions.model_fields}
                corpus = bind(options_of(find("corpus", kind)), given, "corpus")
                human = load_human(kind, corpus, seed=seed, **sizes)
            write_documents(human.train, folder / "train.parquet")
            write_documents(human.heldout, folder / "heldout.parquet")
            if len(human.reserve):
                write_documents(human.reserve, folder / RESERVE)
            return human.facts

        def read(folder: Path) -> Human:
            train, heldout = read_documents(folder / "train.parquet"), read_documents(folder / "heldout.parquet")
            reserve = read_documents(folder / RESERVE) if (folder / RESERVE).is_file() else Documents([], [])
            return Human(train, heldout, reserve=reserve)

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
                text = human.read()
                train, heldout = self.substrate.encode(base.path, text)
                more = len(text.reserve) > 0
                reserve = self.substrate.encode(base.path, Human(text.reserve, text.heldout))[0] if more else None
            write_corpus(train, folder / "train.parquet")
            write_corpus(heldout, folder / "heldout.parquet")
            facts = {"train": _size(train), "heldout": _size(heldout)}
            if reserve is None:
                return facts
            # one numbering for all human rows: those in reserve come after the others
            write_corpus(replace(reserve, row=reserve.row + len(train)), folder / RESERVE)
            return facts | {"reserve": _size(reserve)}

        def read(folder: Path) -> Rows:
            return read_corpus(folder / "train.parquet"), read_corpus(folder / "heldout.parquet")

        return self._make("rows", write, read, {"base": base, "human": human})

    def mix(self, generation: int, rows: Artefact[Rows], corpora: Sequence[Artefact[Corpus]]) -> Artefact[Selection]:
        """The policy's choice of the rows that this generation trains on."""
        pool = self._pool(rows, [corpus.facts["rows"] for corpus in corpora])

        def write(folder: Path, progress: Progress) -> Facts:
            chosen = self._select(generation, pool)
            table = pa.table({"generation": chosen.generation, "row": chosen.row})
            pq.write_table(table, folder / "selection.parquet", compression="zstd")
            origins, rows_of = np.unique(chosen.generation, return_counts=True)
            return {
                "rows": len(chosen),
                "human_fraction": float(np.mean(chosen.generation == HUMAN)),
                "origins": dict(zip(map(str, origins.tolist()), rows_of.tolist(), strict=True)),
            }

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

        def write(folder: Path, progress: Progress, bench: Path) -> Facts:
            chosen = gather(train.read(), lambda g: human_rows(rows) if g == HUMAN else corpora[g].read())
            before = previous.path if previous else None
            model = self.substrate.fit(base.path, chosen, start, before, seed, progress, bench)
            self.substrate.save(model, folder)
            human = chosen.lengths[chosen.generation == HUMAN].sum()
            return _size(chosen) | {"human_fraction_of_tokens": float(human / chosen.lengths.sum())}

        inputs: dict[str, Artefact[Any]] = {"base": base, "train": train, "human": rows}
        inputs |= {"previous": previous} if previous else {}
        inputs |= {folder_of(g): corpus for g, corpus in enumerate(corpora)}
        name = f"{folder_of(generation)}/model"
        return self._make(name, write, self.substrate.load, inputs, seed, start, bench=True, shared=True)

    def sample(
        self, generation: int, model: Artefact[Any], rows: Artefact[Rows], corpora: Sequence[Artefact[Corpus]]
    ) -> Artefact[Corpus]:
        """The corpus that this generation writes. What came before generation 0 is the human training part."""
        seed = self._seed(generation, "corpus")

        def write(folder: Path, progress: Progress, bench: Path) -> Facts:
            human = rows.read()[0]
            previous = corpora[-1].read() if corpora else human
            corpus = self.substrate.sample(model.read(), human, previous, generation, seed, progress, bench)
            # as configured: what the machine decided, such as how much is written at once, must not change the bytes
            born = birth(generation, seed, model.digest, self.config.build_substrate().model_dump(mode="json"))
            write_corpus(corpus, folder / "corpus.parquet", born)
            return _size(corpus)

        inputs: dict[str, Artefact[Any]] = {"model": model, "human": rows}
        inputs |= {"previous": corpora[-1]} if corpora else {}
        name = f"{folder_of(generation)}/corpus"
        read = lambda folder: read_corpus(folder / "corpus.parquet")  # noqa: E731
        return self._make(name, write, read, inputs, seed, bench=True, shared=True)

    def score(
        self, generation: int, models: Sequence[Artefact[Any]], rows: Artefact[Rows], corpus: Artefact[Corpus]
    ) -> Artefact[AllScores]:
        """This generation's model on held-out human text, and the judges on what this generation wrote."""
        judges = self.substrate.judges

        def write(folder: Path, progress: Progress) -> None:
            heldout = self.substrate.score(models[-1].read(), rows.read()[1], progress, by_token=True)
            write_scores(heldout, folder / "heldout.parquet")
            write_scores(self.substrate.score(models[0].read(), corpus.read(), progress), folder / judged_file(0))
            for number, name in enumerate(judges, 1):
                write_scores(self.substrate.judge(name, corpus.read(), progress), folder / judged_file(number))

        def read(folder: Path) -> AllScores:
            names = ("generation_0", *judges)
            corpora = {name: read_scores(folder / judged_file(number)) for number, name in enumerate(names)}
            return AllScores(read_scores(folder / "heldout.parquet"), corpora)

        inputs = {"model": models[-1], "first": models[0], "human": rows, "corpus": corpus}
        return self._make(f"{folder_of(generation)}/scores", write, read, inputs)

    def reference(self, human: Artefact[Human]) -> Artefact[list[Reading]]:
        """The measures of the corpus on held-out human text: what a human sample of that size has."""

        def write(folder: Path, progress: Progress) -> None:
            text, words = human_text(human.read(), self._words)
            training = human.read().train.texts
            scene = Scene(text.heldout.first(words), text.reference(words), lambda: text.numbering.rows(training))
            write_readings(read_off(scene, self.config.chosen_measures(), progress), folder)

        return self._measure(REFERENCE, write, {"human": human})

    def measure(
        self,
        generation: int,
        human: Artefact[Human],
        rows: Artefact[Rows],
        trains: Sequence[Artefact[Selection]],
        corpora: Sequence[Artefact[Corpus]],
        scores: Sequence[Artefact[AllScores]],
    ) -> Artefact[list[Reading]]:
        """Every measure of the configuration on this generation."""

        def write(folder: Path, progress: Progress) -> None:
            train, heldout = rows.read()
            now, first = scores[-1].read(), scores[0].read()
            judges = {name: Judged(of, first.corpora[name]) for name, of in now.corpora.items()}
            scene = Scene(heldout=Heldout(heldout, now.heldout, token_counts(train)), judges=judges)
            texts = corpora[-1].read().texts
            if texts is not None:
                text, words = human_text(human.read(), self._words)
                trained_on = (
                    gather(trains[-1].read(), lambda g: human_rows(rows) if g == HUMAN else corpora[g].read()).texts
                    or ()
                )
                sizes = [train.facts["origins"] for train in trains], [corpus.facts for corpus in corpora]
                scene = replace(
                    scene,
                    written=text.written(texts, words),
                    human=text.reference(words),
                    training=lambda: text.numbering.rows(trained_on),
                    drift=drift(text.counts, lineage(text.train_words, rows.facts["train"], *sizes), words),
                )
            write_readings(read_off(scene, self.config.chosen_measures(), progress), folder)

        inputs: dict[str, Artefact[Any]] = {"human": human, "rows": rows, "first": scores[0], "scores": scores[-1]}
        inputs |= {f"{folder_of(g)}/train": train for g, train in enumerate(trains)}
        inputs |= {f"{folder_of(g)}/corpus": corpus for g, corpus in enumerate(corpora)}
        return self._measure(f"{folder_of(generation)}/measures", write, inputs)

    def _measure(
        self, name: str, write: Callable[[Path, Progress], None], inputs: dict[str, Artefact[Any]]
    ) -> Artefact[list[Reading]]:
        """A step that depends on the options of the measures."""
        options = self.config.measures and self.config.measures.model_dump(mode="json")
        return self.run.make(name, write, load_readings, inputs=inputs, options=options)

    @property
    def _words(self) -> int | None:
        return None if self.config.measures is None else self.config.measures.words

    def _seed(self, generation: int, artefact: str) -> int:
        return step_seed(self.config.seed, generation, artefact)

    def _select(self, generation: int, pool: Pool) -> Selection:
        kind, options = self.config.section("policy")
        if generation == 0:
            return every(pool, HUMAN).spelled_out(pool)
        rng = np.random.default_rng(self._seed(generation, "train"))
        chosen: Selection = find("policy", kind)(pool, rng, **options)
        return chosen.spelled_out(pool)

    def _make(
        self,
        name: str,
        write: Callable[..., Facts | None],
        read: Callable[[Path], Any],
        inputs: dict[str, Artefact[Any]],
        seed: int | None = None,
        start: str | None = None,
        *,
        bench: bool = False,
        shared: bool = False,
    ) -> Artefact[Any]:
        """A step that depends on the substrate's options."""
        options = {"substrate": self.config.substrate, "start": start} | self.substrate.model_dump(mode="json")
        return self.run.make(
            name, write, read, inputs=inputs, options=options, seed=seed, bench=bench, shared=shared, logs=LOGS
        )


def judged_file(judge: int) -> str:
    """The scores of a corpus under one judge; 0 is generation 0's model."""
    return f"judge_{judge:02d}.parquet"


def human_rows(rows: Artefact[Rows]) -> Corpus:
    """All human rows that may be trained on: those of the training part, then those in reserve."""
    train, file = rows.read()[0], rows.path / RESERVE
    return Corpus.concatenate([train, read_corpus(file)]) if file.is_file() else train


def token_counts(rows: Corpus) -> Ints | None:
    """`(token ids,)` occurrences of each token in some rows; None where rows are no tokens."""
    return None if rows.offsets is None else np.bincount(rows.values).astype(np.int64)


def gather(selection: Selection, corpus_of: Callable[[int], Corpus]) -> Corpus:
    """The rows that a policy chose, human ones first, then by generation.

    Only corpora that something was chosen from are read.
    """
    origins = np.unique(selection.generation)  # HUMAN is -1, so it comes first
    return Corpus.concatenate([corpus_of(int(g)).take(selection.row[selection.generation == g]) for g in origins])


def _size(corpus: Corpus) -> dict[str, int]:
    return {"rows": len(corpus), "tokens": int(corpus.lengths.sum())}
