"""The figure `measures`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmcollapse.figures.style import DOUBLE, SINGLE, generation_axis, legend, line_styles, log_axis, styled
from lmcollapse.results import table

LABELS = {
    "perplexity": "held-out perplexity",
    "tail_coverage": "tail coverage",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "distinct_3": "distinct-3",
    "distinct_4": "distinct-4",
}
"""What is drawn, and what its axis says."""

FIGURES = {
    "measures": [["perplexity", "distinct_1", "distinct_2"], ["tail_coverage", "distinct_3", "distinct_4"]],
    "perplexity": [["perplexity"]],
    "distinct_n": [["distinct_1", "distinct_2"], ["distinct_3", "distinct_4"]],
    "tail_coverage": [["tail_coverage"]],
}
"""The panels of each file, row by row."""

LOG_FROM = 5
"""Perplexity has a logarithmic axis where its largest value is more than so many times its smallest."""


@styled
def measures(runs: Sequence[Path]) -> dict[str, Figure]:
    """Perplexity, tail coverage and distinct-n per generation, runs overlaid; together, and each on its own."""
    readings = table(runs)
    return {stem: _draw(readings, panels) for stem, panels in FIGURES.items()}


def _draw(readings: pd.DataFrame, panels: list[list[str]]) -> Figure:
    rows, columns = len(panels), len(panels[0])
    size = (DOUBLE if columns > 2 else SINGLE, 0.4 + 1.6 * rows if rows > 1 else 2.2)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    generations = 1 + int(readings["generation"].max()) if len(readings) else 1
    styles = line_styles(list(readings["run"].unique()), generations)
    for row, measures_of_row in enumerate(panels):
        for column, measure in enumerate(measures_of_row):
            axes = grid[row, column]
            _panel(axes, readings[readings["measure"] == measure], measure, styles)
            generation_axis(axes.xaxis, generations)
            axes.set_xlim(-0.3, generations - 0.7)
            if row == rows - 1:
                axes.set_xlabel("generation")
    figure.align_ylabels()
    if len(styles) > 1:
        legend(figure, styles)
    return figure


def _panel(axes: Axes, readings: pd.DataFrame, measure: str, styles: dict[str, dict[str, Any]]) -> None:
    for run, values in readings.groupby("run", sort=False):
        axes.plot(values["generation"], values["value"], clip_on=False, **styles[str(run)])
    axes.set_ylabel(LABELS[measure])
    low, high = readings["value"].min(), readings["value"].max()
    if np.isnan(low):
        axes.text(0.5, 0.5, "no values", ha="center", va="center", transform=axes.transAxes, color="0.5")
        axes.set_yticks([])
    elif measure == "perplexity" and high > LOG_FROM * low:
        axes.set_yscale("log")
        axes.set_ylim(log_axis(axes.yaxis, low, high))
    else:
        axes.set_ylim(0, 1.05 * high or 1)  # from zero, so that a small change looks small
