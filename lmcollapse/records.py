"""What a run directory holds, read by anybody at any time: it takes no lock and changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import psutil

from lmcollapse import files
from lmcollapse.types import UserError

FORMAT = 1
"""Changes whenever an older run directory could no longer be continued."""
RECORD = "step.json"
MANIFEST = "manifest.json"
METRICS = "metrics.jsonl"
LOCK = ".lmcollapse.lock"
HISTORY = "fit.jsonl"
"""Beside a model that was fitted in steps: how that went and how long it took, one JSON object a line."""

SECTIONS = {
    "config": dict,
    "decided": dict,
    "human": dict,
    "seeds": dict,
    "versions": dict,
    "hardware": dict,
    "starts": list,
}
"""Of the manifest, and what each is."""

ENDINGS = ("diverged", "emptied")
"""States of runs that ended before their last generation: keys of the manifest, which says there where and why."""

Facts = Mapping[str, Any]


def member_name(number: int) -> str:
    """The run directory of a member of a population, within that of the whole."""
    return f"member_{number:02d}"


def members_of(path: Path) -> list[Path]:
    """The run directories of the members of a population; of any other run, itself."""
    members = sorted(path.glob("member_*")) if not (path / MANIFEST).exists() else []
    return members or [path]


def runs_below(directory: Path) -> list[Path]:
    """Every run directory in or below a directory, by name."""
    return sorted({file.parent for file in files.below(directory) if file.name == LOCK})


def holder(path: Path) -> str | None:
    """Who holds a run directory, "process 123 on somewhere", as far as can be told without touching its lock."""
    try:
        words = files.regular(path / LOCK).read_text(encoding="utf-8").split()
        process, host, began = int(words[1]), words[3], float(words[5])
    except (OSError, ValueError, IndexError):
        return None
    if host == socket.gethostname() and began != _began(process):
        return None  # it was killed, and could not say goodbye; its number may be another's by now
    return f"process {process} on {host}"


def holding() -> str:
    """What this process writes into the lock of a run directory that it holds."""
    return f"process {os.getpid()} on {socket.gethostname()} since {_began(os.getpid())}"


def _began(process: int) -> float | None:
    """Seconds from the start of the machine to that of a process, None where there is none: no clock moves that."""
    try:
        return round(psutil.Process(process).create_time() - psutil.boot_time(), 1)
    except psutil.Error:
        return None


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of a run directory, None where there is none; UserError where it cannot be read."""
    file = path / MANIFEST
    if not file.is_file():
        return None
    try:
        manifest: dict[str, Any] = files.parse_json(file.read_bytes())
        if not isinstance(manifest, dict):
            raise ValueError("no JSON object")
    except ValueError as error:
        raise UserError(f"{file}: damaged ({error}); restore it, or start the run again in a new directory") from None
    if not is_sealed(manifest):
        raise UserError(
            f"{file}: damaged (its seal does not fit); restore it, or start the run again in a new directory"
        )
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"{path} has format {manifest.get('format')}, this version reads {FORMAT}; use the version of lmcollapse "
            "that made it or a new directory"
        )
    for section, kind in SECTIONS.items():
        if not isinstance(manifest.get(section, kind()), kind):
            raise UserError(
                f"{file}: damaged ('{section}' is no {kind.__name__}); restore it, or start in a new directory"
            )
    return manifest


def ending(manifest: Facts) -> tuple[str, int, str] | None:
    """How a run ended before its last generation, in which one, and where in it; None where it did not."""
    for state in ENDINGS:
        if (found := manifest.get(state)) is not None:
            where = found.get("where") or f"step {found['step']} of the fit"  # as older runs have it
            return state, found["generation"], where
    return None


def read_metrics(path: Path) -> list[dict[str, float | None]]:
    """The measures of each finished generation of a run, generation 0 first; UserError for a damaged line."""
    file = path / METRICS
    lines = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
    rows = [_measures_of(line, generation, file) for generation, line in enumerate(lines)]
    for step in (*path.glob("generation_*/measures"), *path.glob("generations_*")) if lines else ():
        said = ((read_record(step) or {}).get("facts") or {}).get("table")
        if not isinstance(said, dict):
            continue  # it is damaged itself
        first, beyond = said["first"], said["first"] + said["rows"]
        if beyond <= len(lines) and hashlib.sha256(b"".join(lines[first:beyond])).hexdigest() != said["sha256"]:
            raise _damaged_line(file, first, f"not what {step.relative_to(path)} found")
    return rows


def table_lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as lines of `metrics.jsonl`, flat objects."""
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()


def table_fact(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a step notes of the lines that it gives, of at least one generation, so that a reader knows them again."""
    digest = hashlib.sha256(table_lines(rows)).hexdigest()
    return {"table": {"first": rows[0]["generation"], "rows": len(rows), "sha256": digest}}


