"""The figure `sequence_perplexity`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmcollapse.figures.style import DOUBLE, PALE, SINGLE, generation_axis, log_axis, plain, styled
from lmcollapse.metrics.sequence_perplexity import flat_name
from lmcollapse.results import judges, sequences
from lmcollapse.types import Floats

LABEL = "sequence perplexity under {judge}\n(lines: 1 % to 99 % quantile, marked at the median)"
QUANTILES = (0.01, 0.5, 0.99)
BINS = 40
EDGE = 0.002
"""The axis ends where it leaves out at most this share of any generation; the outermost bins count what lies beyond."""
TALLEST = 0.85
"""Height of the tallest histogram of a run; the distance between generations is 1."""


@styled
def sequence_perplexity(runs: Sequence[Path]) -> dict[str, Figure]:
    """Histograms of the generated sequences' perplexity under each judge, one a generation, a panel a run.

    In Shumailov et al. 2024, Nature 631, figure 1, the mass moves left from generation to generation, to what
    generation 0 finds likely, and the right tail grows longer. There is no figure where no sequence was scored.
    """
    drawn = {}
    for number, judge in enumerate(judges(runs)):
        table = sequences(runs, number)
        if not table.empty:
            stem = "sequence_perplexity" + (f"_{flat_name(judge)}" if number else "")
            drawn[stem] = _draw(table, plain(Path(judge).name, DOUBLE, 1) if number else "generation 0's model")
    return drawn


def _draw(table: pd.DataFrame, judge: str) -> Figure:
    names = list(table["run"].unique())
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    generations = int(table["generation"].max()) + 1
    width, height = SINGLE if columns == 1 else DOUBLE, min(max(1.6, 0.13 * generations), 4)
    figure = Figure(figsize=(width, 0.6 + height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    edges = _edges(table)
    for place, (axes, name) in enumerate(zip(grid.flat, names, strict=False)):
        _panel(axes, table[table["run"] == name], edges, generations)
        axes.tick_params(labelbottom=place + columns >= len(names))  # the last one of its column
        if len(names) > 1:
            axes.set_title(plain(name, 0.8 * DOUBLE / columns, lines=3))
    for axes in grid.flat[len(names) :]:
        axes.remove()
    figure.supxlabel(LABEL.format(judge=judge), fontsize=8)
    figure.supylabel("generation", fontsize=8)
    return figure


def _edges(table: pd.DataFrame) -> Floats:
    """Bins of equal width on the logarithmic axis, the same for all runs and generations."""
    finite = table[np.isfinite(table["perplexity"])].groupby(["run", "generation"])["perplexity"]
    low, high = finite.quantile(EDGE).min(), finite.quantile(1 - EDGE).max()
    if np.isnan(low):  # there is no finite perplexity at all
        low = high = 1.0
    middle = np.sqrt(low * high)
    return np.geomspace(min(low, middle / 2), max(high, middle * 2), BINS + 1)


def _panel(axes: Axes, table: pd.DataFrame, edges: Floats, generations: int) -> None:
    """One run: a histogram on a line of its own for each generation, generation 0 at the top."""
    groups = {int(str(g)): group["perplexity"].clip(edges[0], edges[-1]) for g, group in table.groupby("generation")}
    shares = {generation: np.histogram(values, edges)[0] / len(values) for generation, values in groups.items()}
    tallest = max(share.max() for share in shares.values())
    for generation, share in shares.items():
        tops = np.where(share > 0, generation - TALLEST * share / tallest, np.nan)
        colour = colormaps["viridis"](PALE * generation / max(generations - 1, 1))
        axes.stairs(tops, edges, baseline=generation, fill=True, color=colour)
        marks = np.quantile(groups[generation], QUANTILES)
        axes.plot(marks, [generation] * len(marks), color="0.1", linewidth=0.6, marker="|", markersize=3)
    axes.set_xscale("log")
    log_axis(axes.xaxis, edges[0], edges[-1])
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(generations - 0.5, -1)
    generation_axis(axes.yaxis, generations)
    axes.grid(visible=False, axis="y")
