"""Every step that a sweep stands for, as the loop would take it: how many tokens it reads and writes, and which steps
several runs have in common.

Policies choose rows without knowing what is in them, so that what they choose is known before anything is made: here as
if each token were a row. Tokens and not rows are counted, since how many rows a model writes depends on how good it is,
and how many tokens does not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmcollapse.config import Config
from lmcollapse.records import member_name, read_record
from lmcollapse.steps import BEFORE, REFERENCE, Steps, folder_of
from lmcollapse.store import Run
from lmcollapse.sweeps import Cell
from lmcollapse.types import HUMAN, Pool, Silent

MOST_ROWS = 400_000
"""Tokens that are looked at in all generations of a run together; of larger runs a smaller copy is looked at."""
LEAST_ROWS = 200


@dataclass(frozen=True)
class Sizes:
    """Tokens of a run: of its human training part, of what is kept in reserve, and written by each generation."""

    human: float
    reserve: float
    written: float


@dataclass(frozen=True)
class Entry:
    """A step that is made once, in whichever run comes first.

    key : the same for runs that share it.
    kind : the last part of its name.
    read : tokens that it reads.
    generation : -1 for what is settled before generation 0.
    kept : whether its files are there in the end.
    """

    key: str
    name: str
    kind: str
    generation: int
    human: float
    read: float
    written: float
    done: bool
    kept: bool


def entries(cell: Cell, sizes: Sizes) -> Iterator[Entry]:
    """The steps of one run, in their order; of a population those of every member."""
    config = cell.config
    members = [0] if config.population is None else range(config.population.members)
    for member in members:
        place = cell.path if config.population is None else cell.path / member_name(member)
        for key, name, generation, read in _steps(config, sizes, place, member):
            kept = not name.endswith("/model") or generation not in _pruned(cell)
            record = read_record(place / name)
            kind = name.rpartition("/")[2]
            yield Entry(key, name, kind, generation, sizes.human, read, sizes.written, record is not None, kept)


def _steps(config: Config, sizes: Sizes, place: Path, member: int) -> Iterator[tuple[str, str, int, float]]:
    """Key, name, generation and tokens read of each step of a run directory."""
    substrate = config.build_substrate()
    steps = Steps(Run(place, Silent()), config, substrate, member)
    alone = str(place) if config.population else ""  # members have nothing linked with other runs
    dumped = config.model_dump(mode="json")
    options = [config.substrate, config.start, substrate.model_dump(mode="json")]
    human = _key("human", dumped["corpus"], config.seed, alone)
    base = _key("base", human, options)
    reference = _key(REFERENCE, human, dumped["measures"])
    for name, key in zip(BEFORE, (human, base, _key("rows", base), reference), strict=True):
        yield key, name, HUMAN, sizes.human
    scale = min(1.0, max(LEAST_ROWS, MOST_ROWS / config.generations) / max(1.0, sizes.human))
    small = [max(1, round(tokens * scale)) for tokens in (sizes.human, sizes.written)]
    small[0] = max(10, small[0])
    reserve = round(sizes.reserve * scale) + config.generations  # rounding must not make it too small
    last = config.generations - 1
    models: list[str] = []
    corpora: list[str] = []
    first_scores = ""
    for generation in range(config.generations):
        folder = folder_of(generation)
        pool = Pool(
            small[0],
            (small[1],) * generation,
            reserve if sizes.reserve else 0,
            seed=(steps.seed(HUMAN, "train"),),
        )
        chosen = steps.select(generation, pool)
        read = len(chosen) * sizes.human / small[0]
        chosen_digest = hashlib.sha256(chosen.generation.tobytes() + chosen.row.tobytes()).hexdigest()
        train = _key("train", base, generation, chosen_digest, dumped["policy"], *corpora)
        filtered = ""
        if config.detector is not None and generation:
            filtered = _key("detected", train, dumped["detector"], *models[:1])
            yield train, f"{folder}/offered", generation, read
            yield filtered, f"{folder}/detected", generation, read
            if dumped["detector"]["action"] == "importance":
                read *= dumped["detector"]["upsample"]
        yield _key(train, filtered), f"{folder}/train", generation, read
        # every fit takes as many steps as on the human part, or as the configuration says
        fixed = chosen.same_steps or dumped.get("train", {}).get("steps")
        effective = sizes.human if fixed else read
        before = models[-1:] if config.start == "previous" else []
        made_from = (chosen_digest, filtered, bool(fixed), steps.seed(generation, "model"))
        models.append(_key("model", base, *made_from, *before, *corpora))
        yield models[-1], f"{folder}/model", generation, effective
        if config.curation is not None:
            yield _key("candidates", models[-1], *corpora[-1:]), f"{folder}/candidates", generation, read
        corpora.append(_key("corpus", models[-1], dumped["curation"], *corpora[-1:]))
        yield corpora[-1], f"{folder}/corpus", generation, read
        if config.population is not None and config.population.exchange == "shared" and generation < last:
            yield _key("pool", corpora[-1]), f"{folder}/pool", generation, read
        scores = _key("scores", corpora[-1], models[0])
        first_scores = first_scores or scores
        yield scores, f"{folder}/scores", generation, read
        yield (
            _key("measures", first_scores, scores, dumped["measures"], made_from),
            f"{folder}/measures",
            generation,
            read,
        )


def _pruned(cell: Cell) -> set[int]:
    generations = cell.config.generations
    return {old for generation in range(generations) for old in cell.part.pruned(generation, generations)}


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def tokens_in(place: Path) -> Sizes | None:
    """The sizes of a run that is there already; None where it has no finished generation."""
    rows, corpus = read_record(place / "rows"), read_record(place / folder_of(0) / "corpus")
    if rows is None or corpus is None:
        return None
    reserve = rows["facts"].get("reserve", {"tokens": 0})["tokens"]
    return Sizes(rows["facts"]["train"]["tokens"], reserve, corpus["facts"]["tokens"])
