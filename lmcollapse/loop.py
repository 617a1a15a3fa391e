"""The experiment: human text, then [mix -> fit -> sample -> score -> measure] for each generation.

This file is the order of things and knows no language model: what is fitted is a substrate, which rows it reads is a
policy's choice, and `steps` makes each step one artefact of the run directory. Several models that train on each
other's output are as many run directories, each a member of the population.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from lmcollapse import processes
from lmcollapse.chains import experiment_of
from lmcollapse.config import Config, difference
from lmcollapse.files import inside
from lmcollapse.manifest import begin, changed_since, note_ending
from lmcollapse.options import bind
from lmcollapse.readings import flat
from lmcollapse.records import MANIFEST, member_name
from lmcollapse.scenes import AllScores
from lmcollapse.spans import run_chains
from lmcollapse.steps import Steps, folder_of
from lmcollapse.store import ALONE, Artefact, Part, Run, open_run
from lmcollapse.substrates.chain import ChainSubstrate
from lmcollapse.types import Corpus, Emptied, Ended, Human, Progress, Selection, Silent, Substrate, UserError


def run(config: Config, out: Path, progress: Progress | None = None, part: Part = ALONE) -> Path:
    """Run an experiment in the directory `out`, or go on with it where it was left; return `out`.

    Killed at any moment and started again, it ends with the same bytes as if it had never been interrupted, on the
    same machine. Raises UserError, before any compute is spent, where the configuration cannot work and where `out`
    holds a run of another configuration or is in use by another process.

    part : what it is to the runs beside it.
    """
    substrate = config.build_substrate()
    substrate.check(config.start)
    places = [out]
    if config.population is not None and not config.of_chains:
        places = [inside(out / member_name(number), out) for number in range(config.population.members)]
    with ExitStack() as held:
        runs = [held.enter_context(open_run(place, progress or Silent(), part)) for place in places]
        settled = [settle(here, config, substrate) for here in runs]
        if isinstance(substrate, ChainSubstrate):
            text = None if config.corpus is None else Steps(runs[0], config, settled[0]).human()
            run_chains(runs[0], experiment_of(config, text and text.read().train), text)
            return out
        lines = [
            Line.begin(Steps(here, config, decided, number))
            for number, (here, decided) in enumerate(zip(runs, settled, strict=True))
        ]
        for generation in range(config.generations):
            wrote = [line.corpora[:generation] for line in lines]
            for number, line in enumerate(lines):
                line.advance(generation, line.steps.offered(generation, number, wrote))
    return out


@dataclass
class Line:
    """One line of descent: the generations so far of one run directory."""

    steps: Steps
    human: Artefact[Human[Any]]
    base: Artefact[Path]
    rows: Artefact[tuple[Corpus, Corpus]]
    trains: list[Artefact[Selection]] = field(default_factory=list)
    models: list[Artefact[Any]] = field(default_factory=list)
    corpora: list[Artefact[Corpus]] = field(default_factory=list)
    scores: list[Artefact[AllScores]] = field(default_factory=list)
    table: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def begin(cls, steps: Steps) -> Line:
        """What is settled before generation 0."""
        steps.check()
        human = steps.human()
        base = steps.base(human)
        rows = steps.rows(base, human)
        steps.check_reserve(rows)
        begin(steps.run, steps.config, steps.substrate, human.facts, rows.facts)
        steps.reference(human)
        return cls(steps, human, base, rows)

    def advance(self, generation: int, offered: Sequence[Artefact[Corpus]]) -> None:
        """One generation more; offered are the corpora of all generations before it that it may train on.

        Raises Ended, after it was noted in the manifest, where it cannot be made.
        """
        try:
            self._advance(generation, offered)
        except Ended as error:
            if generation == 0 and isinstance(error, Emptied):  # it reads what was given, which is not enough
                raise UserError(str(error)) from None
            note_ending(self.steps.run, generation, error)
            raise

    def _advance(self, generation: int, offered: Sequence[Artefact[Corpus]]) -> None:
        steps, here = self.steps, self.steps.run
        here.progress.started(generation, steps.config.generations)
        train, detected = steps.mix(generation, self.base, self.rows, offered, self.models)
        self.trains.append(train)
        model = steps.fit(generation, self.base, train, self.rows, offered, self.models)
        self.models.append(model)
        self.corpora.append(steps.sample(generation, self.models, self.rows, self.corpora))
        self.scores.append(steps.score(generation, self.models, self.rows, self.corpora[-1]))
        made = [*offered, self.corpora[-1]]
        readings = steps.measure(generation, self.human, self.rows, self.trains, detected, model, made, self.scores)

        self.table.append({"generation": generation} | flat(readings.read()))
        here.write_metrics(self.table, complete=len(self.table) == steps.config.generations)
        here.progress.finished(generation, self.table[-1])
        for old in here.part.pruned(generation, steps.config.generations):
            here.prune(f"{folder_of(old)}/model")


def settle(here: Run, config: Config, substrate: Substrate) -> Substrate:
    """The substrate with every choice that is left to the machine made: once, and obeyed whenever the run goes on."""
    manifest = processes.agree(here.manifest())
    if manifest is None:
        decided = processes.agree(substrate.decide().model_dump(mode="json"))
        return type(substrate).model_validate(decided)
    if different := difference(manifest["config"], config.model_dump(mode="json")):
        raise UserError(
            f"{here.path} holds a run of another configuration ({'; '.join(different)}); give another directory with "
            "--out, or the configuration that it was made with"
        )
    for line in changed_since(manifest):
        here.progress.say(line)
    return cast(Substrate, bind(cast(Any, type(substrate)), manifest["decided"], f"{here.path / MANIFEST}: decided"))
