"""The figure `chains`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmcollapse.figures.chain_runs import ChainRun, by_substrate
from lmcollapse.figures.style import DOUBLE, SINGLE, legend, line_styles, log_axis, styled
from lmcollapse.results import over_chains
from lmcollapse.theory import expected
from lmcollapse.types import HUMAN, Floats

PANELS = {
    "gaussian": ["variance", "mean_error", "w2_squared", "log_variance"],
    "gaussian_mixture": ["l2_squared", "variance", "separation", "weight_entropy"],
    "kde": ["sample_variance", "variance", "mean_error", "bandwidth"],
    "discrete": ["heterozygosity", "entropy", "support", "total_variation"],
    "linear_regression": ["excess_risk"],
}
"""The measures that are drawn; of a substrate from outside the project the first four."""

LABELS = {
    "variance": "variance",
    "mean_error": "squared error of the mean",
    "w2_squared": "squared Wasserstein-2 distance",
    "log_variance": "log variance",
    "l2_squared": "squared L2 distance",
    "separation": "distance of the nearest means",
    "weight_entropy": "entropy of the weights (nats)",
    "sample_variance": "variance of the rows",
    "bandwidth": "bandwidth",
    "heterozygosity": "heterozygosity",
    "entropy": "entropy (nats)",
    "support": "symbols left",
    "total_variation": "total variation distance",
    "excess_risk": "excess risk",
}
"""What their axes say."""

INTERVAL, SPREAD = 0.35, 0.12
"""Opacity of the two bands."""
THEORY: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 0.9}
TRUTH: dict[str, Any] = {"color": "0.6", "linewidth": 0.8}
POINTS = 500
"""Generations that are drawn of a long run, evenly on the logarithmic axis."""
LOG_FROM = 3
"""A measure that is never negative has a logarithmic axis where its largest value is so many times its smallest."""
MARGIN = 1.15
NOTHING = 1e-12
"""What lies within this of 0 is 0 but for rounding."""


@styled
def chains(runs: Sequence[Path]) -> dict[str, Figure]:
    """Measures of simple models over the generations: the mean over chains, its 95 % interval, and 5 % to 95 % of them.

    Dashed lines are what theory expects of the mean, where it is known in closed form. The axis counts fits, the one
    to human data included.
    """
    return by_substrate(runs, "chains", _draw)


def _draw(substrate: str, runs: list[ChainRun]) -> Figure:
    tables = [over_chains([run.path]) for run in runs]
    taken = list(dict.fromkeys(measure for table in tables for measure in table["measure"]))
    measures = [measure for measure in PANELS.get(substrate, taken[:4]) if measure in taken]
    rows, columns = -(-len(measures) // 2), min(2, len(measures))
    figure = Figure(figsize=(DOUBLE if columns > 1 else SINGLE, 0.4 + 1.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    generations = 1 + max(int(table["generation"].max()) for table in tables)
    styles = line_styles([run.label for run in runs], generations)
    if generations > 10:
        styles = {label: {**style, "marker": ""} for label, style in styles.items()}
    drawn_theory, drawn_truth = [], []
    for place, (axes, measure) in enumerate(zip(grid.flat, measures, strict=False)):
        parts = [table[table["measure"] == measure] for table in tables]
        theories = [expected(run.config, measure) for run in runs]
        drawn_theory += [theory for theory in theories if theory is not None]
        drawn_truth += _panel(axes, parts, theories, list(styles.values()))
        axes.set_ylabel(LABELS.get(measure, measure.replace("_", " ")))
        if place + columns >= len(measures):  # the last one of its column
            axes.set_xlabel("fits, t = generation + 1")
            axes.tick_params(labelbottom=True)
    for axes in grid.flat[len(measures) :]:
        axes.remove()
    grid[0, 0].set_xscale("log")
    log_axis(grid[0, 0].xaxis, 1, max(generations, 2))
    grid[0, 0].set_xlim(1 if generations > 1 else 0.9, max(generations, 2))
    figure.align_ylabels()
    legend(figure, _entries(styles, tables, bool(drawn_theory), bool(drawn_truth)))
    return figure


def _panel(
    axes: Axes, tables: Sequence[pd.DataFrame], theories: Sequence[Floats | None], styles: Sequence[dict[str, Any]]
) -> list[float]:
    """One measure of all runs; returns the values that it has in truth, as far as they are drawn."""
    values: list[Floats] = []
    truths = {float(value) for table in tables for value in table.loc[table["generation"] == HUMAN, "value"].dropna()}
    for table, theory, style in zip(tables, theories, styles, strict=True):
        written = table[table["generation"] != HUMAN]
        if written.empty:
            continue
        shown = _thinned(len(written))
        part = written.iloc[shown]
        for low, high, opacity in [("p5", "p95", SPREAD), ("low", "high", INTERVAL)]:
            if part[[low, high]].notna().all(axis=1).any():
                axes.fill_between(shown + 1, part[low], part[high], color=style["color"], alpha=opacity, linewidth=0)
        axes.plot(shown + 1, part["value"], **style)
        values += [part[["value", "p5", "p95"]].to_numpy().ravel()]
        if theory is not None:
            axes.plot(shown + 1, theory[shown], zorder=3, **THEORY)
            values += [theory[shown]]
    known = np.concatenate(values)
    known = known[np.isfinite(known)]
    positive = known[known > NOTHING] if (known >= -NOTHING).all() else known[:0]
    if not len(known):
        axes.text(0.5, 0.5, "no values", ha="center", va="center", transform=axes.transAxes, color="0.5")
        axes.set_yticks([])
    elif len(positive) and positive.max() > LOG_FROM * positive.min():
        axes.set_yscale("log")
        log_axis(axes.yaxis, positive.min(), positive.max())
        axes.set_ylim(positive.min() / MARGIN, positive.max() * MARGIN)
        truths = {value for value in truths if value > NOTHING}
    for value in truths:
        axes.axhline(value, zorder=0.5, **TRUTH)
    return list(truths)


def _thinned(generations: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The generations that are drawn."""
    return np.unique(np.geomspace(1, generations, POINTS).round().astype(np.int64)) - 1


def _entries(
    styles: dict[str, dict[str, Any]], tables: Sequence[pd.DataFrame], theory: bool, truth: bool
) -> dict[str, dict[str, Any]]:
    entries = dict(styles)
    if any(table["p5"].notna().any() for table in tables):
        entries["95 % interval of the mean"] = {"color": "0.3", "linewidth": 5, "alpha": INTERVAL}
        entries["5 % to 95 % of the chains"] = {"color": "0.3", "linewidth": 5, "alpha": SPREAD}
    if theory:
        entries["theory"] = THEORY
    if truth:
        entries["human data"] = TRUTH
    return entries
