"""What there is in run directories has cost: seconds, and bytes on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from lmcollapse.records import read_metrics, read_record
from lmcollapse.steps import ARTEFACTS, folder_of


def costs(path: Path) -> list[tuple[float, float]]:
    """Seconds and bytes of each finished generation of a run."""
    found = []
    for generation in range(len(read_metrics(path))):
        steps = [path / folder_of(generation) / name for name in ARTEFACTS]
        if steps[0].is_dir():
            found.append(cost(steps))
    return found or list(_of_chains(path))


def _of_chains(path: Path) -> Iterator[tuple[float, float]]:
    for folder in sorted(path.glob("generations_*")):
        if record := read_record(folder):
            first, last = record["facts"]["generations"]
            seconds, size = cost([folder])
            yield from [(seconds / (last - first + 1), size / (last - first + 1))] * (last - first + 1)


def cost(steps: Sequence[Path]) -> tuple[float, float]:
    """Seconds and bytes of these steps; of those that are not there, nothing."""
    records = [read_record(step) or {} for step in steps]
    return float(sum(record.get("seconds", 0.0) for record in records)), float(sum(size_of(step) for step in steps))


def size_of(folder: Path) -> int:
    """Bytes below a folder; a file that several runs hold counts once, one that vanishes meanwhile not at all."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                about = (Path(place) / name).stat()
            except OSError:
                continue
            found[about.st_dev, about.st_ino] = about.st_size
    return sum(found.values())


def in_bytes(size: float) -> str:
    """A size as a person reads it."""
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000 or unit == "GB":
            break
    return f"{size:,.0f} {unit}" if size >= 10 else f"{size:.1f} {unit}"
