"""What models find of a corpus and of human data, and all measures of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lmcollapse.config import READS
from lmcollapse.metrics.scene import Detected, Scene, Trained
from lmcollapse.parquet import read_scores, write_scores
from lmcollapse.readings import flat, load_readings, read_off, write_readings
from lmcollapse.records import Facts, table_fact
from lmcollapse.scenes import AllScores, Generation, of_generation, of_human
from lmcollapse.steps.common import REFERENCE, Common, Rows, folder_of, gather, read_selection
from lmcollapse.store import Artefact
from lmcollapse.types import HUMAN, Corpus, Floats, Human, Progress, Reading, Selection


class Measuring(Common):
    """From corpora and models to readings."""

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
        return self.make(f"{folder_of(generation)}/scores", write, read, inputs)

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

        def write(folder: Path, progress: Progress) -> Facts:
            here = Generation(
                *rows.read(),
                corpus=corpora[-1].read(),
                trained_on=lambda: gather(trains[-1].read(), rows, corpora),
                scores=scores[-1].read(),
                first=scores[0].read(),
                sizes=Trained(*(part[of] for of in ("rows", "tokens") for part in (model.facts, model.facts["human"]))),
                detected=self._judged(trains[-1], detected) if detected else None,
                human_size=rows.facts["train"],
                trained=[train.facts["origins"] for train in trains],
                wrote=[corpus.facts for corpus in corpora],
            )
            self._read_off(of_generation(human.read(), self.config.measured, here), folder, progress)
            return table_fact([{"generation": generation} | flat(load_readings(folder))])

        inputs: dict[str, Artefact[Any]] = {"human": human, "rows": rows, "first": scores[0], "scores": scores[-1]}
        inputs |= {"model": model} | ({"detected": detected} if detected else {})
        inputs |= {f"{folder_of(g)}/train": train for g, train in enumerate(trains)}
        inputs |= {f"{folder_of(g)}/corpus": corpus for g, corpus in enumerate(corpora)}
        return self._measure(f"{folder_of(generation)}/measures", write, inputs)

    def _judged(self, train: Artefact[Selection], detected: Artefact[Floats]) -> Detected:
        """What a detector said of a pool, and what its rows are."""
        offered = read_selection(train.path.with_name("offered"))
        threshold = self.config.section("detector")[1]["threshold"]
        return Detected(detected.read(), offered.generation != HUMAN, threshold)

    def _read_off(self, scene: Scene, folder: Path, progress: Progress) -> None:
        group = READS[self.substrate.reads].measures
        write_readings(read_off(scene, self.config.chosen_measures(), progress, group), folder)

    def _measure(
        self, name: str, write: Callable[[Path, Progress], Facts | None], inputs: dict[str, Artefact[Any]]
    ) -> Artefact[list[Reading]]:
        """A step that depends on the options of the measures."""
        options = self.config.measures and self.config.measures.model_dump(mode="json")
        return self.run.make(name, write, load_readings, inputs=inputs, options=options)


def judged_file(judge: int) -> str:
    """The scores of a corpus under one judge; 0 is generation 0's model."""
    return f"judge_{judge:02d}.parquet"
