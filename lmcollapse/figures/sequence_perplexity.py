"""The figure `sequence_perplexity`."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmcollapse.figures.lines import span
from lmcollapse.figures.style import DOUBLE, PALE, SINGLE, generation_axis, log_axis, plain, styled
from lmcollapse.trajectories import LEAST_SEEDS
from lmcollapse.types import Floats

LABEL = "sequence perplexity under {judge}\n({means}lines: 1 % to 99 % quantile, marked at the median)"
PREFIX, HISTOGRAM, QUANTILE = "sequence_perplexity_", "histogram", "quantile"
TALLEST = 0.85
"""Height of the tallest histogram of a run; the distance between generations is 1."""


@styled
def sequence_perplexity(found: pd.DataFrame) -> dict[str, Figure]:
    """Histograms of the generated sequences' perplexity under each judge, one a generation, a panel a run.

    Of three or more seeds, the mean of their histograms and of their quantiles. In Shumailov et al. 2024, Nature 631,
    figure 1, the mass moves left from generation to generation, to what generation 0 finds likely, and the right tail
    grows longer. There is no figure where no sequence was scored.
    """
    drawn = {}
    measures = [name for name in found["measure"].unique() if name.startswith(PREFIX) and name.endswith(HISTOGRAM)]
    for measure in measures:
        judge = measure.removeprefix(PREFIX).removesuffix(HISTOGRAM).rstrip("_")
        quantiles = found[found["measure"] == measure.removesuffix(HISTOGRAM) + QUANTILE]
        name = plain(judge, DOUBLE, 1) if judge else "generation 0's model"
        seeds = [n for n in _seeds(quantiles) if n >= LEAST_SEEDS]
        means = f"mean of {span(seeds)} seeds; " if seeds else ""
        drawn["_".join(["sequence_perplexity", *([judge] if judge else [])])] = _draw(
            _panels(found[found["measure"] == measure]), _panels(quantiles), LABEL.format(judge=name, means=means)
        )
    return drawn


def _panels(curves: pd.DataFrame) -> dict[str, dict[int, pd.DataFrame]]:
    """`at` and `value` by generation, of each run, or of conditions with several seeds."""
    label = curves["condition"].where(_seeds(curves) >= LEAST_SEEDS, curves["run"])
    means = curves.assign(label=label).groupby(["label", "generation", "at"], sort=False)["value"].mean().reset_index()
    return {
        str(name): {int(str(g)): part.sort_values("at") for g, part in rows.groupby("generation")}
        for name, rows in means.groupby("label", sort=False)
    }


def _seeds(curves: pd.DataFrame) -> pd.Series[int]:
    """Of each row, how many runs its condition has."""
    return curves.groupby("condition")["run"].transform("nunique")


def _draw(
    histograms: dict[str, dict[int, pd.DataFrame]], quantiles: dict[str, dict[int, pd.DataFrame]], label: str
) -> Figure:
    columns = min(3, len(histograms))
    rows = -(-len(histograms) // columns)
    generations = 1 + max(generation for kept in histograms.values() for generation in kept)
    width, height = SINGLE if columns == 1 else DOUBLE, min(max(1.6, 0.13 * generations), 4)
    figure = Figure(figsize=(width, 0.6 + height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for place, (axes, (name, kept)) in enumerate(zip(grid.flat, histograms.items(), strict=False)):
        _panel(axes, kept, quantiles[name], generations)
        axes.tick_params(labelbottom=place + columns >= len(histograms))  # the last one of its column
        if len(histograms) > 1:
            axes.set_title(plain(name, 0.8 * DOUBLE / columns, lines=3))
    for axes in grid.flat[len(histograms) :]:
        axes.remove()
    figure.supxlabel(label, fontsize=8)
    figure.supylabel("generation", fontsize=8)
    return figure


def _edges(middles: Floats) -> Floats:
    """Of bins of equal width on the logarithmic axis."""
    half = np.sqrt(middles[1] / middles[0])
    return np.concatenate([middles / half, middles[-1:] * half])


def _panel(
    axes: Axes, histograms: dict[int, pd.DataFrame], quantiles: dict[int, pd.DataFrame], generations: int
) -> None:
    """One run: a histogram on a line of its own for each generation, generation 0 at the top."""
    tallest = max(curve["value"].max() for curve in histograms.values()) or 1.0
    edges = _edges(next(iter(histograms.values()))["at"].to_numpy())
    for generation, curve in histograms.items():
        share = curve["value"].to_numpy()
        tops = np.where(share > 0, generation - TALLEST * share / tallest, np.nan)
        colour = colormaps["viridis"](PALE * generation / max(generations - 1, 1))
        axes.stairs(tops, edges, baseline=generation, fill=True, color=colour)
        marks = quantiles[generation]["value"].clip(edges[0], edges[-1])
        axes.plot(marks, [generation] * len(marks), color="0.1", linewidth=0.6, marker="|", markersize=3)
    axes.set_xscale("log")
    log_axis(axes.xaxis, edges[0], edges[-1])
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(generations - 0.5, -1)
    generation_axis(axes.yaxis, generations)
    axes.grid(visible=False, axis="y")
