"""The figure `chains`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmcollapse.figures.lines import SINGLE_SEED, Line, lines, marked, of_each_kind, over_what
from lmcollapse.figures.style import DOUBLE, SINGLE, legend, line_styles, log_axis, styled
from lmcollapse.tidy.chains import spaced
from lmcollapse.types import HUMAN

PANELS = {
    "gaussian": ["variance", "mean_error", "w2_squared", "log_variance"],
    "gaussian_mixture": ["l2_squared", "variance", "separation", "weight_entropy"],
    "kde": ["sample_variance", "variance", "mean_error", "bandwidth"],
    "discrete": ["heterozygosity", "entropy", "support", "total_variation", "rarest", "rarest_survives"],
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
    "rarest": "probability of the rarest symbol",
    "rarest_survives": "survival of the rarest symbol",
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
BESIDE = ("_p5", "_p50", "_p95", "_theory")
NOTHING = 1e-12
"""What lies within this of 0 is 0 but for rounding."""


@styled
def chains(found: pd.DataFrame) -> dict[str, Figure]:
    """Measures of simple models over the generations: the mean over chains, its 95 % interval, and 5 % to 95 % of them.

    Of three or more seeds the mean and its interval are those over seeds. Dashed lines are what theory expects of the
    mean, where it is known in closed form. The axis counts fits, the one to human data included.
    """
    return of_each_kind(found, "chains", _draw)


def _draw(kind: str, found: pd.DataFrame) -> Figure:
    found = found[found["at"].isna()]
    taken = [name for name in found["measure"].unique() if not name.endswith(BESIDE)]
    measures = [measure for measure in PANELS.get(kind, taken[:4]) if measure in taken]
    rows, columns = -(-len(measures) // 2), min(2, len(measures))
    figure = Figure(figsize=(DOUBLE if columns > 1 else SINGLE, 0.4 + 1.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    drawn = lines(found)
    generations = 1 + int(found["generation"].max())
    shown = spaced(generations, POINTS).tolist()
    styles = line_styles([line.label for line in drawn], generations)
    truths = False
    for place, (axes, measure) in enumerate(zip(grid.flat, measures, strict=False)):
        human = found[(found["measure"] == measure) & (found["generation"] == HUMAN)]
        truths |= _panel(axes, measure, drawn, set(human["value"].dropna()), marked(styles, shown, generations), shown)
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
    legend(figure, _entries(styles, drawn, set(found["measure"]), measures, truths))
    return figure


def _panel(
    axes: Axes,
    measure: str,
    drawn: Sequence[Line],
    truths: set[float],
    style_of: Callable[[str, int], dict[str, Any]],
    shown: Sequence[int],
) -> bool:
    """One measure of all lines; returns whether the values that it has in truth can be drawn."""
    values: list[pd.Series[float]] = []
    for line in drawn:
        rows = line.rows(measure, shown)
        style = style_of(line.label, len(rows))
        low, high, theory = (line.rows(f"{measure}_{part}", shown) for part in ("p5", "p95", "theory"))
        band = low.merge(high, on="generation", suffixes=("_low", "_high"))  # one end alone may have left all numbers
        if len(band):
            ends = band["value_low"], band["value_high"]
            axes.fill_between(band["generation"] + 1, *ends, color=style["color"], alpha=SPREAD, linewidth=0)
        if rows[["low", "high"]].notna().all(axis=1).any():
            axes.fill_between(
                rows["generation"] + 1, rows["low"], rows["high"], color=style["color"], alpha=INTERVAL, linewidth=0
            )
        for single in line.singles(measure, shown) if line.seeds > 1 else ():
            axes.plot(single["generation"] + 1, single["value"], color=style["color"], **SINGLE_SEED)
        axes.plot(rows["generation"] + 1, rows["value"], **style)
        axes.plot(theory["generation"] + 1, theory["value"], zorder=3, **THEORY)
        values += [part["value"] for part in (rows, low, high, theory)]
    known = pd.concat(values).to_numpy()
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
    return bool(truths)


def _entries(
    styles: dict[str, dict[str, Any]], drawn: Sequence[Line], taken: set[str], measures: Sequence[str], truths: bool
) -> dict[str, dict[str, Any]]:
    entries = dict(styles)
    swatch: dict[str, Any] = {"color": "0.3", "linewidth": 5}
    if over_seeds := over_what(drawn):
        entries |= {over_seeds: {**swatch, "alpha": INTERVAL}, "single seeds": {**SINGLE_SEED, "color": "0.3"}}
    if any(line.seeds == 1 and line.runs[0]["low"].notna().any() for line in drawn):
        entries["95 % interval of the mean over chains"] = {**swatch, "alpha": INTERVAL}
    if any(name.endswith("_p5") for name in taken):
        entries["5 % to 95 % of the chains"] = {**swatch, "alpha": SPREAD}
    if taken & {f"{measure}_theory" for measure in measures}:
        entries["theory"] = THEORY
    if truths:
        entries["human data"] = TRUTH
    return entries
