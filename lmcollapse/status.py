"""How far the runs below a directory are. Reads only, and takes no lock, so it never disturbs a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.table import Table

from lmcollapse.progress import SHOWN, bare_table, literal, number, shown
from lmcollapse.records import RECORD, ending, holder, read_manifest, read_metrics, runs_below
from lmcollapse.results import condition_of
from lmcollapse.steps import ARTEFACTS, folder_of
from lmcollapse.types import UserError

MEASURES = ("perplexity", "distinct_2", "tail_coverage")
"""The last measures of text that the table shows; `metrics.jsonl` has all of them."""


@dataclass(frozen=True)
class RunStatus:
    """One run: its name (its directory below the one asked about), condition, generations wanted, and all measures.

    state : "finished", "diverged" or "emptied" (and where), "running" (and the step that is being made) or "stopped"
        (and the step that is next). Chains have no steps within a generation.
    """

    name: str
    condition: str
    generations: int
    state: str
    readings: Sequence[Mapping[str, float | None]]

    @property
    def done(self) -> int:
        """Generations that are measured."""
        return len(self.readings)

    @property
    def last(self) -> Mapping[str, float | None]:
        """The measures of the last one; nothing before there is one."""
        return self.readings[-1] if self.readings else {}


def status(directory: Path) -> list[RunStatus]:
    """Every run in or below a directory, by name. UserError where there is none."""
    if not directory.is_dir():
        raise UserError(f"{directory} is no directory; give a run, or a directory of runs")
    found = runs_below(directory)
    if not found:
        raise UserError(f"{directory} holds no run; `lmcollapse run CONFIG.yaml` makes one")
    return [status_of(path, str(path.relative_to(directory)) if path != directory else str(path)) for path in found]


def status_of(path: Path, name: str) -> RunStatus:
    """One run, by the name that it is to have."""
    try:  # one damaged run must not hide the others
        return _status_of(path, name)
    except UserError as error:
        return RunStatus(name, "?", 0, str(error), ())
    except Exception as error:  # what becomes of a damaged manifest cannot be foreseen
        return RunStatus(name, "?", 0, f"damaged ({error!r}); `lmcollapse verify {path}` tells where", ())


def _status_of(path: Path, name: str) -> RunStatus:
    running = holder(path) is not None
    manifest, table = read_manifest(path), read_metrics(path)
    if manifest is None:
        return RunStatus(name, "?", 0, "running: preparing" if running else "stopped: before generation 0", ())
    config = manifest["config"]
    state = "running" if running else "stopped"
    if len(table) == config["generations"]:
        state = "finished"
    elif "chains" in config:
        state += f": generation {len(table)}"
    else:
        folder = path / folder_of(len(table))
        step = next((name for name in ARTEFACTS if not (folder / name / RECORD).is_file()), ARTEFACTS[-1])
        state += f": generation {len(table)}, {step}"
    if (ended := ending(manifest)) and not running:
        how, generation, where = ended
        state = f"{how}: generation {generation}, {where}"
    return RunStatus(name, condition_of(manifest), config["generations"], state, table)


def status_table(runs: Sequence[RunStatus]) -> Group:
    """The runs as tables for the terminal, one for those with the same measures, legible from 80 columns on."""
    text = tuple((key, SHOWN[key]) for key in MEASURES)
    unmeasured = next((names for run in runs if (names := headings(run.last))), text)
    alike: dict[tuple[tuple[str, str], ...], list[RunStatus]] = {}
    for run in runs:
        alike.setdefault(headings(run.last) or unmeasured, []).append(run)
    first, *others = (_table(measures, members) for measures, members in alike.items())
    return Group(first, *(part for table in others for part in ("", table)))


def headings(readings: Mapping[str, float | None]) -> tuple[tuple[str, str], ...]:
    """The measures of a run that the table shows, each with its heading."""
    if not readings:
        return ()
    names = shown(readings)
    keys = MEASURES if names.keys() == SHOWN.keys() else tuple(names)[:3]
    if "collapsed" in names:
        keys = (*tuple(names)[:2], "collapsed")
    return tuple((key, names[key]) for key in keys)


def _table(measures: Sequence[tuple[str, str]], runs: Sequence[RunStatus]) -> Table:
    drawn = bare_table()
    for heading in ("run", "condition", "done", "state"):
        drawn.add_column(heading, overflow="fold", no_wrap=heading == "done")
    for _, heading in measures:
        drawn.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    for run in runs:
        figures = [number(run.last.get(key)) for key, _ in measures]
        words = (run.name, run.condition, f"{run.done}/{run.generations}", run.state)
        drawn.add_row(*(literal(word) for word in words), *figures)
    return drawn
