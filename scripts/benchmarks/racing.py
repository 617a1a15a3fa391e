"""What every benchmark is made of: sides that do the same work, timed in turn."""

from __future__ import annotations

import importlib
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median
from typing import Generic, TypeVar

from lmcollapse.processes import prepare as settle_process

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """How thorough a benchmark is.

    rounds : each side is timed so many times; the median counts.
    size : share of the size that a case has.
    full : slow rivals do all of the work, too.
    """

    rounds: int = 3
    size: float = 1.0
    full: bool = False


@dataclass(frozen=True)
class Row:
    """One line of a table.

    ratio : ours over this side; None where a row is a part of ours and there is nothing to compare it with.
    precision : of its arithmetic, where a side could have another.
    roofline : share of what the machine's measured rates would allow.
    """

    case: str
    side: str
    value: float
    unit: str
    ratio: float | None
    precision: str | None = None
    roofline: float | None = None


@dataclass(frozen=True)
class Side:
    """One way to do the work of a case.

    work : what is timed; where it gives a float, that is told.
    needs : the module without which there is no such side.
    share : part of the work that is done; the time is scaled up by it.
    """

    name: str
    work: Callable[[], object]
    needs: str | None = None
    share: float = 1.0


class Elsewhere(Generic[T]):
    """Work in a process of its own, which waits in between: no package's threads or memory disturb another's.

    prepare : gives the work, given `arguments`; called in that process, with the first piece of work.
    """

    def __init__(self, prepare: Callable[..., Callable[..., T]], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, prepare, arguments), daemon=True)
        self._process.start()
        theirs.close()

    def __call__(self, *given: object) -> T:
        """What the work gives."""
        self._pipe.send(given)
        found: T | Exception = self._pipe.recv()
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()


def _serve(pipe: Connection, prepare: Callable[..., Callable[..., object]], arguments: tuple[object, ...]) -> None:
    settle_process()
    work = None
    while True:
        given = pipe.recv()
        try:
            work = work or prepare(*arguments)
            found = work(*given)
        except Exception as error:
            traceback.print_exc()
            found = RuntimeError(f"{type(error).__name__}: {error}")
        pipe.send(found)


def race(case: str, sides: Sequence[Side], rounds: int, amount: float | None = None, unit: str = "s") -> Iterator[Row]:
    """Time sides in turn, round by round, so that what disturbs the machine disturbs all of them; the first is ours.

    amount : rows give so many units a second; without it, seconds.
    """
    there = [side for side in sides if _is_there(case, side)]
    took: dict[str, list[float]] = {side.name: [] for side in there}
    for round_ in range(rounds):
        for side in there:
            began = time.perf_counter()
            found = side.work()
            seconds = (time.perf_counter() - began) / side.share
            took[side.name].append(seconds)
            gives = f", gives {found:.4g}" if isinstance(found, float) else ""
            say(f"  {case} · {side.name}: {seconds:.3g} s (round {round_ + 1} of {rounds}){gives}")
    values = {name: median(seconds) if amount is None else amount / median(seconds) for name, seconds in took.items()}
    for name, value in values.items():
        yield Row(case, name, value, unit, values[sides[0].name] / value)


def _is_there(case: str, side: Side) -> bool:
    """Whether a side can be timed; says so where not. What it needs is imported, so that this is not timed."""
    try:
        importlib.import_module(side.needs or "builtins")
    except ImportError as error:
        say(f"  {case} · {side.name}: skipped ({error})")
        return False
    return True


def say(line: str) -> None:
    """Progress, for the person who waits."""
    print(line, file=sys.stderr, flush=True)
