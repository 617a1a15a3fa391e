"""What a run directory holds, read by anybody at any time: it takes no lock and changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmcollapse import files
from lmcollapse.types import UserError

FORMAT = 1
"""Changes whenever an older run directory could no longer be continued."""
RECORD = "step.json"
MANIFEST = "manifest.json"
METRICS = "metrics.jsonl"
LOCK = ".lmcollapse.lock"

Facts = Mapping[str, Any]


def member_name(number: int) -> str:
    """The run directory of a member of a population, within that of the whole."""
    return f"member_{number:02d}"


def members_of(path: Path) -> list[Path]:
    """The run directories of the members of a population; of any other run, itself."""
    members = sorted(path.glob("member_*")) if not (path / MANIFEST).exists() else []
    return members or [path]


def holder(path: Path) -> str | None:
    """Who holds a run directory, "process 123 on somewhere", as far as can be told without touching its lock."""
    try:
        words = (path / LOCK).read_text(encoding="utf-8").split()
        process, host = int(words[1]), words[3]
    except (OSError, ValueError, IndexError):
        return None
    if host == socket.gethostname():
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return None  # it was killed, and could not say goodbye
        except PermissionError:
            pass
    return f"process {process} on {host}"


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of a run directory, None where there is none; UserError where it cannot be read."""
    file = path / MANIFEST
    if not file.is_file():
        return None
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(manifest, dict):
            raise ValueError("no JSON object")
    except ValueError as error:
        raise UserError(f"{file}: damaged ({error}); restore it, or start the run again in a new directory") from None
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"{path} has format {manifest.get('format')}, this version reads {FORMAT}; use the version of lmcollapse "
            f"that made it ({manifest.get('versions', {}).get('lmcollapse', 'unknown')}) or a new directory"
        )
    return manifest


def read_metrics(path: Path) -> list[dict[str, float | None]]:
    """The measures of each finished generation of a run, generation 0 first; UserError for a damaged line."""
    file = path / METRICS
    lines = file.read_bytes().splitlines() if file.is_file() else []
    return [_measures_of(line, generation, file) for generation, line in enumerate(lines)]


def _measures_of(line: bytes, generation: int, file: Path) -> dict[str, float | None]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        readings = json.loads(line, parse_constant=refuse)
        if readings.pop("generation") != generation:
            raise ValueError(f"not generation {generation}")
        return {name: None if value is None else float(value) for name, value in readings.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"line {generation + 1} is damaged ({error})"
        raise UserError(f"{file}: {problem}; `lmcollapse run` with the same command writes it again") from None


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a finished step, None where there is none that can be read (then the step is made again)."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(record, dict) and {"ingredients", "facts", "files"} <= set(record)
    return record if whole and all(map(_stays_inside, record["files"])) else None


def _stays_inside(name: str) -> bool:
    """Whether a name can be that of a file in a folder; a record that leads elsewhere was not written by a run."""
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def is_pruned(folder: Path) -> bool:
    """Whether the files of a finished step were removed on purpose."""
    return bool((read_record(folder) or {}).get("pruned"))


def damaged(folder: Path, record: Facts) -> list[str]:
    """Files of a finished step that are missing, changed, or not in its record; of a pruned one none need be there.

    A link counts as changed: what it leads to is no part of the run.
    """
    links = [file for file in (folder, *folder.rglob("*")) if file.is_symlink()]
    if links:
        return sorted(str(link.relative_to(folder)) for link in links)
    there = set(names_in(folder)) - {RECORD, *record.get("logs", ())}
    names = sorted(there - set(record["files"]) if record.get("pruned") else there ^ set(record["files"]))
    return names + [
        name for name, digest in record["files"].items() if name in there and files.sha256(folder / name) != digest
    ]


def names_in(folder: Path) -> list[str]:
    """The files of a folder, by their paths in it."""
    return [str(file.relative_to(folder)) for file in files.files_in(folder)]


def content_digest(hashes: Mapping[str, str]) -> str:
    """One hash over the names and hashes of an artefact's files."""
    return hashlib.sha256(json.dumps(dict(hashes), sort_keys=True).encode()).hexdigest()
