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
from lmcollapse.config import READS, Config, CurationOptions, DetectorOptions
from lmcollapse.corpora import load_human
from lmcollapse.curation import best, curated
from lmcollapse.metrics.scene import Detected, Scene, Trained
from lmcollapse.options import bind, options_of
from lmcollapse.parquet import birth, read_corpus, read_human, read_scores, write_corpus, write_human, write_scores
from lmcollapse.policies.rows import every
from lmcollapse.readings import load_readings, read_off, write_readings
from lmcollapse.scenes import AllScores, Generation, of_generation, of_human
from lmcollapse.scorers import Candidates
from lmcollapse.store import Artefact, Facts, Run, step_seed
from lmcollapse.types import (
    HUMAN,
    Corpus,
    Floats,
    Human,
    Pool,
    Progress,
    Reading,
    Scores,
    Selection,
    Substrate,
    UserError,
)
from lmcollapse.unlabelled import questions, what_is_left

Rows = tuple[Corpus, Corpus]
"""The human training part and the held-out part."""


ARTEFACTS = ("train", "model", "corpus", "scores", "measures")
"""The folders of a generation, in the order in which they are made."""


LOGS = ("fit.jsonl",)
"""Files that a substrate leaves and that say how long things took."""

CORPUS, DETECTED = "corpus.parquet", "detected.parquet"

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
    member: int = 0
    """Of a population; its members have the human data and the base model in common, and nothing that is random."""

    def check(self) -> None:
        """Try the policy on a pool of a few rows: what it refuses is refused before any compute is spent."""
        if self.config.detector is not None and self.substrate.reads != "text":
            kind = self.config.section("detector")[0]
            if kind != "oracle" and ":" not in kind:
                raise UserError(f"detector {kind} reads text, and {self.config.substrate} writes images; take oracle")
        if self.config.curation is not None:
            options = self.config.section("curation")[1]
            if options["keep"] > options["candidates"]:
                raise UserError(
                    f"curation.keep is {options['keep']} and curation.candidates {options['candidates']}: it must not "
                    "be more"
                )
        chosen = self._select(1, Pool(human=10, synthetic=(10,), reserve=10))
        if chosen.same_steps and not self.substrate.iterative:
            raise UserError(
                f"policy {self.config.section('policy')[0]}: same_steps has no effect on {self.config.substrate}, "
                "which is not fitted in steps; leave it out"
            )

    def check_reserve(self, rows: Artefact[Rows]) -> None:
        """Raise UserError where the human text in reserve will not last for all generations."""
        last = self.config.generations - 1
        if last:
            self._select(last, self._pool(rows, [rows.facts["train"]["rows"]] * last))

    def _pool(self, rows: Artefact[Rows], synthetic: Sequence[int]) -> Pool:
        reserve = rows.facts.get("reserve", {"rows": 0})["rows"]
        return Pool(rows.facts["train"]["rows"], tuple(synthetic), reserve, seed=(self._seed(HUMAN, "train"),))

    def human(self) -> Artefact[Human[Any]]:
        """Human text, or human images, in disjoint parts."""
        assert self.config.corpus is not None
        options, seed = self.config.corpus.model_dump(mode="json"), self._seed(HUMAN, "human")
        reads = READS.get(self.substrate.reads, READS["text"])

        def write(folder: Path, progress: Progress) -> Facts:
            kind, given = self.config.section("corpus")
            with progress.stage(f"reading human data ({kind})"):
                sizes = {name.partition("_")[0]: given.pop(name) for name in reads.sizes.model_fields}
                corpus = bind(options_of(find(reads.corpora, kind)), given, "corpus")
                human = load_human(kind, corpus, seed=seed, sizes=sizes, group=reads.corpora)
            write_human(human, folder)
            return human.facts

        return self.run.make("human", write, read_human, options=options, seed=seed)

    def base(self, human: Artefact[Human[Any]]) -> Artefact[Path]:
        """What is settled before generation 0: a tokenizer, the model that generations may start from."""

        seed = self._seed(HUMAN, "base")

        def write(folder: Path, progress: Progress) -> None:
            with progress.stage("preparing the base model"):
                self.substrate.prepare(human.read(), folder, seed)

        return self._make("base", write, lambda folder: folder, {"human": human}, seed)

    def rows(self, base: Artefact[Path], human: Artefact[Human[Any]]) -> Artefact[Rows]:
        """Human text as rows that the substrate reads."""

        def write(folder: Path, progress: Progress) -> Facts:
            with progress.stage("encoding human text"):
                text = human.read()
                train, heldout = self.substrate.encode(base.path, text)
                more = text.reserve and Human(text.reserve, text.heldout)
                reserve = self.substrate.encode(base.path, more)[0] if more else None
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
        seed = self._seed(generation, "pool")

        def write(folder: Path, progress: Progress) -> Facts:
            parts = [corpus.read() for corpus in corpora]
            named = [replace(part, sources=[f"member {m}"] * len(part)) for m, part in enumerate(parts)]
            everything = Corpus.concatenate(named)
            rng = np.random.default_rng(seed)
            chosen = np.sort(rng.choice(len(everything), round(len(everything) / len(parts)), replace=False))
            pooled = everything.take(chosen)
            write_corpus(pooled, folder / CORPUS)
            return _size(pooled)

        inputs = {f"member {m}": corpus for m, corpus in enumerate(corpora)}
        return self.run.make(f"{folder_of(generation)}/pool", write, _read_corpus, inputs=inputs, seed=seed)

    def mix(
        self,
        generation: int,
        base: Artefact[Path],
        rows: Artefact[Rows],
        corpora: Sequence[Artefact[Corpus]],
        models: Sequence[Artefact[Any]],
    ) -> tuple[Artefact[Selection], Artefact[Floats] | None]:
        """The policy's choice of the rows that this generation trains on; and what a detector made of it, if any."""
        inputs: dict[str, Artefact[Any]] = {"human": rows} | {folder_of(g): corpus for g, corpus in enumerate(corpora)}
        if self.config.detector is None or generation == 0:
            return self._chosen(generation, "train", rows, corpora, inputs), None
        offered = self._chosen(generation, "offered", rows, corpora, inputs)
        detected = self._detected(generation, offered, base, rows, corpora, models)
        seed, options = self._seed(generation, "detector"), self.config.section("detector")[1]

        def write(folder: Path, progress: Progress) -> Facts:
            return _write_selection(
                what_is_left(offered.read(), detected.read(), options, np.random.default_rng(seed)), folder
            )

        inputs = {"offered": offered, "detected": detected}
        name = f"{folder_of(generation)}/train"
        how = self.config.detector.model_dump(mode="json")
        return self.run.make(name, write, _read_selection, inputs=inputs, options=how, seed=seed), detected

    def _chosen(
        self,
        generation: int,
        step: str,
        rows: Artefact[Rows],
        corpora: Sequence[Artefact[Corpus]],
        inputs: Mapping[str, Artefact[Any]],
    ) -> Artefact[Selection]:
        """What the policy chooses."""
        pool = self._pool(rows, [corpus.facts["rows"] for corpus in corpora])

        def write(folder: Path, progress: Progress) -> Facts:
            return _write_selection(self._select(generation, pool), folder)

        return self.run.make(
            f"{folder_of(generation)}/{step}",
            write,
            _read_selection,
            inputs=inputs,
            options=self.config.policy.model_dump(mode="json"),
            seed=self._seed(generation, "train"),
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
        seed = self._seed(generation, "detected")

        def write(folder: Path, progress: Progress) -> None:
            pool = gather(offered.read(), lambda g: human_rows(rows) if g == HUMAN else corpora[g].read())
            places = {"base": base.path, "generation_0": models[0].path}
            suspects, known = questions(pool, rows.read()[0], corpora[0].read(), seed, places)
            found = np.asarray(find("detector", kind)(suspects, known, progress, **own), np.float64)
            if found.shape != (len(pool),) or not ((found >= 0) & (found <= 1)).all():
                raise UserError(f"detector '{kind}' must give a probability for each of {len(pool):,} rows")
            pq.write_table(pa.table({"synthetic_probability": found}), folder / DETECTED, compression="zstd")

        def read(folder: Path) -> Floats:
            return np.asarray(pq.read_table(folder / DETECTED).column("synthetic_probability"))

        inputs: dict[str, Artefact[Any]] = {"offered": offered, "human": rows, "first": models[0], "base": base}
        inputs |= {folder_of(g): corpus for g, corpus in enumerate(corpora)}
        how = {"kind": kind} | self.config.detector.model_dump(mode="json", include=set(own))
        return self.run.make(f"{folder_of(generation)}/detected", write, read, inputs=inputs, options=how, seed=seed)

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
            before, tokens = previous.path if previous else None, int(chosen.lengths.sum())
            # as many tokens as the human part has, each epoch
            passes = {"passes": rows.facts["train"]["tokens"] / tokens} if train.facts["same_steps"] else {}
            model = self.substrate.fit(base.path, chosen, start, before, seed, progress, bench, **passes)
            self.substrate.save(model, folder)
            human = _size(chosen.take(np.flatnonzero(chosen.generation == HUMAN)))
            shares = {"human": human, "human_fraction_of_tokens": human["tokens"] / tokens}
            return _size(chosen) | passes | shares

        inputs: dict[str, Artefact[Any]] = {"base": base, "train": train, "human": rows}
        inputs |= {"previous": previous} if previous else {}
        inputs |= {folder_of(g): corpus for g, corpus in enumerate(corpora)}
        name = f"{folder_of(generation)}/model"
        return self._make(name, write, self.substrate.load, inputs, seed, start, bench=True, shared=True)

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
            return _size(corpus)

        seed, name = self._seed(generation, "corpus"), f"{folder_of(generation)}/corpus"
        inputs = _what_prompts(models[-1], rows, corpora)
        return self._make(name, write, _read_corpus, inputs, seed, bench=True, shared=True)

    def _candidates(
        self, generation: int, model: Artefact[Any], rows: Artefact[Rows], corpora: Sequence[Artefact[Corpus]]
    ) -> Artefact[Corpus]:
        """Several samples of each document."""
        _, options = self.config.section("curation")
        seed, name = self._seed(generation, "corpus"), f"{folder_of(generation)}/candidates"

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
            return _size(corpus)

        inputs = {**_what_prompts(model, rows, corpora)}
        more = {"candidates": options["candidates"]}
        return self._make(name, write, _read_corpus, inputs, seed, bench=True, shared=True, more=more)

    def _curate(
        self, generation: int, models: Sequence[Artefact[Any]], candidates: Artefact[Corpus]
    ) -> Artefact[Corpus]:
        """The samples that a scorer finds the best."""
        kind, options = self.config.section("curation")
        seed = self._seed(generation, "curation")

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
            pq.write_table(pa.table({"candidate": chosen, "score": found[chosen]}), folder / "chosen.parquet")
            kept = curated(corpus, chosen, generation)
            write_corpus(kept, folder / CORPUS, self._born(generation, seed, models[-1]))
            return _size(kept) | {"mean_score": float(found[chosen].mean()), "mean_of_all": float(found.mean())}

        inputs = {"candidates": candidates, "model": models[-1], "first": models[0]}
        name = f"{folder_of(generation)}/corpus"
        assert self.config.curation is not None
        more = {"curation": self.config.curation.model_dump(mode="json")}
        return self._make(name, write, _read_corpus, inputs, seed, more=more)

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

    def reference(self, human: Artefact[Human[Any]]) -> Artefact[list[Reading]]:
        """The measures of the corpus on held-out human text: what a human sample of that size has."""

        def write(folder: Path, progress: Progress) -> None:
            self._read_off(of_human(human.read(), self.config.measured), folder, progress)

        return self._measure(REFERENCE, write, {"human": human})

    def measure(
        self,
        generation: int,
        human: Artefact[Human[Any]],
        rows: Artefact[Rows],
        trains: Sequence[Artefact[Selection]],
        detected: Artefact[Floats] | None,
        model: Artefact[Any],
        corpora: Sequence[Artefact[Corpus]],
        scores: Sequence[Artefact[AllScores]],
    ) -> Artefact[list[Reading]]:
        """Every measure of the configuration on this generation."""

        def trained_on() -> Corpus:
            return gather(trains[-1].read(), lambda g: human_rows(rows) if g == HUMAN else corpora[g].read())

        def write(folder: Path, progress: Progress) -> None:
            here = Generation(
                *rows.read(),
                corpus=corpora[-1].read(),
                trained_on=trained_on,
                scores=scores[-1].read(),
                first=scores[0].read(),
                sizes=Trained(*(part[of] for of in ("rows", "tokens") for part in (model.facts, model.facts["human"]))),
                detected=self._judged(trains[-1], detected) if detected else None,
                human_size=rows.facts["train"],
                trained=[train.facts["origins"] for train in trains],
                wrote=[corpus.facts for corpus in corpora],
            )
            self._read_off(of_generation(human.read(), self.config.measured, here), folder, progress)

        inputs: dict[str, Artefact[Any]] = {"human": human, "rows": rows, "first": scores[0], "scores": scores[-1]}
        inputs |= {"model": model} | ({"detected": detected} if detected else {})
        inputs |= {f"{folder_of(g)}/train": train for g, train in enumerate(trains)}
        inputs |= {f"{folder_of(g)}/corpus": corpus for g, corpus in enumerate(corpora)}
        return self._measure(f"{folder_of(generation)}/measures", write, inputs)

    def _judged(self, train: Artefact[Selection], detected: Artefact[Floats]) -> Detected:
        """What a detector said of a pool, and what its rows are."""
        offered = _read_selection(train.path.with_name("offered"))
        threshold = self.config.section("detector")[1]["threshold"]
        return Detected(detected.read(), offered.generation != HUMAN, threshold)

    def _read_off(self, scene: Scene, folder: Path, progress: Progress) -> None:
        group = READS[self.substrate.reads].measures
        write_readings(read_off(scene, self.config.chosen_measures(), progress, group), folder)

    def _measure(
        self, name: str, write: Callable[[Path, Progress], None], inputs: dict[str, Artefact[Any]]
    ) -> Artefact[list[Reading]]:
        """A step that depends on the options of the measures."""
        options = self.config.measures and self.config.measures.model_dump(mode="json")
        return self.run.make(name, write, load_readings, inputs=inputs, options=options)

    def _born(self, generation: int, seed: int, model: Artefact[Any]) -> dict[str, Any]:
        """Where the rows of a corpus come from."""
        # as configured: what the machine decided, such as how much is written at once, must not change the bytes
        return birth(generation, seed, model.digest, self.config.build_substrate().model_dump(mode="json"))

    def _seed(self, generation: int, artefact: str) -> int:
        member = f"member {self.member}/" if self.member and generation != HUMAN else ""
        return step_seed(self.config.seed, generation, member + artefact)

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
        more: Mapping[str, Any] | None = None,
    ) -> Artefact[Any]:
        """A step that depends on the substrate's options, and on more."""
        options = {"substrate": self.config.substrate, "start": start} | self.substrate.model_dump(mode="json")
        options |= more or {}
        return self.run.make(
            name, write, read, inputs=inputs, options=options, seed=seed, bench=bench, shared=shared, logs=LOGS
        )


