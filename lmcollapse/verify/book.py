"""What a verification has found so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lmcollapse.files import parse_json, regular

T = TypeVar("T")


@dataclass(frozen=True)
class Mismatch:
    """One thing that is not as it should be.

    where : the file or folder, seen from the run directory.
    what : of it.
    found, expected : JSON-able values.
    """

    where: str
    what: str
    found: Any
    expected: Any

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: found {_short(self.found)}, expected {_short(self.expected)}"


def _short(value: Any) -> str:
    """A value in a line: of a hash its first digits tell it from another."""
    text = str(value)
    return text if len(text) != 64 or " " in text else f"{text[:12]}…"


def json_object(file: Path) -> dict[str, Any]:
    """A file that holds one JSON object; ValueError for another."""
    value = parse_json(file.read_bytes())
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value


@dataclass
class Book:
    """A run directory under verification.

    mismatches : in the order in which they were found.
    checked : how many things of each kind were looked at.
    notes : what could not be checked, and what a reader should know.
    """

    run: Path
    mismatches: list[Mismatch] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def expect(self, where: str, what: str, found: Any, expected: Any) -> None:
        """Note a mismatch unless the two are equal."""
        if found != expected:
            self.mismatches.append(Mismatch(where, what, found, expected))

    def attempt(self, what: str, check: Callable[[], object]) -> None:
        """Carry out a check; where what is recorded is so damaged that it cannot be, that is a mismatch.

        An error in a run of which nothing else is amiss is one of the check.
        """
        try:
            check()
        except Exception as error:
            if not self.mismatches:
                raise
            self.mismatches.append(Mismatch(what, "check", f"impossible ({error!r})", "one that can be made"))

    def read(self, name: str, reader: Callable[[Path], T]) -> T | None:
        """What a reader makes of a file or folder, None where it is not there or damaged; damage is a mismatch."""
        place = self.run / name
        if not place.exists():
            return None
        try:
            return reader(place if place.is_dir() else regular(place))
        except Exception as error:  # what a damaged file does to its reader cannot be foreseen
            reason = " ".join(str(error).split()) or type(error).__name__
            self.mismatches.append(Mismatch(name, "content", f"damaged ({reason[:200]})", "a file that can be read"))
            return None
