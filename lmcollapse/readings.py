"""From a scene to the readings of all chosen measures, and readings on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmcollapse.catalog import find
from lmcollapse.files import write_json
from lmcollapse.metrics.drift import Lineage
from lmcollapse.metrics.scene import MOST_WORDS, HumanText, Scene
from lmcollapse.types import HUMAN, Human, Progress, Reading

FILE = "measures.json"


def read_off(scene: Scene, chosen: Mapping[str, Mapping[str, Any]], progress: Progress) -> list[Reading]:
    """The readings of each chosen measure that finds what it needs in the scene.

    chosen : the options of each measure, by its name in the catalogue or as "package.module:attribute".
    """
    readings: list[Reading] = []
    with progress.stage("measure", total=len(chosen), unit="measures") as advance:
        for name, options in chosen.items():
            readings += scene.read(find("measure", name), options)
            advance(1)
    names = [reading.name for reading in readings]
    assert len(set(names)) == len(names), f"readings of one name: {sorted(n for n in names if names.count(n) > 1)}"
    return readings


def write_readings(readings: Sequence[Reading], folder: Path) -> None:
    """Write readings into a folder."""
    write_json(folder / FILE, [asdict(reading) for reading in readings])


def load_readings(folder: Path) -> list[Reading]:
    """What `write_readings` wrote."""
    return [Reading(**entry) for entry in json.loads((folder / FILE).read_text(encoding="utf-8"))]


def flat(readings: Sequence[Reading]) -> dict[str, float | None]:
    """Readings as one flat object: `name`, and `name_low` and `name_high` where there is an interval."""
    found: dict[str, float | None] = {}
    for reading in readings:
        found[reading.name] = reading.value
        if reading.low is not None and reading.high is not None:
            found |= {f"{reading.name}_low": reading.low, f"{reading.name}_high": reading.high}
    return found


def human_text(human: Human, words: int | None) -> tuple[HumanText, int]:
    """A run's human text as numbered words, and how many words of each corpus are measured in every generation.

    words : so many; None for a quarter of the human training part, which leaves room for late generations, that fill
        much of their tokens with blank lines, and no more than the held-out part has, so that it can show what another
        human sample of that size gives.
    """
    text = HumanText.of(human.train.texts, human.heldout.texts, words or MOST_WORDS)
    return text, words or max(1, min(text.train_words // 4, text.heldout_words, MOST_WORDS))


def lineage(
    human_words: int,
    human: Mapping[str, int],
    trained: Sequence[Mapping[str, int]],
    wrote: Sequence[Mapping[str, int]],
) -> list[Lineage]:
    """Sizes of all generations in words, as if each had written its tokens at the human number of words a token.

    human_words : words of the human training part.
    human, wrote : rows and tokens of the human training part, and of what each generation wrote.
    trained : rows that each generation was trained on, by the generation that wrote them.
    """
    facts = {HUMAN: human, **dict(enumerate(wrote))}
    words = {origin: human_words * size["tokens"] / max(1, human["tokens"]) for origin, size in facts.items()}

    def words_of(origin: int, rows: int) -> int:
        return round(words[origin] * rows / max(1, facts[origin]["rows"]))

    return [
        Lineage(
            {int(origin): words_of(int(origin), rows) for origin, rows in origins.items()}, round(words[generation])
        )
        for generation, origins in enumerate(trained)
    ]