def _measures_of(line: bytes, generation: int, file: Path) -> dict[str, float | None]:
    try:
        readings = files.parse_json(line)
        if readings.pop("generation") != generation:
            raise ValueError(f"not generation {generation}")
        return {name: None if value is None else float(value) for name, value in readings.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged_line(file, generation, str(error)) from None


def _damaged_line(file: Path, generation: int, why: str) -> UserError:
    problem = f"line {generation + 1} is damaged ({why})"
    return UserError(f"{file}: {problem}; `lmcollapse run` with the same command writes it again")


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a finished step, None where there is none that can be read (then the step is made again)."""
    try:
        record = files.parse_json(files.regular(folder / RECORD).read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and _whole(record) else None


def _whole(record: Facts) -> bool:
    """Whether a record has the form that its readers rely on."""
    parts = [record.get(part) for part in ("ingredients", "facts", "files")]
    if not all(isinstance(part, dict) for part in parts) or not isinstance(record.get("seconds", 0), int | float):
        return False
    digests = record["ingredients"].get("inputs")
    logs, notes = record.get("logs", []), record.get("notes", [])
    names = [*record["files"], *logs] if isinstance(logs, list) and isinstance(notes, list) else [None]
    return (
        isinstance(digests, dict)
        and all(isinstance(digest, str) for digest in (*digests.values(), *record["files"].values()))
        and all(isinstance(name, str) and _is_inside(name) for name in names)
    )


def _is_inside(name: str) -> bool:
    """Whether a name can be that of a file in a folder; a record that leads elsewhere was not written by a run."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def seal_of(record: Facts) -> str:
    """A hash over what a record says, but for how long the step took and whether it was pruned since."""
    said = {key: value for key, value in record.items() if key not in ("seal", "seconds", "pruned")}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def sealed(record: Facts) -> dict[str, Any]:
    """A record with its seal, as it reads when it comes back from JSON."""
    said = json.loads(json.dumps(record))
    return {**said, "seal": seal_of(said)}


def is_sealed(record: Facts) -> bool:
    """Whether a record is as it was written."""
    return bool(record.get("seal") == seal_of(record))


def is_pruned(folder: Path) -> bool:
    """Whether the files of a finished step were removed on purpose."""
    return bool((read_record(folder) or {}).get("pruned"))


def damaged(folder: Path, record: Facts, digest: Callable[[Path], str] = files.sha256) -> list[str]:
    """Files of a finished step that are missing, changed, or not in its record; of a pruned one none need be there.

    A link counts as changed: what it leads to is no part of the run.
    """
    links = [file for file in (folder, *files.below(folder)) if file.is_symlink()]
    if links:
        return sorted(str(link.relative_to(folder)) for link in links)
    there = set(names_in(folder)) - {RECORD, *record.get("logs", ())}
    names = sorted(there - set(record["files"]) if record.get("pruned") else there ^ set(record["files"]))
    return names + [name for name, known in record["files"].items() if name in there and digest(folder / name) != known]


def sound(path: Path) -> Path:
    """The same path, once all of a finished step that is there was found to be what the step wrote.

    path : a file of a step, or a folder; what belongs to no step is left to its reader.

    Raises UserError for what is damaged.
    """
    folder = next((place for place in (path, *path.parents) if (place / RECORD).is_file()), None)
    while folder is not None:
        record = read_record(folder)
        wrong = [RECORD] if record is None or not is_sealed(record) else _changed(path, folder, record)
        if not wrong:
            break
        if record == read_record(folder):  # else a run has just made it anew
            raise UserError(
                f"{folder / wrong[0]}: damaged (not what its step wrote); `lmcollapse run` with the same command makes "
                "it again"
            )
    return path


def _changed(path: Path, folder: Path, record: Facts) -> list[str]:
    """What of a path is damaged, by its name in the folder of its step; a missing file is left to its reader."""
    if path.is_dir():
        return [name for name in damaged(folder, record) if (folder / name).is_relative_to(path)]
    name = str(path.relative_to(folder))
    if not path.is_file() or name in record.get("logs", ()):
        return []
    return [] if record["files"].get(name) == digest_of(path) else [name]


def digest_of(file: Path) -> str:
    """The hash of a file, which is computed once as long as the file seems to be the same."""
    about = file.stat()
    return _digest(file, about.st_ino, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=1024)
def _digest(file: Path, *stamp: int) -> str:
    """The hash of a file that has this stamp."""
    return files.sha256(file)


def names_in(folder: Path) -> list[str]:
    """The files of a folder, by their paths in it."""
    return [str(file.relative_to(folder)) for file in files.files_in(folder)]


def content_digest(hashes: Mapping[str, str]) -> str:
    """One hash over the names and hashes of an artefact's files."""
    return hashlib.sha256(json.dumps(dict(hashes), sort_keys=True).encode()).hexdigest()
