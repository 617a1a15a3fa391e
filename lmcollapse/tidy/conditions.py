"""Which runs are the same but for their seed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import ArrayLike

from lmcollapse.config import dotted
from lmcollapse.results import condition_of, manifest_of, names

MAY_DIFFER = ("seed", "generations")
"""Options in which runs of one condition may differ."""


@dataclass(frozen=True)
class Described:
    """A run, and what tells it from the others.

    name : of its directory, with as much of the path as it takes.
    """

    path: Path
    name: str
    seed: int
    condition: str
    manifest: Mapping[str, Any]

    @property
    def substrate(self) -> str:
        """What was fitted."""
        found: str = self.manifest["config"].get("substrate", "causal_lm")
        return found


def describe(runs: Sequence[Path], *, twins_apart: bool = True) -> list[Described]:
    """The runs in the order given, each once. Raises UserError for a directory that holds no run.

    twins_apart : whether runs that do not differ even in their seed have a condition each, as what is paired or
        averaged over seeds needs it.
    """
    paths = list({run.resolve(): run for run in runs}.values())
    manifests = [manifest_of(path) for path in paths]
    found = [
        Described(path, name, manifest["config"]["seed"], condition_of(manifest), manifest)
        for path, name, manifest in zip(paths, names([path.resolve() for path in paths]), manifests, strict=True)
    ]
    told_apart = _told_apart(found)
    return _without_twins(told_apart) if twins_apart else told_apart


def first_of_each(runs: Sequence[Described]) -> list[Described]:
    """The first run of each condition."""
    return list({run.condition: run for run in reversed(runs)}.values())[::-1]


def curve(run: Described, generation: int, measure: str, at: ArrayLike, value: ArrayLike) -> pd.DataFrame:
    """Numbers of one run, generation and measure as rows of the table."""
    return pd.DataFrame({"run": run.name, "generation": generation, "measure": measure, "at": at, "value": value})


def _told_apart(runs: list[Described]) -> list[Described]:
    """What differs in the configurations of runs that go by the same words."""
    found = []
    for run in runs:
        others = [other for other in runs if other.condition == run.condition]
        alike = [other for other in others if other.substrate == run.substrate]
        said = [] if len(alike) == len(others) else [f"substrate={run.substrate}"]
        configs = [dotted(other.manifest["config"]) for other in alike]
        own = dotted(run.manifest["config"])
        said += [
            f"{key}={value}"
            for key, value in own.items()
            if key not in MAY_DIFFER and any(config.get(key) != value for config in configs)
        ]
        found.append(replace(run, condition=", ".join([run.condition, *said])))
    return found


def _without_twins(runs: list[Described]) -> list[Described]:
    """Members of a population have one seed, and so has a copy of a run: each is a condition of its own."""
    numbered = [
        replace(run, condition=f"{run.condition}, {run.path.name}") if twin and _is_member(run) else run
        for run, twin in _twins(runs)
    ]
    return [replace(run, condition=f"{run.condition} ({run.name})") if twin else run for run, twin in _twins(numbered)]


def _twins(runs: list[Described]) -> Iterator[tuple[Described, bool]]:
    times = Counter((run.condition, run.seed) for run in runs)
    for run in runs:
        yield run, times[run.condition, run.seed] > 1


def _is_member(run: Described) -> bool:
    return re.fullmatch(r"member_\d+", run.path.name) is not None
