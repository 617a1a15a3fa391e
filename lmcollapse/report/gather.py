"""What a report is about: runs, those that differ in their seed alone taken together, and what each is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lmcollapse.records import ending, members_of
from lmcollapse.report.text import short
from lmcollapse.results import finished, of_chains, of_images
from lmcollapse.tidy.conditions import describe
from lmcollapse.trajectories import LEAST_SEEDS

KINDS = ("text", "images", "chains")


@dataclass(frozen=True)
class Told:
    """A run as a report tells of it.

    name : of its directory, as in `results.table`.
    finished : generations that it has.
    """

    path: Path
    name: str
    manifest: Mapping[str, Any]
    finished: int

    @property
    def config(self) -> Mapping[str, Any]:
        """As it was run."""
        config: Mapping[str, Any] = self.manifest["config"]
        return config

    @property
    def seed(self) -> int:
        """Of the run."""
        return int(self.config["seed"])

    @property
    def kind(self) -> str:
        """What it writes; one of KINDS."""
        return "chains" if of_chains(self.manifest) else "images" if of_images(self.manifest) else "text"

    @property
    def state(self) -> str:
        """How far it is."""
        wanted = self.config["generations"]
        if ended := ending(self.manifest):
            return f"{ended[0]} in generation {ended[1]}"
        return "finished" if self.finished == wanted else f"{self.finished} of {wanted} generations so far"


@dataclass(frozen=True)
class Condition:
    """Runs that differ in nothing but their seed (or are members of one population).

    label : the data policy, and what else tells it from the other conditions.
    """

    label: str
    runs: tuple[Told, ...]

    @property
    def first(self) -> Told:
        """The run that is shown where one must do."""
        return self.runs[0]

    @property
    def seeds(self) -> list[int]:
        """Of its runs."""
        return [run.seed for run in self.runs]

    @property
    def distinct(self) -> bool:
        """Whether each run has a seed of its own, so that they can be paired with those of another condition."""
        return len(set(self.seeds)) == len(self.runs)

    @property
    def together(self) -> bool:
        """Whether there are enough seeds for intervals over them."""
        return self.distinct and len(self.runs) >= LEAST_SEEDS

    def line(self, run: Told) -> str:
        """What tells a run from the others of its condition."""
        return f"seed {run.seed}" if self.distinct else f"seed {run.seed}, {short(run.name)}"


@dataclass(frozen=True)
class Gathered:
    """The runs of a report by condition, in the order given."""

    conditions: tuple[Condition, ...]

    @cached_property
    def runs(self) -> list[Told]:
        """All of them."""
        return [run for one in self.conditions for run in one.runs]

    @cached_property
    def of(self) -> dict[str, Condition]:
        """The condition of a run, by the name of the run."""
        return {run.name: one for one in self.conditions for run in one.runs}

    def first_of(self, kind: str) -> list[tuple[Condition, Told]]:
        """The first run of each condition whose runs are of that kind."""
        return [(one, one.first) for one in self.conditions if one.first.kind == kind]


def gather(runs: Sequence[Path]) -> Gathered:
    """The runs, populations as their members; UserError for a directory that holds no run."""
    alike: dict[str, list[Told]] = {}
    for run in describe([member for given in runs for member in members_of(given)], twins_apart=False):
        alike.setdefault(run.condition, []).append(Told(run.path, run.name, run.manifest, finished(run.path)))
    groups = [tuple(sorted(group, key=lambda run: run.seed)) for group in alike.values()]
    labels = [short(condition) for condition in alike]
    return Gathered(
        tuple(
            Condition(label if labels.count(label) == 1 else f"{label} ({short(group[0].name)})", group)
            for label, group in zip(labels, groups, strict=True)
        )
    )
