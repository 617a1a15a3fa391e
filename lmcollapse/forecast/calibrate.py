"""What the steps of a configuration cost, found by making them: the real thing in small, in a temporary directory.

Tokenizer and base model are those of a larger part of the human data, since they decide what each row costs; then so
little of it is used that a generation takes seconds. Generation 1 keeps everything and so reads twice as much as
generation 0, which tells what reading costs from what writing costs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmcollapse.config import READS, Config, parse
from lmcollapse.corpora.parts import IMAGES, TEXT, finish
from lmcollapse.costs import cost, size_of
from lmcollapse.forecast.ledger import Sizes
from lmcollapse.forecast.rates import Observed, Rates
from lmcollapse.loop import Line, run
from lmcollapse.manifest import begin
from lmcollapse.parquet import PARTS, read_human, write_human
from lmcollapse.records import Facts, read_manifest, read_record
from lmcollapse.steps import ARTEFACTS, Steps, folder_of
from lmcollapse.store import Artefact, open_run
from lmcollapse.types import Human, Images, Progress, Silent

TIME = 8.0
"""Seconds that the largest of at most three small runs may take, as far as can be told from those before it; more only
where twice the smallest one takes more."""
MOST = {"words": 100_000, "images": 5_000}
"""Human data that the base model is made from, at most."""
FEWEST = {"words": (1_500, 150), "images": (128, 24)}
"""The smallest training and held-out parts: below them there is little to measure."""
CHAINS_TIME = 1.0
"""Seconds that a short run of chains takes at least, unless the whole run takes less."""
FEW_GENERATIONS = 8


def calibrate(config: Config, progress: Progress, within: float = TIME) -> tuple[Rates, Sizes]:
    """What the steps of a language model or an image model cost, and how many tokens the whole run has.

    within : seconds for the largest of the small runs.
    """
    with tempfile.TemporaryDirectory(prefix="lmcollapse-forecast-") as folder:
        small = Small.begin(config, Path(folder), progress)
        whole, train = small.whole["train"], min(FEWEST[small.unit][0], small.whole["train"])
        small.run("warm", train, generations=1)  # what is loaded and compiled at first is paid once
        small.rates.observed = small.prepared()
        for name in ("first", "second", "third"):
            took = small.run(name, train)
            if train == whole or (name != "first" and took > within / 2):
                break
            train = min(round(train * min(16.0, max(2.0, within / took))), whole)
        return small.rates, small.sizes()


@dataclass
class Small:
    """Small runs of one configuration, and what they cost.

    unit : words or images.
    whole : of them, in each part of the human data of the real run.
    human, base : of the part that the base model is made from.
    share : tokens that a generation writes for each one of the human training part.
    """

    config: Config
    folder: Path
    progress: Progress
    unit: str
    whole: dict[str, int]
    human: Artefact[Human[Any]]
    base: Artefact[Path]
    human_rows: Facts
    rates: Rates
    share: float = 1.0

    @classmethod
    def begin(cls, config: Config, folder: Path, progress: Progress) -> Small:
        """Human data and base model."""
        reads = READS[config.build_substrate().reads]
        unit = next(iter(reads.sizes.model_fields)).rpartition("_")[2]
        asked = {part: getattr(config.corpus, f"{part}_{unit}") for part in PARTS}
        sizes = {f"{part}_{unit}": min(asked[part] or MOST[unit], MOST[unit]) for part in ("train", "heldout")}
        first = _with(config, corpus={**sizes, f"reserve_{unit}": None}, population=None)
        with progress.stage("calibrating: human data and base model"), open_run(folder / "base", Silent()) as here:
            steps = Steps(here, first, first.build_substrate().decide())
            human = steps.human()
            base = steps.base(human)
            rows = steps.rows(base, human)
        there = {part: human.facts[part][f"{unit}_available"] for part in ("train", "heldout")}
        there["train"] -= asked["reserve"] or 0
        whole = {part: min(asked[part] or there[part], there[part]) for part in ("train", "heldout")}
        whole["reserve"] = asked["reserve"] or 0
        small = cls(config, folder, progress, unit, whole, human, base, rows.facts, Rates())
        small.rates.observed = small.prepared()
        return small

    def prepared(self) -> list[Observed]:
        """What human data and base model cost."""
        tokens = self.human_rows["train"]["tokens"]
        folders = [self.folder / "base" / kind for kind in ("human", "base", "rows")]
        return [Observed(folder.name, tokens, tokens, tokens, *cost([folder])) for folder in folders]

    def sizes(self) -> Sizes:
        """Tokens of the real run."""
        tokens = self.human_rows["train"]["tokens"] / self.human.facts["train"][self.unit]
        human = tokens * self.whole["train"]
        return Sizes(human, tokens * self.whole["reserve"], human * self.share)

    def run(self, name: str, train: int, generations: int = 2) -> float:
        """A run on so much human data, in which everything is kept; its steps are taken into account.

        Returns the seconds that its generations took.
        """
        share = train / self.whole["train"]
        config = _reduced(self.config, share, generations)
        label = f"calibrating: {train:,} of {self.whole['train']:,} {self.unit}"
        with self.progress.stage(label), open_run(self.folder / name, Silent()) as here:
            steps = Steps(here, config, config.build_substrate().decide())
            human = here.make("human", lambda folder, _: self._part(folder, share, train), read_human)
            rows = steps.rows(self.base, human)
            begin(here, config, steps.substrate, human.facts, rows.facts)
            steps.reference(human)
            line = Line(steps, human, self.base, rows)
            started = time.monotonic()
            for generation in range(generations):
                line.advance(generation, line.corpora[:generation])
            took = time.monotonic() - started
            self.share = line.corpora[0].facts["tokens"] / rows.facts["train"]["tokens"]
            size = rows.facts["train"]["tokens"]
            for kind in ("rows", "reference"):
                self.rates.see(here.path / kind, kind, size, size, size)
            observe(self.rates, here.path, generations)
            in_steps = cost([here.path / folder_of(g) / kind for g in range(generations) for kind in KINDS])[0]
            self.rates.overhead = max(0.0, took - in_steps) / generations
            return took

    def _part(self, folder: Path, share: float, train: int) -> Facts:
        human = self.human.read()
        kind: Any = IMAGES if isinstance(human.train, Images) else TEXT
        held = max(FEWEST[self.unit][1], round(self.whole["heldout"] * share))
        part: Human[Any] = finish(Human(human.train, human.heldout), kind, seed=0, train=train, heldout=held)
        write_human(part, folder)
        return part.facts


KINDS = ("offered", "detected", "candidates", *ARTEFACTS)


def observe(rates: Rates, run: Path, generations: int) -> None:
    """Take every step of so many finished generations of a run into account."""
    manifest, rows = read_manifest(run), read_record(run / "rows")
    if manifest is None or rows is None:
        return
    human = rows["facts"]["train"]["tokens"]
    fixed = manifest["config"].get("train", {}).get("steps")
    for generation in range(generations):
        folder = run / folder_of(generation)
        facts = {kind: (read_record(folder / kind) or {"facts": {}})["facts"] for kind in KINDS}
        wrote, read = facts["corpus"].get("tokens", 0), facts["model"].get("tokens", 0)
        offered = read * facts["offered"].get("rows", 0) / max(1, facts["train"].get("rows", 0))
        reads = dict.fromkeys(KINDS, read) | {"offered": offered, "detected": offered}
        reads["model"] = human if fixed else read * facts["model"].get("passes", 1.0)
        for kind in KINDS:
            rates.see(folder / kind, kind, human, reads[kind], wrote)


def calibrate_chains(config: Config, progress: Progress) -> Rates:
    """What a generation of chains costs, from short runs."""
    rates, generations = Rates(), min(FEW_GENERATIONS, config.generations)
    with tempfile.TemporaryDirectory(prefix="lmcollapse-forecast-") as folder:
        run(_with(config, generations=1), Path(folder) / "warm")  # what is loaded and compiled at first is paid once
        while True:
            with progress.stage(f"calibrating: {generations:,} of {config.generations:,} generations"):
                out = Path(folder) / str(generations)
                started = time.monotonic()
                run(_with(config, generations=generations), out)
            took = time.monotonic() - started
            observed = Observed("generations", generations, generations, generations, took, size_of(out))
            rates.observed = [*rates.observed[-1:], observed]
            if took >= CHAINS_TIME or generations == config.generations:
                return rates
            generations = min(4 * generations, config.generations)


def _reduced(config: Config, share: float, generations: int) -> Config:
    """The same in small: so many generations, of which each keeps everything, and sizes that are given cut down."""
    changes: dict[str, Any] = {"generations": generations, "policy": {"kind": "accumulate"}, "population": None}
    given = config.model_dump(mode="json")
    for section, keys in {"sampling": ("tokens",), "train": ("steps",), "measures": ("words", "images")}.items():
        sizes = {key: given[section][key] for key in keys if (given.get(section) or {}).get(key)}
        least = 1 if section == "train" else 100
        changes[section] = {key: max(least, round(size * share)) for key, size in sizes.items()}
    return _with(config, **{name: change for name, change in changes.items() if change != {}})


def _with(config: Config, **changes: Any) -> Config:
    """The configuration with keys changed at its top level or in a section; a section of another kind is replaced."""
    given = config.model_dump(mode="json")
    for name, change in changes.items():
        section = isinstance(change, Mapping) and isinstance(given.get(name), Mapping) and "kind" not in change
        given[name] = {**given[name], **change} if section else change
    return parse(given)
