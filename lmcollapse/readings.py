"""From a scene to the readings of all chosen measures, and readings on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lmcollapse.catalog import find
from lmcollapse.files import parse_json, write_json
from lmcollapse.metrics.scene import Scene
from lmcollapse.types import Progress, Reading

FILE = "measures.json"


def read_off(
    scene: Scene, chosen: Mapping[str, Mapping[str, Any]], progress: Progress, group: str = "measure"
) -> list[Reading]:
    """The readings of each chosen measure that finds what it needs in the scene.

    chosen : the options of each measure, by its name in the catalogue or as "package.module:attribute".
    group : the part of the catalogue that names them, "measure" (of text) or "image measure".
    """
    readings: list[Reading] = []
    with progress.stage("measure", total=len(chosen), unit="measures") as advance:
        for name, options in chosen.items():
            readings += scene.read(find(group, name), options)
            advance(1)
    names = [reading.name for reading in readings]
    assert len(set(names)) == len(names), f"readings of one name: {sorted(n for n in names if names.count(n) > 1)}"
    return readings


def write_readings(readings: Sequence[Reading], folder: Path) -> None:
    """Write readings into a folder; those that are no finite number, which JSON has none of, are not defined."""
    write_json(folder / FILE, [asdict(finite(reading)) for reading in readings])


def finite(reading: Reading) -> Reading:
    """The same reading, not defined where it is no finite number; so, too, its interval."""
    low, high = (end if end is not None and math.isfinite(end) else None for end in (reading.low, reading.high))
    if reading.value is not None and not math.isfinite(reading.value):
        return Reading(reading.name, None, reading.note or f"it is {reading.value}, which is no finite number")
    return reading if (low, high) == (reading.low, reading.high) else replace(reading, low=None, high=None)


def load_readings(folder: Path) -> list[Reading]:
    """What `write_readings` wrote."""
    return [Reading(**entry) for entry in parse_json((folder / FILE).read_bytes())]


def flat(readings: Sequence[Reading]) -> dict[str, float | None]:
    """Readings as one flat object: `name`, and `name_low` and `name_high` where there is an interval."""
    found: dict[str, float | None] = {}
    for reading in readings:
        found[reading.name] = reading.value
        if reading.low is not None and reading.high is not None:
            found |= {f"{reading.name}_low": reading.low, f"{reading.name}_high": reading.high}
    return found
