"""Files written so that none is ever seen in part, and their hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PARTIAL = ".partial"
"""How the names of files and folders end that are not finished; those of a killed process may be removed."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a process killed meanwhile, finds the old content or the new, never a part."""
    part = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        part.write_bytes(content)
        flush(part)
        part.replace(path)
        flush(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def parse_json(content: str | bytes) -> Any:
    """What a text says as JSON; ValueError where it is none, as NaN is none, or nested too deep to be read."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(content, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None


def flush(path: Path) -> None:
    """Have the operating system bring a file, or a folder's list of names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_full(error: Exception) -> bool:
    """Whether an error says that a disk is full; some libraries say so with errors of their own kind."""
    return any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT))


def below(folder: Path) -> Iterator[Path]:
    """Everything below a folder; links are not followed.

    What vanishes meanwhile is passed over: others may be at work there, and `Path.rglob` ends in an error then.
    """
    for place, folders, names in os.walk(folder):
        yield from (Path(place, name) for name in (*folders, *names))


def files_in(folder: Path) -> list[Path]:
    """All files below a folder, in a fixed order."""
    return sorted(file for file in below(folder) if file.is_file())


def sha256(file: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remove(path: Path) -> None:
    """Remove a file, or a folder and all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
