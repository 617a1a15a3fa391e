"""What the records of a run say of each generation: what it trained on, what it started from, what it wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmcollapse.parquet import PARTS, read_born
from lmcollapse.readings import flat, load_readings
from lmcollapse.records import MANIFEST, RECORD, damaged, ending, is_pruned, members_of, read_record
from lmcollapse.results import manifest_of, of_chains, of_images
from lmcollapse.steps import ARTEFACTS, folder_of
from lmcollapse.types import HUMAN, UserError

CONFIG = "config.json"
"""What a model folder in the transformers format has."""

EMBEDDED = {"smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Models that this project brings along, and what the hub calls those that they were made from."""

LANGUAGES = {"docs": "en"}
"""The language of human text, by kind of corpus, where it is known."""


@dataclass(frozen=True)
class Generation:
    """A finished generation.

    train, model, corpus : the facts of these steps.
    start : what its fit began with: base, previous or scratch.
    born : seed, model and sampling of its corpus; None where the corpus does not say.
    readings : its measures.
    """

    number: int
    train: Mapping[str, Any]
    model: Mapping[str, Any]
    corpus: Mapping[str, Any]
    start: str
    born: Mapping[str, Any] | None
    readings: Mapping[str, float | None]

    @property
    def folder(self) -> str:
        """Its folder in the run, and the name of its part of the export."""
        return folder_of(self.number)

    @property
    def origins(self) -> dict[str, int]:
        """Rows that it trained on, by who wrote them: "human", "generation_000" …"""
        return {
            "human" if int(origin) == HUMAN else folder_of(int(origin)): int(rows)
            for origin, rows in self.train["origins"].items()
        }

    def as_metadata(self) -> dict[str, Any]:
        """All of it but the measures, for the header of a card."""
        return {
            "generation": self.number,
            "start": self.start,
            "trained_on": {
                "rows": self.train["rows"],
                "tokens": self.model["tokens"],
                "human_fraction": self.train["human_fraction"],
                "human_fraction_of_tokens": self.model["human_fraction_of_tokens"],
                "origins": self.origins,
            },
            "wrote": {"rows": self.corpus["rows"], "tokens": self.corpus["tokens"]},
            "sampled": None if self.born is None else dict(self.born),
        }


@dataclass(frozen=True)
class Lineage:
    """A run, as far as its generations are finished.

    name : of the run, as the hub takes it.
    account : whose the exported repositories will be; None where that is not known.
    pretrained : what the base folder says of a pretrained model; None for one from scratch.
    models : the generations whose models are there, as transformers folders.
    """

    run: Path
    name: str
    account: str | None
    manifest: Mapping[str, Any]
    generations: tuple[Generation, ...]
    pretrained: Mapping[str, Any] | None
    models: tuple[Generation, ...]

    def repository(self, suffix: str) -> str:
        """The id of one of the exported repositories."""
        return f"{self.account}/{self.name}-{suffix}" if self.account else f"{self.name}-{suffix}"

    @property
    def dataset(self) -> str:
        """The id of the corpora."""
        return self.repository("corpora")

    @property
    def pruned(self) -> bool:
        """Whether models were removed on purpose."""
        return any(is_pruned(self.run / generation.folder / "model") for generation in self.generations)

    def model_name(self, generation: int) -> str:
        """The name of a generation's model."""
        return f"{self.name}-{folder_of(generation).replace('_', '-')}"

    def model_id(self, generation: int) -> str:
        """The id of a generation's model."""
        return f"{self.account}/{self.model_name(generation)}" if self.account else self.model_name(generation)

    def base_model(self, generation: Generation) -> str | None:
        """The id of the model that a generation was fitted from; None for random weights, and for a local folder."""
        if generation.start == "previous":
            return self.model_id(generation.number - 1)
        if generation.start == "scratch" or self.pretrained is None:
            return None
        name = str(self.pretrained["name"])
        return EMBEDDED.get(name) or (name if self.pretrained.get("commit") else None)

    @property
    def human_dataset(self) -> str | None:
        """The id of the dataset that the human text is from, where it is one of the hub's."""
        corpus = self.manifest["config"]["corpus"]
        of_the_hub = corpus["kind"] == "datasets" and self.manifest["human"].get("commits")
        return str(corpus["path"]) if of_the_hub else None

    @property
    def language(self) -> str | None:
        """The language of the human text, where it is known."""
        return LANGUAGES.get(self.manifest["config"]["corpus"]["kind"])

    @property
    def of_images(self) -> bool:
        """Whether it is a run of images."""
        return of_images(self.manifest)

    @property
    def human(self) -> dict[str, Any]:
        """Sizes and fingerprints of the human parts."""
        return {part: self.manifest["human"][part] for part in PARTS if self._has(part)}

    def check(self) -> None:
        """Look at all that cards are made of; KeyError or TypeError where it is not there."""
        for generation in self.generations:
            generation.as_metadata(), self.base_model(generation)
        for facts in self.human.values():
            facts["images" if self.of_images else "words"], facts["sha256"]
        _ = self.human_dataset, self.language

    def _has(self, part: str) -> bool:
        return (self.run / "human" / f"{part}.parquet").is_file()


