"""Where the runs of a sweep are made, and with how much of a machine each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from lmcollapse import processes
from lmcollapse.types import UserError


@dataclass(frozen=True)
class Where:
    """The options of the executors, as the command line has them."""

    executor: Literal["here", "workers", "ray"] = "here"
    """What makes the runs: this process (here), worker processes on this machine, a Ray cluster."""
    workers: int | None = None
    """workers: how many; by default as many as there are GPUs for, else as fit the cores."""
    cores_per_worker: int | None = None
    """workers, ray: cores, and threads, of a run; by default 1, or equal shares with --workers or GPUs."""
    gpus_per_run: int | None = None
    """workers, ray: GPUs of each run; by default 1 where there are GPUs, else 0. Above 1, workers take torchrun."""
    address: str | None = None
    """ray: auto (the cluster that this machine belongs to; the default), ray://HOST:10001, local (this machine)."""
    retry: bool = True
    """Take up again, too, what had failed before this command."""

    def check(self) -> None:
        """Raise UserError for options that contradict each other, or that would be without effect."""
        meant = {
            "workers": ("workers",),
            "cores_per_worker": ("workers", "ray"),
            "gpus_per_run": ("workers", "ray"),
            "address": ("ray",),
        }
        for name, executors in meant.items():
            value, flag = getattr(self, name), f"--{name.replace('_', '-')}"
            if value is not None and self.executor not in executors:
                raise UserError(f"{flag} has no effect with --executor {self.executor}; it goes with {executors[-1]}")
            if isinstance(value, int) and value < (0 if name == "gpus_per_run" else 1):
                raise UserError(f"{flag} is {value}; give a whole number above it")
        if self.executor != "here" and processes.count() > 1:
            raise UserError(
                f"--executor {self.executor} starts processes of its own and goes with no torchrun; leave one of them "
                "out (--gpus-per-run 2 makes each run by two processes)"
            )


@dataclass(frozen=True)
class Slot:
    """The part of this machine that a worker has for itself.

    cores : by number; torch and the libraries below it use as many threads.
    gpus : as CUDA_VISIBLE_DEVICES names them.
    """

    number: int
    cores: tuple[int, ...]
    gpus: tuple[str, ...]


def slots(where: Where) -> list[Slot]:
    """This machine divided among workers. Raises UserError where it is not large enough."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(processes.cores()))
    gpus = processes.gpus()
    gpus_each = min(1, len(gpus)) if where.gpus_per_run is None else where.gpus_per_run
    if gpus_each > len(gpus):
        raise UserError(f"--gpus-per-run is {gpus_each}, and {len(gpus)} GPUs can be used here; give at most so many")
    if gpus_each:
        fit = len(gpus) // gpus_each
    else:
        fit = len(cores) // (where.cores_per_worker or 1)
    workers = where.workers or max(1, fit)
    if gpus_each and workers > fit:
        raise UserError(
            f"{workers} workers with {gpus_each} GPUs each need {workers * gpus_each}, and {len(gpus)} "
            f"can be used here; give --workers {fit}"
        )
    divided = where.workers is not None or gpus_each > 0
    each = where.cores_per_worker or (max(1, len(cores) // workers) if divided else 1)
    if workers * each > len(cores):
        raise UserError(
            f"{workers} workers with {each} cores each need {workers * each}, and {len(cores)} can be used here; give "
            "fewer of them, or fewer cores each (--cores-per-worker)"
        )
    return [
        Slot(
            number,
            tuple(cores[number * each : (number + 1) * each]),
            tuple(gpus[number * gpus_each : (number + 1) * gpus_each]),
        )
        for number in range(workers)
    ]


def as_a_worker(where: Where) -> int:
    """Let this process use no more than a worker would; how many workers there would be.

    Nothing that counts the cores may be loaded yet. A Ray cluster is not asked.
    """
    where.check()
    if where.executor != "workers":
        return 1
    places = slots(where)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, places[0].cores)
    os.environ["OMP_NUM_THREADS"] = str(len(places[0].cores))
    if places[0].gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(places[0].gpus)
    return len(places)
