"""Worker processes on this machine, each pinned to cores and GPUs of its own and started as the ordinary command.

They share the runs out among themselves as any processes do that work on one sweep. This one starts them, follows what
they do, and starts one again that has died.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil
import yaml

from lmcollapse import processes
from lmcollapse.executors.following import Following, following
from lmcollapse.executors.where import Slot, Where, slots
from lmcollapse.files import below, regular, write_atomically
from lmcollapse.records import LOCK, RECORD
from lmcollapse.sweeps import LOGS, Cell, Outcome, Sweep, forget_failures, mend, note_failure
from lmcollapse.types import Progress, Silent, UserError

DEATHS = 3
"""How often a worker may die in one place of a run before the run is given up."""
PATIENCE = 30.0
"""Seconds that workers have to end when they are told to."""
EVERY = 0.5
"""Seconds between two looks."""


def by_workers(sweep: Sweep, where: Where, progress: Progress | None = None) -> Outcome:
    """Make the runs of a sweep by workers.

    One that dies, as for lack of memory, is started again, and the run that it had is gone on with; a run that makes no
    headway between so many deaths is given up.
    """
    progress = progress or Silent()
    places = slots(where)
    sweep.begin()
    if where.retry:
        forget_failures(sweep)
        mend(sweep, progress)
    with following(sweep, progress) as here:
        command = _command(sweep)
        workers = [Worker(slot, command, sweep.out / LOGS) for slot in places[: len(here.left)]]
        with _ended(workers):
            for worker in workers:
                worker.start()
            if workers:
                progress.say(f"{len(workers)} workers, {_each(workers[0].slot)}; {sweep.out / LOGS} has what they say")
            _supervise(workers, here, sweep, progress)
    return here.end(f"no worker has made it; {sweep.out / LOGS} says why")


@dataclass
class Worker:
    """A process, or what torchrun starts, in its part of the machine."""

    slot: Slot
    command: Sequence[str]
    logs: Path
    process: subprocess.Popen[bytes] | None = None
    family: set[int] = field(default_factory=set)

    @property
    def log(self) -> Path:
        """What it says."""
        return self.logs / f"worker_{self.slot.number}.log"

    def start(self) -> None:
        """Begin, or begin again."""
        count = max(1, len(self.slot.gpus))
        torchrun = ["torch.distributed.run", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
        launcher = [*torchrun, f"--nproc-per-node={count}", "-m"] if count > 1 else []
        threads = max(1, len(self.slot.cores) // count)
        environment = {
            **os.environ,
            processes.WORKER: str(self.slot.number),
            "OMP_NUM_THREADS": str(threads),
            "PYTHONUNBUFFERED": "1",
        }
        for name in ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # they would take precedence
            environment.pop(name, None)
        if self.slot.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self.slot.gpus)
        with _appended(self.log) as log, _pinned(self.slot.cores):
            self.process = subprocess.Popen(
                [sys.executable, "-m", *launcher, "lmcollapse", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches this process alone, which ends them in good order
            )
        self.family = {self.process.pid}

    def ended(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        assert self.process is not None
        status = self.process.poll()
        if status is None:
            self.family |= {child.pid for child in _children(self.process.pid)}
        return status

    def last_words(self) -> str:
        """The last line that it said."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "nothing")


