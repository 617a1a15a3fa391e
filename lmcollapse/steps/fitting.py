"""How a generation is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmcollapse.records import Facts
from lmcollapse.steps.common import Common, Rows, by_folder, folder_of, gather, size
from lmcollapse.store import Artefact
from lmcollapse.types import HUMAN, Corpus, Emptied, Progress, Selection


class Fitting(Common):
    """From a training set to a model."""

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
        seed = self.seed(generation, "model")

        def write(folder: Path, progress: Progress, bench: Path) -> Facts:
            chosen = gather(train.read(), rows, corpora)
            before, tokens = previous.path if previous else None, int(chosen.lengths.sum())
            if not tokens:
                raise Emptied(
                    f"the {len(chosen):,} rows to train on have no token; take human rows too (policy mix), or "
                    "accumulate",
                    "model",
                )
            # as many tokens as the human part has, each epoch
            passes = {"passes": rows.facts["train"]["tokens"] / tokens} if train.facts["same_steps"] else {}
            model = self.substrate.fit(base.path, chosen, start, before, seed, progress, bench, **passes)
            self.substrate.save(model, folder)
            by_people = chosen.generation == HUMAN
            human = {"rows": int(by_people.sum()), "tokens": int(chosen.lengths[by_people].sum())}
            shares = {"human": human, "human_fraction_of_tokens": human["tokens"] / tokens}
            return size(chosen) | passes | shares

        inputs: dict[str, Artefact[Any]] = {"base": base, "train": train, "human": rows}
        inputs |= {"previous": previous} if previous else {}
        inputs |= by_folder(corpora)
        name = f"{folder_of(generation)}/model"
        more = {"same_steps": True} if train.facts["same_steps"] else None  # the rows alone do not say it
        return self.make(name, write, self.substrate.load, inputs, seed, start, bench=True, shared=True, more=more)
