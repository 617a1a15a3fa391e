"""From a configuration with a section `sweep` to the runs that it stands for."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from lmcollapse.config import Config, condition, parse
from lmcollapse.files import inside, parse_json, write_json
from lmcollapse.options import Options, bind
from lmcollapse.records import LOCK, RECORD, ending, members_of, read_manifest, read_metrics, read_record
from lmcollapse.sharing import Peers
from lmcollapse.steps import ARTEFACTS, REFERENCE, folder_of
from lmcollapse.store import KeepModels, Part
from lmcollapse.types import UserError
from lmcollapse.yaml_files import laid_over, lay_over, put, read

SWEEP = "sweep.json"
"""In the directory of a sweep: its runs."""
LOCKS = ".locks"
ERRORS = "errors"
"""The folder, in that of a sweep, of what went wrong with a run."""
LOGS = "logs"
"""The folder of what workers say."""
FOLDERS = (LOCKS, ERRORS, LOGS)
MOST_RUNS = 10_000
"""Of one sweep."""


class SweepOptions(Options):
    """The section `sweep` of a configuration: what its runs differ in."""

    seeds: int | list[int] = Field(3)
    """How many seeds, from the configuration's on, or which. Runs with the same seed have generation 0 and all random
    numbers in common, so that conditions can be compared seed by seed."""
    conditions: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By name, what is laid over the configuration."""
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    """By dotted key, the values to take; every combination is a condition, of each in `conditions` if there are any."""
    keep_models: KeepModels = "all"
    """Of which generations models are kept once a run needs them no more: all, first_last, none."""


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: a condition and a seed."""

    condition: str
    seed: int
    config: Config
    path: Path
    part: Part

    @property
    def name(self) -> str:
        """As a person following it reads it."""
        return f"{self.condition}, seed {self.seed}"

    @property
    def runs(self) -> list[Path]:
        """Its run directories: one, or those of the members of a population."""
        return members_of(self.path)

    @property
    def done(self) -> int:
        """Generations that are finished; of a run whose table is damaged none, and the run writes it again."""
        try:
            return min(len(read_metrics(run)) for run in self.runs)
        except UserError:
            return 0

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do: all its generations and their steps are there, or it ended before."""
        try:
            manifests = [read_manifest(run) for run in self.runs]
        except UserError:
            return False  # the run itself says what is damaged
        if any(manifest is None for manifest in manifests):
            return False
        wanted = self.config.model_dump(mode="json")
        if any(manifest["config"] != wanted for manifest in manifests if manifest):
            return False  # the run itself says what is different
        ended = any(manifest and ending(manifest) for manifest in manifests)
        if ended or self.done < self.config.generations:
            return ended
        return not any(_lacks_steps(run, self.config.generations) for run in self.runs)


@dataclass(frozen=True)
class Sweep:
    """All runs of a sweep, seed by seed.

    out : its directory; in it a folder a condition, in that a run directory a seed.
    given : what it was planned from; the same call of `plan` gives it again, in any process.
    """

    out: Path
    cells: tuple[Cell, ...]
    given: Mapping[str, Any]

    @property
    def conditions(self) -> list[str]:
        """By name, in order."""
        return list(dict.fromkeys(cell.condition for cell in self.cells))

    @property
    def runs(self) -> list[Path]:
        """The run directories that have a finished generation, condition by condition."""
        return [
            run
            for name in self.conditions
            for cell in self.cells
            if cell.condition == name
            for run in cell.runs
            if read_metrics(run)
        ]

    def check(self) -> None:
        """Raise UserError, before any compute is spent, where one of the configurations cannot work, and for links in
        the directory that lead out of it."""
        for place in (*(self.out / name for name in FOLDERS), *(cell.path for cell in self.cells)):
            inside(place, self.out)
        for cell in self.cells:
            if not cell.complete:
                cell.config.build_substrate().check(cell.config.start)
        if (self.out / LOCK).exists():
            raise UserError(f"{self.out} is a run; a sweep has a directory of its own: give another with --out")

    def begin(self) -> None:
        """Make the directory and write down which runs belong to the sweep; UserError as `check` raises it."""
        self.check()
        self.out.mkdir(parents=True, exist_ok=True)
        known = known_runs(self.out)
        runs = [
            {"path": str(cell.path.relative_to(self.out)), "condition": cell.condition, "seed": cell.seed}
            for cell in self.cells
        ]
        before = [run for run in known if run["path"] not in {run["path"] for run in runs}]
        write_json(self.out / SWEEP, {"runs": [*before, *runs]})


def _lacks_steps(run: Path, generations: int) -> bool:
    """Whether a step is missing that a run of so many generations has; which damage does to it, or its mending."""
    spans = [read_record(span) for span in run.glob("generations_*")]
    if spans:
        rows = sum(((span or {}).get("facts", {}).get("table") or {}).get("rows", 0) for span in spans)
        return rows != generations or read_record(run / REFERENCE) is None
    of_generations = [f"{folder_of(generation)}/{step}" for generation in range(generations) for step in ARTEFACTS]
    return not all((run / step / RECORD).is_file() for step in ("human", "base", "rows", REFERENCE, *of_generations))


