"""What every benchmark is made of: sides that do the same work, timed in turn."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median


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
