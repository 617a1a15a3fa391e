"""Files written so that none is ever seen in part, and their hashes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lmcollapse.types import UserError

PARTIAL = ".partial"
"""How the names of files and folders end that are not finished; those of a killed process may be removed."""


def write_atomically(path: Path, content: bytes, through: Path | None = None) -> None:
    """Write a file so that a reader, or a process killed meanwhile, finds the old content or the new, never a part.

    through : folder of the same file system in which it is written before it is moved; its own by default.
    """
    # by a number that nobody else has: machines that share a folder have process numbers in common, and a link that
    # waits under a name that can be foreseen leads elsewhere
    part = (through or path.parent) / f".{path.name}.{secrets.token_hex(8)}{PARTIAL}"
    try:
        try:
            with part.open("xb") as stream:
                stream.write(content)
            flush(part)
            part.replace(path)
            flush(path.parent)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None  # the file that was meant


def write_json(path: Path, value: Any, through: Path | None = None) -> None:
    """Write readable JSON, atomically; `through` as in `write_atomically`."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # names of files may hold bytes that are no UTF-8: lone surrogates, which JSON has in this form alone
    write_atomically(path, text.encode(errors="backslashreplace"), through)


def keep(path: Path, content: bytes) -> None:
    """Write what `kept` gives back: work that is not finished, or that can be made again."""
    write_atomically(path, hashlib.sha256(content).digest() + content)


def kept(path: Path) -> bytes | None:
    """What was kept in a file; None where there is none, or where it is damaged and must be made again."""
    try:
        content = regular(path).read_bytes()
    except OSError:
        return None
    digest, content = content[:32], content[32:]
    return content if hashlib.sha256(content).digest() == digest else None


def regular(path: Path) -> Path:
    """The same path, of a file; OSError for anything else: who opens a pipe may wait for ever, a device may not end."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "a pipe or a device, and no file", str(path))
    return path


def inside(path: Path, folder: Path) -> Path:
    """The same path; UserError where a link on it leads out of the folder."""
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise UserError(f"{path} is a link that leads out of {folder}, or is in one; remove it")
    return path


def local(path: Path) -> str:
    """A path as libraries want it that take `s3:mine` for an address on the network: from the root on."""
    return str(path.absolute())


def expanded(path: str | Path) -> Path:
    """A path with the home directory in the place of `~`."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: there is no such home directory here; give the path without ~") from None


def lock_file(path: Path) -> IO[bytes]:
    """A file to be held, made where it is missing; OSError where a link or a pipe is in its place."""
    lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b", buffering=0)
    regular(path)
    return lock


def hold(file: IO[Any], path: Path, *, wait: bool = False) -> bool:
    """Lock an open file against all other processes until it is closed; False where another has it.

    path : what the user knows it by.

    The kernel releases the lock when the process dies, however it dies. Raises UserError where the file system has no
    locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        raise UserError(
            f"{path}: cannot be locked ({error.strerror}); give a directory on a file system that has locks, such "
            "as a local disk"
        ) from None
    return True


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
    with regular(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remove(path: Path) -> None:
    """Remove a file, or a folder and all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
