"""Whether two run directories are the same, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

from lmcollapse.records import HISTORY, LOCK, MANIFEST, RECORD

MAY_DIFFER = {LOCK, MANIFEST}  # who holds it; when it was started
"""Files of a run directory that are not part of the promise of equal bytes."""

TIMES = {"tokens_per_second", "images_per_second", "utilisation"}
"""What a record of a fit says of the time that it took."""


def contents(run: Path) -> dict[str, object]:
    """Every file of a run: its bytes; the records of steps without the seconds that they took."""
    found: dict[str, object] = {}
    for file in sorted(run.rglob("*")):
        if not file.is_file() or file.name in MAY_DIFFER or "figures" in file.parts:
            continue
        name = str(file.relative_to(run))
        if file.name == RECORD:
            record = json.loads(file.read_text())
            del record["seconds"]
            found[name] = record
        elif file.name == HISTORY:
            records = [json.loads(line) for line in file.read_text().splitlines()]
            found[name] = [{key: value for key, value in record.items() if key not in TIMES} for record in records]
        else:
            found[name] = file.read_bytes()
    return found


def different_files(one: Path, two: Path) -> list[str]:
    """Names of files that are in one only, or not equal."""
    a, b = contents(one), contents(two)
    return [name for name in sorted({*a, *b}) if a.get(name) != b.get(name)]
