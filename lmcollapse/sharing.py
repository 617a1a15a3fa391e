"""What runs have in common, made once: a finished step of one run becomes, by hard links, a step of another.

Two steps are the same where they were made from the same inputs, options and seed. As steps are replaced whole and
never written into, two runs may hold the same files; where a file system has no links they are copied.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmcollapse import files

LOCKS = 4096
"""Files that processes hold while they make a step, so that no two make the same one. Different steps share a file
once in so many pairs; one of them then waits without need."""


@dataclass(frozen=True)
class Peers:
    """Runs that may have steps in common with each other.

    runs : their directories, there or not.
    locks : a folder of their own.
    """

    runs: tuple[Path, ...]
    locks: Path

    @contextmanager
    def alone(self, ingredients: Mapping[str, Any], waiting: Callable[[], None]) -> Iterator[None]:
        """Hold what is made from these ingredients against all other processes; `waiting` is called if one has it.

        The kernel releases the lock when a process dies, however it dies.
        """
        digest = hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()
        self.locks.mkdir(parents=True, exist_ok=True)
        file = self.locks / f"{int(digest[:8], 16) % LOCKS:03x}"
        with files.lock_file(file) as lock:
            if not files.hold(lock, self.locks):
                waiting()
                files.hold(lock, self.locks, wait=True)
            yield

    def having(self, run: Path, name: str) -> Iterator[Path]:
        """The folders of the step of this name in all other runs."""
        for peer in self.runs:
            if peer != run and (peer / name).is_dir():
                yield peer / name


def link_folder(source: Path, target: Path) -> None:
    """Have the files of one folder in another, which is not there yet, in one rename."""
    partial = target.with_name(f".{target.name}{files.PARTIAL}")
    files.remove(partial)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, partial, copy_function=_link)
    partial.rename(target)
    files.flush(target.parent)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