def load_sweep(file: Path, out: Path, overrides: Sequence[str] = ()) -> Sweep:
    """The runs of a sweep file: a configuration with a section `sweep`; overrides may set keys of that section, too.

    Raises UserError for a file that cannot be read or has no such section, and for what no configuration can have.
    """
    given = read(file)
    lay_over(given, overrides)
    if "sweep" not in given:
        raise UserError(
            f"{file}: has no section 'sweep', which says what its runs differ in; give one, as in sweep.seeds=3, or "
            "make a single run of it with `lmcollapse run`"
        )
    return plan(given, out, str(file))


def plan(given: Mapping[str, Any], out: Path, where: str = "sweep") -> Sweep:
    """The same from a nested mapping, as the file holds it."""
    base = dict(given)
    section = base.pop("sweep", {})
    if not isinstance(section, Mapping):
        raise UserError(f"{where}: 'sweep' is {section!r}; it is a section with seeds, conditions, grid, keep_models")
    options = bind(SweepOptions, section, f"{where}: sweep")
    _check_count(options, where)
    seeds = _seeds(options.seeds, base.get("seed", 0), where)
    named = dict(_conditions(base, options, where))
    folders = {name: _folder(name) for name in named}
    if len(set(folders.values())) < len(folders):
        raise UserError(f"{where}: conditions are too much alike to be folders: {', '.join(sorted(named))}")
    paths = {(name, seed): out / folders[name] / f"seed_{seed}" for seed in seeds for name in named}
    peers = Peers(tuple(paths.values()), out / LOCKS)
    configs = {name: parse({**named[name], "seed": seeds[0]}, f"{where} ({name})") for name in named}
    cells = (
        Cell(name, seed, configs[name].model_copy(update={"seed": seed}), path, Part(name, peers, options.keep_models))
        for (name, seed), path in paths.items()
    )
    return Sweep(out, tuple(cells), given)


def _check_count(options: SweepOptions, where: str) -> None:
    """Refuse, before they are written out, more runs than anybody makes."""
    seeds = options.seeds if isinstance(options.seeds, int) else len(options.seeds)
    combinations = math.prod(len(values) for values in options.grid.values())
    runs = seeds * max(1, len(options.conditions)) * combinations
    if runs > MOST_RUNS:
        raise UserError(
            f"{where}: stands for {runs:,} runs; at most {MOST_RUNS:,} are made: give fewer seeds or values"
        )


def runs_in(directory: Path) -> list[Path]:
    """The run directories that a path stands for: those of a sweep that have begun, of a population, or itself."""
    if not (directory / SWEEP).is_file():
        return members_of(directory)
    runs = begun(directory)
    ordered = sorted(runs, key=lambda run: [known.parent for known in runs].index(run.parent))
    return [member for run in ordered for member in members_of(run) if read_metrics(member)]


def begun(directory: Path) -> list[Path]:
    """The run directories of a sweep that are there, populations whole; any other directory stands for itself."""
    if not (directory / SWEEP).is_file():
        return [directory]
    return [out for run in known_runs(directory) if (out := directory / run["path"]).is_dir()]


def known_runs(out: Path) -> list[dict[str, Any]]:
    """The runs of a sweep's directory as they were written down; UserError where they cannot be read."""
    file = out / SWEEP
    if not file.is_file():
        return []
    try:
        runs = parse_json(file.read_bytes())["runs"]
        for run in runs:
            inside = (out / run["path"]).resolve().relative_to(out.resolve())
            assert str(inside) != "."
        return list(runs)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise UserError(
            f"{file}: damaged ({error!r}); the same `lmcollapse sweep` writes it again once it is removed"
        ) from None


def _seeds(given: int | list[int], first: Any, where: str) -> list[int]:
    seeds = list(range(first, first + given)) if isinstance(given, int) and isinstance(first, int) else given
    if not isinstance(seeds, list) or not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"{where}: sweep.seeds is {given}; give how many, 1 or more, or a list of different ones")
    if not 0 <= min(seeds) <= max(seeds) < 2**63:
        raise UserError(f"{where}: seeds go from {min(seeds)} to {max(seeds)}; they must be 0 or more and below 2**63")
    return seeds


def _conditions(base: Mapping[str, Any], options: SweepOptions, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each condition's name and configuration, as a nested mapping."""
    taken: set[str] = set()
    if empty := [key for key, values in options.grid.items() if not values]:
        raise UserError(f"{where}: sweep.grid.{empty[0]} has no values; give at least one, or leave the key out")
    for name, over in (options.conditions or {"": {}}).items():
        for values in itertools.product(*options.grid.values()):
            chosen = dict(zip(options.grid, values, strict=True))
            config = laid_over(base, over)
            for key, value in chosen.items():
                put(config, key, value)
            label = ", ".join(part for part in (name, *(_label(key, value) for key, value in chosen.items())) if part)
            label = label or condition(_section(config.get("policy", "replace")))
            if label in taken:
                raise UserError(f"{where}: two conditions are called '{label}'; name them in sweep.conditions")
            taken.add(label)
            yield label, config


def _section(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {"kind": value}


def _label(key: str, value: Any) -> str:
    """What a value of the grid is called: a policy in words, "temperature=0.8", "model=gpt2"."""
    if key == "policy":
        return condition(_section(value))
    if isinstance(value, Mapping):
        parts = [str(part) if name in ("kind", "name") else f"{name}={part}" for name, part in value.items()]
        value = " ".join(parts)
    return f"{key.rpartition('.')[2]}={value}"


def _folder(name: str) -> str:
    """A condition's name as that of a folder."""
    return re.sub(r"[^A-Za-z0-9._=-]+", "-", name).strip("-.") or "condition"
