"""The experiment: human text, then [mix -> fit -> sample -> score -> measure] for each generation.

This file is the order of things and knows no language model: what is fitted is a substrate, which rows it reads is a
policy's choice, and `steps.py` makes each step one artefact of the run directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lmcollapse import processes
from lmcollapse.chains import experiment_of
from lmcollapse.config import Config, difference
from lmcollapse.manifest import begin, changed_since, note_divergence
from lmcollapse.readings import flat
from lmcollapse.scenes import AllScores
from lmcollapse.spans import run_chains
from lmcollapse.steps import Steps
from lmcollapse.store import Artefact, Run, open_run
from lmcollapse.substrates.chain import ChainSubstrate
from lmcollapse.types import Corpus, Diverged, Progress, Selection, Silent, Substrate, UserError


def run(config: Config, out: Path, progress: Progress | None = None) -> Path:
    """Run an experiment in the directory `out`, or go on with it where it was left; return `out`.

    Killed at any moment and started again, it ends with the same bytes as if it had never been interrupted, on the
    same machine. Raises UserError, before any compute is spent, where the configuration cannot work and where `out`
    holds a run of another configuration or is in use by another process.
    """
    substrate = config.build_substrate()
    substrate.check(config.start)
    with open_run(out, progress or Silent()) as here:
        steps = Steps(here, config, settle(here, config, substrate))
        if isinstance(steps.substrate, ChainSubstrate):
            text = None if config.corpus is None else steps.human()
            run_chains(here, experiment_of(config, text and text.read().train), text)
            return out
        steps.check()

        human = steps.human()
        base = steps.base(human)
        rows = steps.rows(base, human)
        steps.check_reserve(rows)
        begin(here, config, steps.substrate, human.facts, rows.facts)
        steps.reference(human)

        trains: list[Artefact[Selection]] = []
        models: list[Artefact[Any]] = []
        corpora: list[Artefact[Corpus]] = []
        scores: list[Artefact[AllScores]] = []
        table = []
        for generation in range(config.generations):
            here.progress.started(generation, config.generations)
            trains.append(steps.mix(generation, rows, corpora))
            try:
                models.append(steps.fit(generation, base, trains[-1], rows, corpora, models))
            except Diverged as error:
                note_divergence(here, generation, error)
                raise
            corpora.append(steps.sample(generation, models, rows, corpora))
            scores.append(steps.score(generation, models, rows, corpora[-1]))
            readings = steps.measure(generation, human, rows, trains, models[-1], corpora, scores)

            table.append({"generation": generation} | flat(readings.read()))
            here.write_metrics(table, complete=len(table) == config.generations)
            here.progress.finished(generation, table[-1])
    return out


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
    return type(substrate).model_validate(manifest["decided"])
