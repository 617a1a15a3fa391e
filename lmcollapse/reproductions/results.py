"""What a reproduction came to: its tidy table, a verdict a claim, and how it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

import lmcollapse
from lmcollapse.files import parse_json, write_atomically, write_json
from lmcollapse.progress import bare_table, literal, number
from lmcollapse.records import RECORD, read_manifest, read_record
from lmcollapse.reproductions.evidence import Evidence, Finding
from lmcollapse.reproductions.panels import Panel
from lmcollapse.reproductions.reproduce import Reproduction, Scale
from lmcollapse.results import table
from lmcollapse.spans import snapshots
from lmcollapse.types import UserError

TABLE, FINDINGS, ABOUT = "results.csv", "findings.csv", "reproduction.json"
DIGITS = 6
"""Of the numbers in the small table; the run directories have all of them."""


@dataclass(frozen=True)
class Judged:
    """A reproduction, judged.

    table : the measures that the claims and the figure need, tidy.
    about : how it was made: command, seconds of computing, versions, hardware, seeds.
    """

    reproduction: Reproduction
    evidence: Evidence
    findings: tuple[Finding, ...]
    about: Mapping[str, Any]


def judge(reproduction: Reproduction, runs: Sequence[Path], scale: Scale, command: str) -> Judged:
    """Hold the claims to what the runs found. Raises UserError where runs are missing."""
    found = Evidence(_thinned(table(runs)))
    findings = tuple(reproduction.claims(found))
    drawn = {panel.measure for panel in reproduction.panels(found) if isinstance(panel, Panel)}
    needed = found.table[found.table["measure"].isin(found.asked | drawn)]
    about = {
        "name": reproduction.name,
        "scale": scale,
        "command": command,
        "seeds": len(found.seeds),
        "runs": len(runs),
        "seconds": round(computing(runs)),
        "lmcollapse": lmcollapse.__version__,
        **_made_by(runs),
    }
    return Judged(reproduction, Evidence(needed), findings, about)


def load(reproduction: Reproduction, folder: Path) -> Judged:
    """The same from the files that `write` has left; the verdicts are computed again from the table."""
    try:
        rows = pd.read_csv(folder / TABLE)
        about = parse_json((folder / ABOUT).read_bytes())
        evidence = Evidence(rows)
        findings = tuple(reproduction.claims(evidence))
        if not isinstance(about, dict):
            raise ValueError(f"{ABOUT} has no JSON object")
    except Exception as error:  # what an edited table does to the claims cannot be foreseen
        raise UserError(
            f"{folder}: holds no reproduction of {reproduction.name} that can be read ({error!r})"
        ) from None
    return Judged(reproduction, evidence, findings, about)


def write(judged: Judged, folder: Path) -> None:
    """The tidy table, the verdicts and how they were made, as small files."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = judged.evidence.table
    write_atomically(folder / TABLE, rows.to_csv(index=False, float_format=f"%.{DIGITS}g").encode())
    findings = pd.DataFrame([asdict(finding) for finding in judged.findings])
    write_atomically(folder / FINDINGS, findings.to_csv(index=False, float_format=f"%.{DIGITS}g").encode())
    write_json(folder / ABOUT, dict(judged.about))


def computing(runs: Sequence[Path]) -> float:
    """Seconds that all steps took together, each once, however many runs have it."""
    seen: dict[tuple[int, int], float] = {}
    for run in runs:
        for file in run.rglob(RECORD):
            record = read_record(file.parent)
            if record is not None:
                about = file.stat()
                seen[about.st_dev, about.st_ino] = float(record.get("seconds", 0.0))
    return sum(seen.values())


def _made_by(runs: Sequence[Path]) -> dict[str, Any]:
    """Versions and hardware of the first run."""
    manifest = read_manifest(runs[0]) or {}
    kept = ("python", "torch", "transformers", "numpy")
    versions = {name: version for name, version in manifest.get("versions", {}).items() if name in kept}
    return {"versions": versions, "hardware": manifest.get("hardware", {})}


def _thinned(rows: pd.DataFrame, most: int = 120) -> pd.DataFrame:
    """Of many generations those that a figure can show, evenly on a logarithmic axis.

    The first and the last are kept, and those that are 10, 100, … fits from human data.
    """
    last = int(rows["generation"].max())
    if last < most:
        return rows
    decades = [10**n - 1 for n in range(1, len(str(last)) + 1)]
    kept = {
        *decades,
        *(np.unique(np.geomspace(1, last + 1, most).round().astype(int)) - 1).tolist(),
        *snapshots(last + 1),
    }
    ends = rows.groupby("condition")["generation"].transform("max")
    return rows[rows["generation"].isin([*kept, -1]) | (rows["generation"] == ends)]


def findings_table(findings: Sequence[Finding]) -> Table:
    """Verdicts as a table for the terminal, legible from 80 columns on."""
    shown = bare_table(leading=1)
    shown.add_column("claim")
    shown.add_column("verdict", width=13)
    shown.add_column("ours, 95 % interval over seeds")
    shown.add_column("published")
    for finding in findings:
        shown.add_row(
            literal(finding.claim),
            finding.verdict,
            literal(f"{interval(finding)}: {finding.statistic}"),
            literal(finding.published),
        )
    return shown


def interval(finding: Finding) -> str:
    """ "0.12 [0.10, 0.14]"."""
    value, low, high = (number(None if np.isnan(x) else x) for x in (finding.value, finding.low, finding.high))
    return f"{value} [{low}, {high}]"


def as_markdown(judged: Judged, figures: Sequence[str]) -> Iterator[str]:
    """One reproduction as a section of a page: what, how, the figure, the verdicts."""
    paper, about = judged.reproduction.paper, judged.about
    hardware, versions = about["hardware"], about["versions"]
    yield f"## {about['name']}\n"
    yield (
        f"{paper.authors}, *{paper.title}*, {paper.where} "
        f"([arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})).\n"
    )
    if about["scale"] == "small":
        yield f"At this scale: {judged.reproduction.small}\n"
    yield (
        f"`{about['command']}`: {about['runs']} runs, {about['seeds']} seeds a condition, "
        f"{about['seconds'] / 60:.0f} minutes of computing on {hardware.get('cpu')}, {hardware.get('cores')} cores; "
        f"lmcollapse {about['lmcollapse']}, torch {versions.get('torch')}, Python {versions.get('python')}.\n"
    )
    yield from (f"![{about['name']}]({figure})\n" for figure in figures)
    yield "| claim | verdict | ours, 95 % interval over seeds | published |\n|---|---|---|---|"
    for finding in judged.findings:
        cells = (
            finding.claim,
            f"**{finding.verdict}**",
            f"{interval(finding)}: {finding.statistic}",
            finding.published,
        )
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""
