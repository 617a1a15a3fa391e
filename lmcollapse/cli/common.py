"""What the commands have in common: the words that they take, and where they say how far they are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from tyro.conf import Positional, arg

from lmcollapse.executors.where import Where
from lmcollapse.types import UserError

if TYPE_CHECKING:
    from lmcollapse.progress import Terminal

ConfigFile = Positional[Annotated[Path, arg(metavar="CONFIG.yaml")]]
Overrides = Positional[Annotated[tuple[str, ...], arg(metavar="[key=value ...]")]]
Runs = Positional[Annotated[tuple[Path, ...], arg(metavar="RUN")]]
Checkpoint = Positional[Annotated[str, arg(metavar="CHECKPOINT")]]
Json = Annotated[bool, arg(name="json")]
Executor = Annotated[Where, arg(name="")]


def on_stderr() -> Terminal:
    """Progress of a command whose standard output is its answer."""
    from lmcollapse.progress import Terminal

    return Terminal(Console(stderr=True, highlight=False))


def named(given: Sequence[Path], command: str) -> None:
    """Raise UserError where no run was named."""
    if not given:
        raise UserError(
            f"no run was named; give one or more run directories, as in `lmcollapse {command} runs/quickstart`"
        )


def runs_of(given: Sequence[Path], command: str, but: Collection[str] = ()) -> list[Path]:
    """The run directories that paths stand for, those of sweeps spelled out; UserError where there is none.

    but : suffixes of files that stand for themselves.
    """
    from lmcollapse.sweeps import runs_in

    named(given, command)
    return [inside for path in given for inside in ([path] if path.suffix in but else runs_in(path))]
