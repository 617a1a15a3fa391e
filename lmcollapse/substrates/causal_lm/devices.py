"""Where the arithmetic is done: device, precision, threads, and batches that fit into the memory that is there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

import psutil
import torch

from lmcollapse import processes
from lmcollapse.substrates.causal_lm.options import ComputeOptions
from lmcollapse.types import Progress, UserError

T = TypeVar("T")

GiB = 2**30

CGROUPS = tuple(
    (Path("/sys/fs/cgroup", limit), Path("/sys/fs/cgroup", used))
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    )
)
"""Where Linux says how much memory a container may take, and takes: of control groups of version 2 and 1."""


def device_of(compute: ComputeOptions) -> torch.device:
    """The device that is asked for, UserError where this machine has no such device."""
    return named(compute.device, "compute.device")


def named(name: str, option: str) -> torch.device:
    """The device of that name, which the option asks for; UserError where this machine has no such device."""
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise UserError(f"{option} is '{name}': not here ({reason}); give auto or cpu") from None
    return device


def decided(compute: ComputeOptions) -> ComputeOptions:
    """The options with nothing left to the machine."""
    device = device_of(compute)
    precision = compute.precision
    if precision == "tf32" and device.type != "cuda":
        raise UserError(f"compute.precision is tf32, which {device.type} does not have; give auto, float32 or bfloat16")
    if precision == "auto":
        precision = "bfloat16" if _has_bfloat16(device) else "float32"
    threads = compute.threads or torch.get_num_threads()
    return compute.model_copy(update={"device": str(device), "precision": precision, "threads": threads})


def _has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware itself multiplies bfloat16 matrices; emulation is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    if hasattr(torch.cpu, "get_capabilities"):  # newer than the oldest torch that will do
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())


def enter(compute: ComputeOptions) -> torch.device:
    """Set the number of threads, as was decided, and return the device."""
    # before the first product on a GPU, so that a step that is resumed runs as the one after a fit does
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if compute.threads:
        torch.set_num_threads(compute.threads)
    return device_of(compute)


def dtype_of(precision: str) -> torch.dtype:
    """Of matrix products; tf32 is a way to multiply float32."""
    return torch.float32 if precision == "tf32" else getattr(torch, precision)


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Let float32 products be in TF32 where that is asked for. Scoring, which is the measurement, is never in here."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@cache
def matrix_rate(device: torch.device, precision: str) -> float:
    """Operations a second of a large matrix product, measured."""
    size = 8192 if device.type == "cuda" else 1024
    one, other = (torch.ones(size, size, dtype=dtype_of(precision), device=device) for _ in range(2))
    took = []
    with torch.no_grad(), products_in(precision):
        for _ in range(5):
            began = time.perf_counter()
            float((one @ other)[0, 0])  # waits for it
            took.append(time.perf_counter() - began)
    return float(2 * size**3 / min(took))


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Matrix products in this precision. Not for scoring, which is the measurement."""
    return torch.autocast(device.type, dtype_of(precision), enabled=dtype_of(precision) != torch.float32)


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """The same sums in the same order every time: GPU kernels that add up as threads happen to finish are set aside.

    On CPUs they are not in use. A kernel without a deterministic twin is used all the same, and torch warns.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def memory(device: torch.device) -> int:
    """Bytes that one batch may take: half of what a GPU has free, a quarter of what a CPU's programs may still take."""
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else _available() // 4 // processes.here()


def little_memory(device: torch.device) -> int:
    """The same, but a GiB at most without a GPU.

    For what gains little by more: the last bits of a score may depend on the size of a batch, and should not depend on
    what else a machine is doing.
    """
    return memory(device) if device.type == "cuda" else min(GiB, memory(device))


def _available() -> int:
    """Bytes that are free or easily freed, on the machine and under the limit of this process's control group."""
    free = [int(psutil.virtual_memory().available)]
    for limit, used in CGROUPS:
        try:
            free.append(int(limit.read_text(encoding="ascii")) - int(used.read_text(encoding="ascii")))
        except (OSError, ValueError):  # there is no such limit, or it is "max"
            continue
    return max(0, min(free))


def batch_that_fits(bytes_each: int, room: int, most: int) -> int:
    """A power of two of things that take so many bytes each: as many as there is room for, `most` at most."""
    fitting = max(1, min(most, room // bytes_each))
    return int(1 << (fitting.bit_length() - 1))


def shrinking(work: Callable[[int], T], size: int, progress: Progress, what: str) -> tuple[T, int]:
    """`work(size)`, with `size` halved as often as the accelerator's memory runs out; also the size that worked.

    The line that is said is kept in the records of the run: another batch size may change the last bits of a result.
    """
    while True:
        try:
            return work(size), size
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            if size == 1:
                raise UserError(f"{what}: not even a batch of one fits into memory; take a smaller model") from None
        torch.cuda.empty_cache()
        size //= 2
        progress.say(f"{what}: out of memory, going on with batches of {size}")


def _is_out_of_memory(error: RuntimeError) -> bool:
    # torch has a class of its own for accelerators alone
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error)
