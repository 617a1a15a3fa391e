"""Has it collapsed? Eight definitions of model collapse, and what a run's measures say of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from rich.table import Table

from lmcollapse.progress import bare_table, literal
from lmcollapse.trajectories import Subject, families, subjects
from lmcollapse.verdicts.definitions import DEFINITIONS, Thresholds, undecidable


def verdicts(runs: Sequence[Path], thresholds: Thresholds | None = None) -> pd.DataFrame:
    """The eight definitions of collapse on each run, one a row; see `judge`.

    Runs whose configurations differ in nothing but the seed are judged as one if they are three or more. Runs that
    differ in the size of their human text as well (`corpus.train_words`) tell of the scaling law.

    Raises UserError as `results.table` does.
    """
    return pd.concat([_rows(family, thresholds or Thresholds()) for family in families(runs)], ignore_index=True)


def judge(
    found: pd.DataFrame, thresholds: Thresholds | None = None, words: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """The eight definitions of collapse of Schaeffer et al. 2025 (arXiv 2503.03150) on a tidy table (`results.table`).

    The last generation is compared with generation 0, which was trained on human text alone, and with human text.
    Columns: `run`, `condition`, `seeds` (runs judged as one: those of one condition with different seeds, if they are
    three or more, with intervals over seeds), `generation` (the last), `definition`, and the fields of `Verdict`.

    words : size of the human training part by run, for the scaling law.
    """
    return _rows(subjects(found, words), thresholds or Thresholds())


def _rows(family: Sequence[Subject], thresholds: Thresholds) -> pd.DataFrame:
    rows = [
        {"run": subject.name, "condition": subject.condition, "seeds": subject.seeds, "generation": subject.last}
        | {"definition": definition}
        | asdict(test(subject, thresholds, family) if subject.last > 0 else undecidable("it has generation 0 only"))
        for subject in family
        for definition, test in DEFINITIONS.items()
    ]
    return pd.DataFrame(rows)


def verdicts_table(found: pd.DataFrame) -> Table:
    """Verdicts as a table for the terminal, legible from 80 columns on."""
    shown = bare_table(leading=1)
    shown.add_column("definition", width=18)
    shown.add_column("verdict", width=13)
    shown.add_column("because")
    for run, rows in found.groupby("run", sort=False):
        shown.add_row(
            "[bold]run[/bold]", "", f"[bold]{literal(str(run))}[/bold], to generation {rows['generation'].iloc[0]}"
        )
        for row in rows.itertuples():
            shown.add_row(str(row.definition), str(row.verdict), literal(str(row.sentence)))
    return shown
