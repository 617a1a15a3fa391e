"""The run directory: one folder an artefact, each made atomically from named inputs, recorded with its hashes.

A step is finished when its folder is there: it is written beside its place under another name and moved in one rename,
with a `step.json` that says what it was made from and the SHA-256 of every file. `make` gives back what is there if
that record still fits, and makes it otherwise. Resuming, sharing and verifying are all this one mechanism; nothing
else in the project knows about restarts.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from lmcollapse import files, processes
from lmcollapse.records import (
    FORMAT,
    LOCK,
    MANIFEST,
    METRICS,
    RECORD,
    Facts,
    content_digest,
    damaged,
    holder,
    holding,
    is_pruned,
    is_sealed,
    names_in,
    read_manifest,
    read_record,
    sealed,
    table_lines,
)
from lmcollapse.sharing import Peers, link_folder
from lmcollapse.spool import beside
from lmcollapse.types import Progress, UserError

KeepModels = Literal["all", "first_last", "none"]

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """What a run directory is to the runs beside it, and how much of it is kept. None of this changes its numbers.

    condition : in words, what tells it from the others, beside the seed; None where its data policy says it.
    peers : runs that may have steps in common with it.
    keep_models : of which generations the models stay once no later step reads them.
    """

    condition: str | None = None
    peers: Peers | None = None
    keep_models: KeepModels = "all"

    def pruned(self, generation: int, generations: int) -> list[int]:
        """The generations whose models are needed no more when this one, of so many, is finished.

        The first one's model is needed to the end: it judges what all later ones write.
        """
        if self.keep_models == "all":
            return []
        before = [generation - 1] if generation > 1 else []
        return [*before, *sorted({0, generation})] if self._ends(generation, generations) else before

    def _ends(self, generation: int, generations: int) -> bool:
        return self.keep_models == "none" and generation == generations - 1


ALONE = Part()


class InUse(UserError):
    """Another process holds the run directory."""


@dataclass(frozen=True)
class Artefact(Generic[T]):
    """A finished step: its folder, the hash of its content, the facts its maker noted, and how to read it."""

    path: Path
    digest: str
    facts: Facts
    _read: Callable[[Path], T]

    def read(self) -> T:
        """What is in it, always from disk: a resumed run and an uninterrupted one go on from the same bytes.

        Raises UserError where it was pruned.
        """
        if is_pruned(self.path):
            raise UserError(
                f"{self.path} was pruned (keep_models) and is needed again; remove that folder, and the same command "
                "makes it anew"
            )
        return self._read(self.path)


class _Noting:
    """Progress that also keeps the lines that a step said, for its record."""

    def __init__(self, progress: Progress) -> None:
        self.notes: list[str] = []
        self._progress = progress
        self.stage, self.started, self.finished = progress.stage, progress.started, progress.finished

    def say(self, line: str) -> None:
        self.notes.append(line)
        self._progress.say(line)


class Run:
    """An open run directory, held by the processes of this run alone. Made by `open_run`."""

    def __init__(self, path: Path, progress: Progress, part: Part = ALONE) -> None:
        self.path = path
        self.progress = progress
        self.part = part

    def make(
        self,
        name: str,
        write: Callable[..., Facts | None],
        read: Callable[[Path], T],
        *,
        inputs: Mapping[str, Artefact[Any]] | None = None,
        options: Any = None,
        seed: int | None = None,
        bench: bool = False,
        shared: bool = False,
        logs: Sequence[str] = (),
    ) -> Artefact[T]:
        """The artefact `name`, from disk if what it was made from has not changed, else made now.

        write : `write(folder, progress)` fills an empty folder and may return facts worth noting (row counts); must be
            a pure function of inputs, options and seed.
        read : reads the folder back.
        inputs, options, seed : all that the result depends on.
        bench : for long steps: `write(folder, progress, bench)` has a folder for finished parts besides, which a later
            start finds again as it was left, as long as inputs, options and seed are the same.
        logs : files that tell how long things took: they are kept, but are no part of what the artefact is.
        shared : all processes of the run call `write`, and what the first one writes counts; else only that one does.
        """
        ingredients = {
            "format": FORMAT,
            "step": name,
            "inputs": {key: artefact.digest for key, artefact in (inputs or {}).items()},
            "options": options,
            "seed": seed,
        }
        folder = self.path / name
        files.inside(folder.parent, self.path)
        record = processes.agree(self._finished(folder, ingredients) if processes.is_first() else None)
        if record is None:
            with self._alone(name, ingredients):
                record = processes.agree(self._adopted(name, ingredients) if processes.is_first() else None)
                record = record or self._made(folder, ingredients, write, bench, shared, logs)
        if bench and processes.is_first():
            files.remove(_bench_of(folder))  # here, too, where a kill came between the end of the step and this
        return Artefact(folder, content_digest(record["files"]), record["facts"], read)

    def _finished(self, folder: Path, ingredients: Facts) -> Facts | None:
        """The record of a step that is there, whole, and made from this."""
        record = read_record(folder)
        fits = record is not None and record["ingredients"] == json.loads(json.dumps(ingredients)) and is_sealed(record)
        return record if record is not None and fits and not damaged(folder, record) else None

    def _alone(self, name: str, ingredients: Facts) -> AbstractContextManager[None]:
        """While it lasts no other run makes the same step."""
        if self.part.peers is None or not processes.is_first():
            return nullcontext()
        return self.part.peers.alone(
            ingredients, lambda: self.progress.say(f"{name}: another run is making it; waiting")
        )

    def _adopted(self, name: str, ingredients: Facts) -> Facts | None:
        """The record of a step that another run has made from the same, now a step of this one, too."""
        for source in self.part.peers.having(self.path, name) if self.part.peers is not None else ():
            record = read_record(source)
            if record is None or record["ingredients"] != json.loads(json.dumps(ingredients)) or is_pruned(source):
                continue
            files.remove(self.path / name)
            try:
                link_folder(source, self.path / name)
            except OSError:
                if read_record(source) == record:
                    raise
                continue  # its run has pruned it, or is making it again, at this moment
            if found := self._finished(self.path / name, ingredients):
                return found
        return None

    def prune(self, name: str) -> None:
        """Remove the files of a finished step that no later one reads; its record stays, and says what they were."""
        folder = self.path / name
        record = read_record(folder) if processes.is_first() else None
        if record is None:
            return
        if not is_pruned(folder):
            # first: a kill may come in between; and not through the step's folder, where what it left would be damage
            files.write_json(folder / RECORD, record | {"pruned": True}, through=folder.parent)
        for file in record["files"]:
            (folder / file).unlink(missing_ok=True)

    def _made(
        self,
        folder: Path,
        ingredients: Facts,
        write: Callable[..., Facts | None],
        bench: bool,
        shared: bool,
        logs: Sequence[str],
    ) -> Facts:
        """The record of a step that is made now."""
        benches = [_bench(folder, ingredients) if processes.is_first() else _bench_of(folder)] if bench else []
        if shared:
            processes.agree(None)  # the bench is there
        if processes.is_first():
            return processes.agree(self._write(folder, ingredients, write, benches, logs))
        if shared:
            with tempfile.TemporaryDirectory(prefix="lmcollapse-") as nobody_reads:
                write(Path(nobody_reads), self.progress, *benches)
        record: Facts = processes.agree({})
        return record

    def _write(
        self,
        folder: Path,
        ingredients: Facts,
        write: Callable[..., Facts | None],
        benches: Sequence[Path],
        logs: Sequence[str],
    ) -> Facts:
        partial = folder.with_name(f".{folder.name}{files.PARTIAL}")
        files.remove(partial)
        partial.mkdir(parents=True)
        noting = _Noting(self.progress)
        started = time.monotonic()
        try:
            facts = write(partial, noting, *benches)
        except BaseException:
            files.remove(partial)
            raise
        record = {
            "ingredients": ingredients,
            "facts": dict(facts or {}),
            "files": {name: files.sha256(partial / name) for name in names_in(partial) if name not in logs},
            "logs": [name for name in names_in(partial) if name in logs],
            "notes": noting.notes,
            "seconds": round(time.monotonic() - started, 3),
        }
        files.write_json(partial / RECORD, sealed(record))
        for file in files.files_in(partial):
            files.flush(file)
        files.remove(folder)
        partial.rename(folder)
        files.flush(folder.parent)
        return record

    def manifest(self) -> dict[str, Any] | None:
        """The manifest, or None where the run has not come that far."""
        return read_manifest(self.path)

    def write_manifest(self, manifest: Facts) -> None:
        """Write the manifest, atomically."""
        if not processes.is_first():
            return
        files.write_json(self.path / MANIFEST, sealed(manifest))

    def write_metrics(self, rows: list[dict[str, Any]], *, complete: bool) -> None:
        """Write `metrics.jsonl`, one flat object a finished generation, atomically.

        While a resumed run goes over generations that are finished already, the longer table that is there stays until
        these rows are `complete`.
        """
        if not processes.is_first():
            return
        file = self.path / METRICS
        content = table_lines(rows)
        there = file.read_bytes() if file.is_file() else b""
        if there != content and (complete or not there.startswith(content)):
            files.write_atomically(file, content)


def _bench_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.bench")


def _bench(folder: Path, ingredients: Facts) -> Path:
    """The bench of a step, emptied where what is on it was made from something else."""
    bench = _bench_of(folder)
    made_from = bench / "made_from.json"
    try:
        fits = files.parse_json(files.regular(made_from).read_bytes()) == json.loads(json.dumps(ingredients))
    except (OSError, ValueError):
        fits = False
    if not fits or bench.is_symlink():
        files.remove(bench)
        bench.mkdir()
        files.write_json(made_from, ingredients)
    return bench


@contextmanager
def open_run(path: Path, progress: Progress, part: Part = ALONE) -> Iterator[Run]:
    """Create or reopen a run directory and hold it against other processes until the block ends.

    Of several processes the first holds it for all. Raises UserError where the path holds something that is no run
    directory or cannot be written or its disk is full, InUse where another process holds it.

    part : what it is to other runs.
    """
    if not processes.is_first():
        processes.agree(None)  # it is open
        with beside(path):
            yield Run(path, progress, part)
        return
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; give a directory to write the run into")
    if path.is_dir() and any(path.iterdir()) and not (path / LOCK).exists() and not (path / MANIFEST).exists():
        raise UserError(f"{path} holds files but no run; give a new directory, or an empty one")
    new = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = files.lock_file(path / LOCK)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); give another directory with --out") from None
    with lock:
        # The kernel releases this lock when the process dies, however it dies: there are no stale ones.
        if not files.hold(lock, path):
            by = holder(path) or "another process"
            raise InUse(f"{path} is in use by {by}; wait for it, or give another directory")
        try:
            lock.truncate(0)
            lock.write(f"{holding()}\n".encode())
            for folder in (path, *(inside for inside in path.glob("generation_*") if not inside.is_symlink())):
                for left_by_a_killed_process in folder.glob(f".*{files.PARTIAL}"):
                    files.remove(left_by_a_killed_process)
            processes.agree(None)
            with beside(path):
                yield Run(path, progress, part)
        except UserError:
            if new and not (path / MANIFEST).exists():
                shutil.rmtree(path)  # no generation was begun: leave nothing behind of a configuration that cannot work
            raise
        except Exception as error:
            if not files.is_full(error):
                raise
            raise UserError(
                f"{path}: there is no space left for it ({error}); make room, and the same command goes on from the "
                "last finished step"
            ) from error
        finally:
            lock.truncate(0)


def step_seed(seed: int, generation: int, artefact: str) -> int:
    """The seed of one artefact: 63 bits of a hash, so that no two steps, generations or runs share a random stream."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{generation}/{artefact}".encode()).digest()[:8], "big") >> 1
