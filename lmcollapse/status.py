"""How far the runs below a directory are. Reads only, and takes no lock, so it never disturbs a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from lmcollapse.progress import SHOWN, number, shown
from lmcollapse.results import condition_of
from lmcollapse.steps import ARTEFACTS, folder_of
from lmcollapse.store import LOCK, RECORD, holder, read_manifest, read_metrics
from lmcollapse.types import UserError

MEASURES = ("perplexity", "distinct_2", "tail_coverage")
"""The last measures of text that the table shows; `metrics.jsonl` has all of them."""


@dataclass(frozen=True)
class RunStatus:
    """One run: its name (its directory below the one asked about), policy, generations measured and wanted, measures.

    state : "finished", "diverged" (and where), "running" (and the step that is being made) or "stopped" (and the step
        that is next). Chains have no steps within a generation.
    """

    name: str
    policy: str
    done: int
    generations: int
    state: str
    last: dict[str, float | None]


def status(directory: Path) -> list[RunStatus]:
    """Every run in or below a directory, by name. UserError where there is none."""
    if not directory.is_dir():
        raise UserError(f"{directory} is no directory; give a run, or a directory of runs")
    found = sorted({file.parent for file in directory.rglob(LOCK)})
    if not found:
        raise UserError(f"{directory} holds no run; `lmcollapse run CONFIG.yaml` makes one")
    return [_status_of(path, str(path.relative_to(directory)) if path != directory else str(path)) for path in found]


def _status_of(path: Path, name: str) -> RunStatus:
    running = holder(path) is not None
    try:
        manifest, table = read_manifest(path), read_metrics(path)
    except UserError as error:  # one damaged run must not hide the others
        return RunStatus(name, "?", 0, 0, str(error), {})
    if manifest is None:
        return RunStatus(name, "?", 0, 0, "running: preparing" if running else "stopped: before generation 0", {})
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
    if (diverged := manifest.get("diverged")) and not running:
        state = f"diverged: generation {diverged['generation']}, step {diverged['step']} of the fit"
    last = table[-1] if table else {}
    return RunStatus(name, condition_of(manifest), len(table), config["generations"], state, last)


def status_table(runs: Sequence[RunStatus]) -> Group:
    """The runs as tables for the terminal, one for those with the same measures, legible from 80 columns on."""
    text = tuple((key, SHOWN[key]) for key in MEASURES)
    unmeasured = next((headings for run in runs if (headings := _headings(run.last))), text)
    alike: dict[tuple[tuple[str, str], ...], list[RunStatus]] = {}
    for run in runs:
        alike.setdefault(_headings(run.last) or unmeasured, []).append(run)
    first, *others = (_table(headings, members) for headings, members in alike.items())
    return Group(first, *(part for table in others for part in ("", table)))


def _headings(readings: dict[str, float | None]) -> tuple[tuple[str, str], ...]:
    """The measures of a run that the table shows, each with its heading."""
    if not readings:
        return ()
    headings = shown(readings)
    keys = MEASURES if headings.keys() == SHOWN.keys() else tuple(headings)[:3]
    if "collapsed" in headings:
        keys = (*tuple(headings)[:2], "collapsed")
    return tuple((key, headings[key]) for key in keys)


def _table(headings: Sequence[tuple[str, str]], runs: Sequence[RunStatus]) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("run", "policy", "done", "state"):
        drawn.add_column(heading, overflow="fold", no_wrap=heading == "done")
    for _, heading in headings:
        drawn.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    for run in runs:
        figures = [number(run.last.get(key)) for key, _ in headings]
        drawn.add_row(escape(run.name), escape(run.policy), f"{run.done}/{run.generations}", run.state, *figures)
    return drawn