def lineage_of(run: Path, account: str | None = None) -> Lineage:
    """What a run's records say.

    Raises UserError for a run that has no texts, none that is finished, or files that are not as recorded.
    """
    if members_of(run) != [run]:
        raise UserError(f"{run} is a population; export its members one by one: {members_of(run)[0]}, …")
    manifest = manifest_of(run)
    if of_chains(manifest):
        raise UserError(
            f"{run} is a run of chains ({manifest['config']['substrate']}), which has neither texts nor models that "
            "the hub knows; export a run of language models (substrate causal_lm)"
        )
    try:
        for name in ("human", "rows"):
            _facts(run, name)
        found = tuple(_generations(run))
        pretrained = run / "base" / "pretrained.json"
        of_hub = json.loads(pretrained.read_bytes()) if pretrained.is_file() else None
        if not found:
            ended = ending(manifest)
            how = f": {ended[0]} in generation {ended[1]}, {ended[2]}" if ended else " yet; go on with the run first"
            raise UserError(f"{run} has no finished generation{how}")
        models = tuple(g for g in found if (run / g.folder / "model" / CONFIG).is_file())
        name = re.sub(r"[^A-Za-z0-9._-]+|--+|\.\.+", "-", run.resolve().name).strip("-._") or "run"
        lineage = Lineage(run, name, account, manifest, found, of_hub, models)
        lineage.check()
        return lineage
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{run}: {MANIFEST} or a {RECORD} is damaged ({error!r}); `lmcollapse verify {run}` says which"
        ) from None


def _generations(run: Path) -> Iterator[Generation]:
    number = 0
    while all((run / folder_of(number) / artefact / RECORD).is_file() for artefact in ARTEFACTS):
        folder = folder_of(number)
        facts = {artefact: _facts(run, f"{folder}/{artefact}") for artefact in ARTEFACTS}
        record = read_record(run / folder / "model")
        assert record is not None, folder
        yield Generation(
            number,
            facts["train"],
            facts["model"],
            facts["corpus"],
            str(record["ingredients"]["options"]["start"]),
            read_born(run / folder / "corpus" / "corpus.parquet"),
            flat(load_readings(run / folder / "measures")),
        )
        number += 1


def _facts(run: Path, name: str) -> Mapping[str, Any]:
    """The facts of a step whose files are as recorded."""
    record = read_record(run / name)
    wrong = [RECORD] if record is None else damaged(run / name, record)
    if record is None or wrong:
        raise UserError(
            f"{run / name}: {', '.join(wrong[:3])} not as recorded; `lmcollapse verify {run}` says what else is not, "
            "and the same `lmcollapse run` makes it again"
        )
    facts: Mapping[str, Any] = record["facts"]
    return facts
