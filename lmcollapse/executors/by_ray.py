"""The machines of a Ray cluster, one task a run.

Ray finds a place for each run, and another one where a node is lost; the run goes on there from its last finished step,
for the directory of the sweep is one that all nodes see.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmcollapse import processes
from lmcollapse.executors.following import following
from lmcollapse.executors.where import Where
from lmcollapse.sweeps import SWEEP, Cell, Outcome, Sweep, forget_failures, mend, note_failure, plan, work
from lmcollapse.types import Progress, Silent, UserError

RETRIES = 10
"""How often a run is taken up again whose node or process was lost."""
WAIT = 120.0
"""Seconds that a run is waited for which somebody holds: a lost node may take a while to let go of it."""
EVERY = 1.0
"""Seconds between two looks."""


def by_ray(sweep: Sweep, where: Where, progress: Progress | None = None) -> Outcome:
    """Make the runs of a sweep by a Ray cluster."""
    try:
        import ray
    except ImportError:
        raise UserError(
            "--executor ray needs the package ray, which is not installed; pip install 'lmcollapse[ray]', or take "
            "--executor workers"
        ) from None
    if (where.gpus_per_run or 0) > 1:
        raise UserError(
            f"--gpus-per-run is {where.gpus_per_run}, and a Ray task is one process with 1 GPU at most; take "
            "--executor workers, or torchrun"
        )
    progress = progress or Silent()
    sweep.begin()
    if where.retry:
        forget_failures(sweep)
        mend(sweep, progress)
    with _cluster(ray, where), following(sweep, progress) as here:
        gpus = where.gpus_per_run
        if gpus is None:
            gpus = 1 if ray.cluster_resources().get("GPU", 0) else 0
        cores = where.cores_per_worker or 1
        nodes = sum(node["Alive"] for node in ray.nodes())
        if here.left:
            progress.say(
                f"Ray: {len(here.left)} tasks with {cores} cores and {gpus} GPUs each, on {nodes} nodes, all of which "
                f"must see {sweep.out.resolve()}"
            )
        task = ray.remote(
            num_cpus=cores,
            num_gpus=gpus,
            max_retries=RETRIES,
            max_calls=1,  # each run in a process of its own, which gives all memory back
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(cores)}},
        )(_make)
        tasks = {}
        for cell in sorted(here.left, key=_within_seed(sweep)):
            options = task.options(name=cell.name)
            tasks[options.remote(dict(sweep.given), str(sweep.out.resolve()), cell.name, str(Path.cwd()))] = cell
        try:
            while tasks:
                finished, _ = ray.wait(list(tasks), timeout=EVERY)
                for one in finished:
                    cell = tasks.pop(one)
                    try:
                        ray.get(one)
                    except ray.exceptions.RayError as error:
                        note_failure(sweep.out, cell, _why(error))
                here.look()
        except BaseException:
            for one in tasks:
                ray.cancel(one)
            raise
    return here.end("no node has made it")


def _make(given: Mapping[str, Any], out: str, name: str, directory: str) -> None:
    """One run, made by a process on any node; failures are left in the directory of the sweep."""
    if Path(directory).is_dir():
        os.chdir(directory)  # relative paths of human data mean the same as where the command was given
    if not (Path(out) / SWEEP).is_file():
        raise RuntimeError(f"node {os.uname().nodename} does not see {out}; give an --out that all nodes see")
    processes.prepare()
    sweep = plan(given, Path(out))
    cell = next(cell for cell in sweep.cells if cell.name == name)
    end = time.monotonic() + WAIT
    while work(sweep, cells=[cell]).elsewhere and time.monotonic() < end:
        time.sleep(EVERY)


def _within_seed(sweep: Sweep) -> Callable[[Cell], int]:
    """A key that brings a run of each seed first: they have nothing in common and wait for nobody."""
    places: dict[str, int] = {}
    counts: dict[int, int] = {}
    for cell in sweep.cells:
        places[cell.name] = counts.get(cell.seed, 0)
        counts[cell.seed] = places[cell.name] + 1
    return lambda cell: places[cell.name]


def _why(error: Exception) -> str:
    cause = getattr(error, "cause", None) or error
    text = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    return f"Ray: {text}"


@contextmanager
def _cluster(ray: Any, where: Where) -> Iterator[None]:
    """A connection to the cluster, ended with the block unless it was there before."""
    if ray.is_initialized():
        yield
        return
    address = where.address or "auto"
    try:
        local = {"num_cpus": processes.cores()} if address == "local" else {}
        with _own_handler_of(signal.SIGTERM):
            ray.init(address=address, log_to_driver=False, configure_logging=False, **local)
    except (ConnectionError, ValueError) as error:
        raise UserError(
            f"--address {address}: no Ray cluster can be reached ({str(error).partition('. ')[0]}); start one "
            "(`ray start --head`; everywhere with the same RAY_AUTH_TOKEN, if any), or give --address local"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _own_handler_of(number: signal.Signals) -> Iterator[None]:
    """What happens on a signal stays as it was, whatever a library puts in its place meanwhile."""
    before = signal.getsignal(number)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(number, before)
