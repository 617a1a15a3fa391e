"""Verdicts and warnings, by condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lmcollapse.report.chart import number
from lmcollapse.report.curves import SHARE, Curves, label_of
from lmcollapse.report.gather import Gathered
from lmcollapse.summaries import summaries
from lmcollapse.verdicts import verdicts

WARNERS = 12
"""Measures that are named of those that warned first."""
SUMMARISED = 6
"""Measures of which it is said how far they went."""

SIGNS = {"holds": "yes", "does not hold": "no", "undecided": "maybe", "undecidable from this run": "unknown"}
"""The class of each answer."""


@dataclass(frozen=True)
class Verdict:
    """What a definition of collapse comes to."""

    definition: str
    answer: str
    sentence: str

    @property
    def sign(self) -> str:
        """The class that colours the answer."""
        return SIGNS[self.answer]

    @property
    def short(self) -> str:
        """The answer in a narrow column."""
        return "cannot tell" if self.answer.startswith("undecidable") else self.answer


@dataclass(frozen=True)
class Change:
    """How far a measure went."""

    label: str
    first: str
    last: str
    change: str
    warns: str
    half_life: str


@dataclass(frozen=True)
class Finding:
    """What is said of a condition, or of a run where there are too few seeds to take several together.

    label : the condition, with the run where it stands for itself.
    warned : the first generation in which a measure warned, and which did.
    alarms, measures : how many measures warned at all, of how many.
    """

    condition: int
    label: str
    seeds: int
    generation: int
    verdicts: list[Verdict]
    warned: int | None
    warners: list[str]
    more_warners: int
    alarms: int
    measures: int
    changes: list[Change]

    @property
    def holding(self) -> int:
        """Definitions that hold."""
        return sum(verdict.answer == "holds" for verdict in self.verdicts)


def findings(gathered: Gathered, runs: Sequence[Path], curves: Curves) -> list[Finding]:
    """Verdicts and warnings of all runs, ordered by condition; measures in the order of the curves."""
    judged, summary = verdicts(runs), summaries(runs)
    places = {measure["name"]: place for place, measure in enumerate(curves.measures)}
    summary = summary[summary["measure"].isin(list(places)) & ~summary["measure"].str.startswith(SHARE)]
    summary = summary.sort_values("measure", key=lambda names: names.map(places), kind="stable")
    labels = [one.label for one in gathered.conditions]
    found = []
    for run, rows in judged.groupby("run", sort=False):
        one = gathered.of[_a_run(gathered, str(run))]
        own = summary[summary["run"] == run]
        alone = len(one.runs) > 1 and rows["seeds"].iloc[0] == 1
        member = next((told for told in one.runs if told.name == run), one.first)
        label = f"{one.label}, {one.line(member)}" if alone else one.label
        found.append(_finding(labels.index(one.label), label, rows, own))
    return sorted(found, key=lambda finding: finding.condition)


def _a_run(gathered: Gathered, names: str) -> str:
    """The name of one of the runs that are judged as one; names may themselves have commas in them."""
    if names in gathered.of:
        return names
    return max((name for name in gathered.of if names.startswith(f"{name}, ")), key=len)


def _finding(condition: int, label: str, rows: pd.DataFrame, summary: pd.DataFrame) -> Finding:
    warning = summary[summary["warning"] == "yes"].sort_values("first_warning", kind="stable")
    first = int(warning["first_warning"].iloc[0]) if len(warning) else None
    earliest = warning[warning["first_warning"] == first]["measure"].tolist() if len(warning) else []
    summarised = summary[summary["first"].notna()].head(SUMMARISED)
    return Finding(
        condition=condition,
        label=label,
        seeds=int(rows["seeds"].iloc[0]),
        generation=int(rows["generation"].iloc[0]),
        verdicts=[Verdict(str(r.definition), str(r.verdict), str(r.sentence)) for r in rows.itertuples()],
        warned=first,
        warners=[label_of(name) for name in earliest[:WARNERS]],
        more_warners=max(0, len(earliest) - WARNERS),
        alarms=len(warning),
        measures=int((summary["warning"] != "undecided").sum()),
        changes=[_change(row) for _, row in summarised.iterrows()],
    )


def _change(row: Any) -> Change:
    interval = f" [{_number(row['change_low'])}, {_number(row['change_high'])}]"
    warns = {"yes": f"generation {row['first_warning']}", "no": "no"}.get(str(row["warning"]), "undecided")
    reached = row["half_life_note"] == "reached" and row["last"] >= 0  # half of what may be negative means nothing
    return Change(
        label=label_of(row["measure"]),
        first=_number(row["first"]),
        last=_number(row["last"]),
        change=_number(row["change"]) + (interval if pd.notna(row["change_low"]) else ""),
        warns=warns,
        half_life=f"{row['half_life']:.1f} generations" if reached else "–",
    )


def _number(value: float) -> str:
    return number(value) if pd.notna(value) else "–"
