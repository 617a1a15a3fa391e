"""What the figures take from the tidy table: runs or conditions as lines, and which runs can be drawn together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lmcollapse.metrics.sequence_perplexity import flat_name
from lmcollapse.tidy.chains import spaced
from lmcollapse.trajectories import LEAST_SEEDS, over_seeds

TEXT, IMAGES = "text", "images"
CHAINS = {
    "gaussian_mixture": "l2_squared",
    "kde": "sample_variance",
    "discrete": "heterozygosity",
    "linear_regression": "excess_risk",
    "gaussian": "log_variance",
}
"""The substrates of chains, and a measure that no other one has."""

MARKS = 8
"""Markers on a line of more than ten generations of chains."""
SINGLE_SEED: dict[str, Any] = {"linewidth": 0.5, "alpha": 0.6}
"""Single seeds beside their mean."""


@dataclass(frozen=True)
class Line:
    """One line of a figure: a run, or the runs of a condition if they are three or more.

    runs : the rows of each that have no `at`, human data left out.
    """

    label: str
    condition: str
    runs: tuple[pd.DataFrame, ...]

    @property
    def seeds(self) -> int:
        """How many runs it stands for."""
        return len(self.runs)

    def rows(self, measure: str, generations: Sequence[int] | None = None) -> pd.DataFrame:
        """`generation`, `value`, `low` and `high` of a measure; of several runs the mean and the 95 % t-interval."""
        parts = self.singles(measure, generations)
        together = len(parts) > 1 and any(map(len, parts))
        return over_seeds(pd.concat(parts)).sort_values("generation") if together else parts[0]

    def singles(self, measure: str, generations: Sequence[int] | None = None) -> list[pd.DataFrame]:
        """The rows of each run."""
        parts = [run[run["measure"] == measure] for run in self.runs]
        return parts if generations is None else [part[part["generation"].isin(generations)] for part in parts]


def lines(found: pd.DataFrame, *, by_run: bool = False) -> list[Line]:
    """The lines of a figure, in the order of the table.

    by_run : whether a run that stands for itself is called by its own name; otherwise by its condition, and its seed
        where that takes it.
    """
    made = []
    scalars = found[found["at"].isna() & (found["generation"] >= 0)]
    for name, part in scalars.groupby("condition", sort=False):
        condition, runs = str(name), [(str(run), rows) for run, rows in part.groupby("run", sort=False)]
        if len(runs) >= LEAST_SEEDS:
            made.append(Line(condition, condition, tuple(rows for _, rows in runs)))
            continue
        for run, rows in runs:
            with_seed = condition if len(runs) == 1 else f"{condition}, seed {rows['seed'].iloc[0]}"
            made.append(Line(run if by_run else with_seed, condition, (rows,)))
    order = {run: place for place, run in enumerate(found["run"].unique())}
    return sorted(made, key=lambda line: order[line.runs[0]["run"].iloc[0]])


def over_what(drawn: Sequence[Line]) -> str:
    """What the lines are that stand for several runs, "" where none does."""
    seeds = [line.seeds for line in drawn if line.seeds > 1]
    return f"mean of {span(seeds)} seeds, 95 % t-interval" if seeds else ""


def span(numbers: Iterable[int]) -> str:
    """ "3" or "3–5"."""
    ordered = sorted(numbers)
    return "–".join(str(number) for number in dict.fromkeys((ordered[0], ordered[-1])))


def marked(
    styles: dict[str, dict[str, Any]], shown: Sequence[int], generations: int
) -> Callable[[str, int], dict[str, Any]]:
    """The styles of long lines: markers in a few places, evenly on a logarithmic axis.

    shown : the generations that are drawn, out of so many.

    Returns the style for a label and so many points.
    """
    places = np.searchsorted(shown, spaced(generations, MARKS)).tolist()

    def style(label: str, points: int) -> dict[str, Any]:
        few = {"markevery": [place for place in places if place < points]} if generations > 10 else {}
        return styles[label] | few

    return style


def kinds(found: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of runs of text, of images and of chains, by what their runs measure.

    Chains of a substrate from outside the project are called after the first measure that they have.
    """
    by_run = found.groupby("run", sort=False)["measure"].unique()
    kind = found["run"].map({run: _kind(list(measures)) for run, measures in by_run.items()})
    return {str(name): rows for name, rows in found.groupby(kind, sort=False)}


def _kind(measures: Sequence[str]) -> str:
    if "collapsed" in measures:
        marked = (substrate for substrate, mark in CHAINS.items() if mark in measures)
        return next(marked, flat_name(measures[0]))
    return IMAGES if "image_height" in measures else TEXT


def of_each_kind(
    found: pd.DataFrame, stem: str, draw: Callable[[str, pd.DataFrame], Figure | None]
) -> dict[str, Figure]:
    """A figure of each kind of chains; files are called after the kind where there are several."""
    drawn = {kind: draw(kind, rows) for kind, rows in kinds(found).items() if kind not in (TEXT, IMAGES)}
    made = {kind: figure for kind, figure in drawn.items() if figure is not None}
    return {stem if len(made) == 1 else f"{stem}_{kind}": figure for kind, figure in made.items()}


def panels(found: pd.DataFrame, measures: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Curves by the condition that they are an example of, in the order of the table."""
    curves = found[found["measure"].isin(measures)]
    first = curves.groupby("condition", sort=False)["run"].transform("first")
    return {str(name): rows for name, rows in curves[curves["run"] == first].groupby("condition", sort=False)}


def curves(rows: pd.DataFrame, measure: str) -> dict[int, pd.DataFrame]:
    """One curve a generation, human data (-1) first."""
    chosen = rows[rows["measure"] == measure]
    return {int(str(generation)): part for generation, part in chosen.groupby("generation")}
