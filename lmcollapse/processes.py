"""One run by several processes, as `torchrun` starts them: which one this is, and how they agree.

All of them go through the same steps. The first decides, writes and speaks; in a shared step all compute, in others
they wait for it. The run directory must be one that all of them see.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

WORKER = "LMCOLLAPSE_WORKER"
"""In the environment of a worker process: its number."""

PATIENCE = timedelta(days=30)
"""How long processes wait for the first one; torchrun ends them all where one of them dies."""


def prepare() -> None:
    """Settle how this process uses cores and memory, as far as nobody else has; before torch is loaded.

    CPU threads that wait by spinning lose ten times their speed as soon as another program wants a core: they spin
    briefly. Memory that the C library gives back it gets again page by page, and the pages of each step's logits take a
    fifth of the time of writing: up to 256 MiB are kept, and blocks of up to 32 MiB are taken from what is kept.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if WORKER in os.environ:
        _end_with_parent()
    if not any(name.startswith("MALLOC_") for name in os.environ):
        try:
            mallopt = ctypes.CDLL(None).mallopt  # glibc's
        except (AttributeError, OSError):
            return
        trim_threshold, mmap_threshold = -1, -3
        mallopt(trim_threshold, 2**28)
        mallopt(mmap_threshold, 2**25)


def _end_with_parent() -> None:
    """Be terminated when the parent dies, even if it had no time to see to that."""
    try:
        prctl = ctypes.CDLL(None).prctl  # Linux has it
    except (AttributeError, OSError):
        return
    set_parent_death_signal = 1
    prctl(set_parent_death_signal, int(signal.SIGTERM))


def one_thread() -> AbstractContextManager[Any]:
    """Sums in the same order whatever the number of cores; threads that wait for each other gain little there anyway.

    For what numpy, scipy and scikit-learn compute. Holds for the libraries that are loaded by then.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits


def cores() -> int:
    """Cores that this process may use: those that it is pinned to, where it is."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; torch is not loaded for it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    return [str(number) for number, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


def count() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "MASTER_ADDR" in os.environ else 1


def number() -> int:
    """Which one this is, from 0 on."""
    return int(os.environ.get("RANK", 0)) if count() > 1 else 0


def here() -> int:
    """How many there are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if count() > 1 else 1


def is_first() -> bool:
    """Whether this is the one that decides, writes and speaks."""
    return number() == 0


def agree(value: T) -> T:
    """What the first process gives here; every process must come to this point."""
    if count() == 1:
        return value
    box = [value]
    try:
        _group().broadcast_object_list(box, src=0)
    except RuntimeError:
        if is_first():
            raise
        sys.exit(1)  # the first process has ended, and has said why
    return box[0]


def gathered(value: T) -> list[T]:
    """What each process gives here, in their order."""
    if count() == 1:
        return [value]
    found: list[T] = [value] * count()
    _group().all_gather_object(found, value)
    return found


def join() -> None:
    """Meet the other processes, each with a GPU of its own where there are some; nothing where there is one process."""
    if count() > 1:
        _group()


def _group() -> Any:
    import torch

    if not torch.distributed.is_initialized():
        gpus = torch.cuda.is_available()
        if gpus:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=PATIENCE)
        atexit.register(torch.distributed.destroy_process_group)
    return torch.distributed
