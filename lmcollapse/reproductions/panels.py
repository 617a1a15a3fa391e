"""What a reproduction's figure shows, as data; `figures/reproductions.py` draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Line:
    """Points with a name: generations and values."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One measure over generations, a line a condition.

    conditions : those that are drawn; none for all.
    theory : by condition, what is expected in each generation from 0 on.
    steep : whether the axis of the values is logarithmic; `long`, that of the generations.
    """

    title: str
    measure: str
    label: str
    conditions: tuple[str, ...] = ()
    theory: Mapping[str, Sequence[float]] = field(default_factory=dict)
    steep: bool = False
    long: bool = False


@dataclass(frozen=True)
class Published:
    """The paper's own numbers, as far as they are public, beside ours."""

    title: str
    label: str
    lines: tuple[Line, ...]
    steep: bool = False
