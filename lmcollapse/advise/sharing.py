"""What runs have in common, made once: finished steps of one run linked into another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from lmcollapse import files, processes
from lmcollapse.steps import ARTEFACTS, REFERENCE, folder_of
from lmcollapse.store import open_run, read_manifest, read_record
from lmcollapse.types import Progress

SHARED = ("human", "base", "rows", REFERENCE, *(f"{folder_of(0)}/{name}" for name in ARTEFACTS if name != "train"))
"""All that lies before a policy's first choice. Which rows generation 0 reads is the same, too, but its record names
the policy; it takes no time to make."""


def adopt(run: Path, other: Path, progress: Progress, names: Sequence[str] = SHARED) -> list[str]:
    """Link finished steps of another run into one that has not begun; return the names of those that were taken.

    Nothing is trusted: `Run.make` takes a step only if it was made from the same inputs, options and seed and its files
    have the hashes of its record, and makes it otherwise. As steps are replaced whole and never written into, two runs
    may hold the same file; where the file system has no links, it is copied.
    """
    taken = []
    with open_run(run, progress):
        if not processes.is_first() or read_manifest(run) is not None:
            return []
        for name in names:
            source, target = other / name, run / name
            if target.exists() or read_record(source) is None:
                continue
            partial = target.with_name(f".{target.name}{files.PARTIAL}")
            files.remove(partial)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, partial, copy_function=_link)
            partial.rename(target)
            files.flush(target.parent)
            taken.append(name)
    return taken


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