def _what_prompts(
    model: Artefact[Any], rows: Artefact[Rows], corpora: Sequence[Artefact[Corpus]]
) -> dict[str, Artefact[Any]]:
    """What a corpus is made from."""
    return {"model": model, "human": rows} | ({"previous": corpora[-1]} if corpora else {})


def _write_selection(chosen: Selection, folder: Path) -> Facts:
    table = pa.table({"generation": chosen.generation, "row": chosen.row})
    pq.write_table(table, folder / "selection.parquet", compression="zstd")
    origins, rows_of = np.unique(chosen.generation, return_counts=True)
    return {
        "rows": len(chosen),
        "human_fraction": float(np.mean(chosen.generation == HUMAN)),
        "origins": dict(zip(map(str, origins.tolist()), rows_of.tolist(), strict=True)),
        "same_steps": chosen.same_steps,
    }


def _read_selection(folder: Path) -> Selection:
    table = pq.read_table(folder / "selection.parquet")
    return Selection(table.column("generation").to_numpy(), table.column("row").to_numpy())


def _read_corpus(folder: Path) -> Corpus:
    return read_corpus(folder / CORPUS)


def judged_file(judge: int) -> str:
    """The scores of a corpus under one judge; 0 is generation 0's model."""
    return f"judge_{judge:02d}.parquet"


def human_rows(rows: Artefact[Rows]) -> Corpus:
    """All human rows that may be trained on: those of the training part, then those in reserve."""
    train, file = rows.read()[0], rows.path / RESERVE
    return Corpus.concatenate([train, read_corpus(file)]) if file.is_file() else train


def gather(selection: Selection, corpus_of: Callable[[int], Corpus]) -> Corpus:
    """The rows that a policy chose, human ones first, then by generation.

    Only corpora that something was chosen from are read.
    """
    origins = np.unique(selection.generation)  # HUMAN is -1, so it comes first
    return Corpus.concatenate([corpus_of(int(g)).take(selection.row[selection.generation == g]) for g in origins])


def _size(corpus: Corpus) -> dict[str, int]:
    return {"rows": len(corpus), "tokens": int(corpus.lengths.sum())}