def _supervise(workers: Sequence[Worker], here: Following, sweep: Sweep, progress: Progress) -> None:
    """Until every worker has found nothing more to do."""
    deaths: Counter[tuple[str, frozenset[tuple[str, int]]]] = Counter()
    working = list(workers)
    while working:
        time.sleep(EVERY)
        here.look()
        for worker in list(working):
            status = worker.ended()
            if status is None:
                continue
            cell = next((cell for cell in here.left if _held_by(cell, worker.family)), None)
            failed = frozenset((name, 0) for name in here.outcome.failed)
            if cell is None and status == 1 and len(worker.slot.gpus) > 1 and here.left:
                # processes that make a run together end together where one fails; the others are still to be made
                deaths[f"worker {worker.slot.number}", failed] += 1
                if deaths[f"worker {worker.slot.number}", failed] < DEATHS:
                    worker.start()
                    continue
            if cell is None and status in (0, 1):
                working.remove(worker)
                continue
            if cell is None and status == 2:
                raise UserError(worker.last_words().removeprefix("lmcollapse: "))
            how = _how(status)
            place = (cell.name, _headway(cell)) if cell else (f"worker {worker.slot.number}", frozenset())
            deaths[place] += 1
            if deaths[place] < DEATHS:
                at = f"in {cell.name}, which is taken up again" if cell else "and is started again"
                progress.say(f"worker {worker.slot.number} {how} {at}")
                worker.start()
                continue
            reason = f"workers died {DEATHS} times at the same place, the last one {how}; {worker.log} may say why"
            if cell is None:
                working.remove(worker)
                progress.say(f"worker {worker.slot.number} {how} {DEATHS} times and is not started again; {worker.log}")
                continue
            note_failure(sweep.out, cell, reason)
            worker.start()


def _command(sweep: Sweep) -> list[str]:
    """The ordinary command that makes what is left of a sweep, in this process's words."""
    (sweep.out / LOGS).mkdir(exist_ok=True)
    file = sweep.out / LOGS / "sweep.yaml"
    given = json.loads(json.dumps(sweep.given, default=str))  # from a notebook, it may hold paths and tuples
    write_atomically(file, yaml.safe_dump(given, sort_keys=False, allow_unicode=True).encode())
    return ["sweep", str(file), "--out", str(sweep.out), "--no-figures", "--no-retry"]


def _held_by(cell: Cell, family: set[int]) -> bool:
    """Whether one of these processes holds a run, or held it when it died."""
    for run in cell.runs:
        try:
            words = regular(run / LOCK).read_text(encoding="utf-8").split()
            if words and int(words[1]) in family and words[3] == socket.gethostname():
                return True
        except (OSError, ValueError, IndexError):
            continue
    return False


def _headway(cell: Cell) -> frozenset[tuple[str, int]]:
    """What there is of a run: its finished steps, and how far unfinished ones have come."""
    found = set()
    for run in cell.runs:
        for file in below(run):
            inside = file.relative_to(run)
            if file.name != RECORD and not any(part.endswith(".bench") for part in inside.parts[:-1]):
                continue
            try:
                found.add((str(inside), file.stat().st_mtime_ns))
            except OSError:
                continue
    return frozenset(found)


def _appended(file: Path) -> IO[bytes]:
    """A file to be written to at its end, which no link leads to."""
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666), "ab")


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    return f"was killed by {name}" + (" (was there too little memory?)" if name == "SIGKILL" else "")


def _each(slot: Slot) -> str:
    gpus = f"GPU {', '.join(slot.gpus)}" if len(slot.gpus) == 1 else f"{len(slot.gpus)} GPUs"
    cores = f"{len(slot.cores)} core{'s'[: len(slot.cores) > 1]}"
    return f"each with {cores}" + (f" and {gpus if len(slot.gpus) > 1 else 'a GPU'}" if slot.gpus else "")


def _children(process: int) -> list[psutil.Process]:
    try:
        return psutil.Process(process).children(recursive=True)
    except psutil.Error:
        return []


@contextmanager
def _pinned(cores: Sequence[int]) -> Iterator[None]:
    """Processes that are started meanwhile may use these cores alone, and so may all that they start."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _ended(workers: Sequence[Worker]) -> Iterator[None]:
    """However the block ends, no worker outlives it; a terminal that hangs up ends it as Ctrl-C does."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGHUP, signal.default_int_handler) if main else None
    try:
        yield
    finally:
        begun = [worker.process for worker in workers if worker.process is not None]
        everyone = [child for process in begun for child in _children(process.pid)]
        for process in begun:
            if process.poll() is None:
                process.terminate()
        end = time.monotonic() + PATIENCE
        for process in begun:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for child in everyone:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        if before is not None:
            signal.signal(signal.SIGHUP, before)
