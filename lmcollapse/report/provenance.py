"""Where the numbers come from: configurations, versions and machines, how to make them again, how to cite."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from lmcollapse.config import dotted
from lmcollapse.report.gather import Gathered, Told

PAPER = """\
@article{shumailov2024ai,
  author  = {Shumailov, Ilia and Shumaylov, Zakhar and Zhao, Yiren and Papernot, Nicolas and
             Anderson, Ross and Gal, Yarin},
  title   = {{AI} models collapse when trained on recursively generated data},
  journal = {Nature},
  volume  = {631},
  pages   = {755--759},
  year    = {2024},
  doi     = {10.1038/s41586-024-07566-y}
}"""

SOFTWARE = """\
@software{{lmcollapse,
  author  = {{{{The lmcollapse authors}}}},
  title   = {{lmcollapse: a testbed for language-model collapse}},
  version = {{{version}}},
  note    = {{SHA-256 of the code: {code}}}
}}"""


@dataclass(frozen=True)
class Settings:
    """The configuration of a condition.

    yaml : of its first run, ready for `lmcollapse run`.
    """

    label: str
    seed: int
    yaml: str


@dataclass(frozen=True)
class Command:
    """How a run was started, each time."""

    name: str
    label: str
    seed: int
    state: str
    commands: list[str]


@dataclass(frozen=True)
class Provenance:
    """All of it.

    differing : each dotted key that is not the same everywhere, and its values by condition.
    environment : what is known of versions and machines; several values where runs or their starts differ.
    """

    differing: list[tuple[str, list[str]]]
    settings: list[Settings]
    environment: list[tuple[str, list[str]]]
    commands: list[Command]
    citation: str


def provenance(gathered: Gathered) -> Provenance:
    """What the manifests say."""
    return Provenance(
        _differing(gathered),
        [Settings(one.label, one.first.seed, _yaml(one.first)) for one in gathered.conditions],
        [*_of_starts(gathered.runs, "hardware"), *_of_starts(gathered.runs, "versions")],
        [
            Command(run.name, one.label, run.seed, run.state, _commands(run))
            for one in gathered.conditions
            for run in one.runs
        ],
        "\n\n".join([*_software(gathered.runs), PAPER]),
    )


def _yaml(run: Told) -> str:
    """Every key, so that no default of another version can change it; what is not plain is escaped."""
    return yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=False, width=100)


def _differing(gathered: Gathered) -> list[tuple[str, list[str]]]:
    configs = {run.name: dotted(run.config) for run in gathered.runs}
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    return [
        (key, [_values(configs[run.name].get(key) for run in one.runs) for one in gathered.conditions])
        for key in keys
        if len({json.dumps(config.get(key)) for config in configs.values()}) > 1
    ]


def _values(values: Iterable[Any]) -> str:
    found = dict.fromkeys(_plain(value) for value in values)
    return ", ".join(found)


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _of_starts(runs: Sequence[Told], part: str) -> list[tuple[str, list[str]]]:
    """What holds for all starts of all runs, once; what does not, with the runs that it holds for."""
    found: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        for start in (run.manifest, *run.manifest["starts"]):
            for key, value in start[part].items():
                if value is not None:
                    names = found.setdefault(key, {}).setdefault(_plain(value), [])
                    names += [] if run.name in names else [run.name]
    return [
        (key, list(values) if len(values) == 1 else [f"{value} ({', '.join(of)})" for value, of in values.items()])
        for key, values in found.items()
    ]


def _commands(run: Told) -> list[str]:
    """The command of each start, once where it was given again and again."""
    return list(dict.fromkeys(shlex.join(start["command"]) for start in run.manifest["starts"]))


def _software(runs: Sequence[Told]) -> list[str]:
    """An entry for each version that made some of the runs; several are told apart by a number."""
    made = dict.fromkeys(
        (str(run.manifest["versions"]["lmcollapse"]), str(run.manifest["versions"]["code"])) for run in runs
    )
    entries = [SOFTWARE.format(version=version, code=code) for version, code in made]
    return [
        entry if len(entries) == 1 else entry.replace("{lmcollapse,", f"{{lmcollapse-{place + 1},", 1)
        for place, entry in enumerate(entries)
    ]
