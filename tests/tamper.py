"""Runs that somebody has changed: by hand, or with every hash forged."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmcollapse.files import sha256, write_json
from lmcollapse.records import MANIFEST, METRICS, RECORD, read_record, sealed, table_fact, table_lines
from lmcollapse.steps import folder_of


def edit(file: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON file in place, and seal it anew if it is one that bears a seal."""
    value = json.loads(file.read_text())
    change(value)
    write_json(file, sealed(value) if file.name in (RECORD, MANIFEST) else value)


def forge(file: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON file of a step, and its record so that it fits."""
    edit(file, change)
    rehash(step_of(file))


def rehash(folder: Path) -> None:
    """Make the record of a step fit its files again: hashes are no signatures."""
    edit(folder / RECORD, lambda record: record["files"].update({n: sha256(folder / n) for n in record["files"]}))


def write_table(run: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put another `metrics.jsonl` into a run that is no set of chains, and make the records of its steps fit it."""
    (run / METRICS).write_bytes(table_lines(rows))
    for row in rows:
        record = run / folder_of(row["generation"]) / "measures" / RECORD
        edit(record, lambda step, row=row: step["facts"].update(table_fact([row])))  # type: ignore[misc]


def step_of(file: Path) -> Path:
    """The folder of the step that a file is of."""
    return next(folder for folder in file.parents if read_record(folder) is not None)
