"""What is settled before generation 0."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lmcollapse.catalog import find
from lmcollapse.config import READS
from lmcollapse.corpora import load_human
from lmcollapse.options import bind, options_of
from lmcollapse.parquet import read_corpus, read_human, write_corpus, write_human
from lmcollapse.records import Facts
from lmcollapse.steps.common import RESERVE, Common, Rows, size
from lmcollapse.store import Artefact
from lmcollapse.types import HUMAN, Human, Pool, Progress, UserError


class Preparing(Common):
    """Human data, the base model, rows; and all that can be refused beforehand."""

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
        chosen = self.select(1, Pool(human=10, synthetic=(10,), reserve=10))
        if chosen.same_steps and not self.substrate.iterative:
            raise UserError(
                f"policy {self.config.section('policy')[0]}: same_steps has no effect on {self.config.substrate}, "
                "which is not fitted in steps; leave it out"
            )

    def check_reserve(self, rows: Artefact[Rows]) -> None:
        """Raise UserError where the human text in reserve will not last for all generations."""
        last = self.config.generations - 1
        if last:
            self.select(last, self.pool(rows, [rows.facts["train"]["rows"]] * last))

    def human(self) -> Artefact[Human[Any]]:
        """Human text, or human images, in disjoint parts."""
        assert self.config.corpus is not None
        options, seed = self.config.corpus.model_dump(mode="json"), self.seed(HUMAN, "human")
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

        seed = self.seed(HUMAN, "base")

        def write(folder: Path, progress: Progress) -> None:
            with progress.stage("preparing the base model"):
                self.substrate.prepare(human.read(), folder, seed)

        return self.make("base", write, lambda folder: folder, {"human": human}, seed)

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
            facts = {"train": size(train), "heldout": size(heldout)}
            if reserve is None:
                return facts
            # one numbering for all human rows: those in reserve come after the others
            write_corpus(replace(reserve, row=reserve.row + len(train)), folder / RESERVE)
            return facts | {"reserve": size(reserve)}

        def read(folder: Path) -> Rows:
            return read_corpus(folder / "train.parquet"), read_corpus(folder / "heldout.parquet")

        return self.make("rows", write, read, {"base": base, "human": human})
