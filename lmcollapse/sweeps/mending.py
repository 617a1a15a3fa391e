"""Damaged steps of finished runs: nobody takes up a run that is complete, unless somebody looks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lmcollapse import processes
from lmcollapse.files import sha256
from lmcollapse.records import RECORD, damaged, is_sealed, read_record
from lmcollapse.store import InUse, open_run
from lmcollapse.sweeps.plan import Sweep
from lmcollapse.types import Progress, Silent


def mend(sweep: Sweep, progress: Progress | None = None) -> None:
    """Have every damaged step of a complete run be made again: without its record it is none.

    What several runs have in common is looked at once. A run that somebody holds is left to them.
    """
    complete = [run for cell in sweep.cells if cell.complete for run in cell.runs] if processes.is_first() else []
    digest = _once()
    if complete:
        progress = progress or Silent()
        with progress.stage("checking what is finished", total=len(complete), unit="runs") as advance:
            for run in complete:
                for line in _mended(run, digest):
                    progress.say(line)
                advance(1)
    processes.agree(None)


def _mended(run: Path, digest: Callable[[Path], str]) -> list[str]:
    """What was wrong with a run."""
    wrong = []
    for file in sorted((*run.glob(f"*/{RECORD}"), *run.glob(f"*/*/{RECORD}"))):
        record = read_record(file.parent)
        if record is None or not is_sealed(record) or damaged(file.parent, record, digest):
            wrong.append(file)
    if not wrong:
        return []
    try:
        with open_run(run, Silent()):
            for file in wrong:
                file.unlink(missing_ok=True)
    except InUse:
        return []
    return [f"{file.parent}: damaged (not what its step wrote); it is made again" for file in wrong]


def _once() -> Callable[[Path], str]:
    """The hash of a file, which is computed once where it has several names."""
    known: dict[tuple[int, ...], str] = {}

    def digest(file: Path) -> str:
        about = file.stat()
        key = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
        if key not in known:
            known[key] = sha256(file)
        return known[key]

    return digest
