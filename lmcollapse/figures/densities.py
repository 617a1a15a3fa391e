"""The figure `densities`."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lmcollapse.figures.lines import curves, of_each_kind, panels
from lmcollapse.figures.style import DOUBLE, SINGLE, legend, log_axis, plain, sequence_colours, styled
from lmcollapse.types import HUMAN

TALL = 10
"""The axis of densities is logarithmic if one is so many times as high as the truth."""
LOWEST = 1e-3
"""Where it begins."""
MARGIN = 1.1
TRUTH = "0.88"


@styled
def densities(found: pd.DataFrame) -> dict[str, Figure]:
    """What chain 0 has become: the densities of its models in some generations, over the truth in grey.

    Of a discrete distribution, the probabilities by rank, on logarithmic axes.
    """
    return of_each_kind(found, "densities", _draw)


def _draw(kind: str, found: pd.DataFrame) -> Figure | None:
    if kind not in ("gaussian", "kde", "discrete"):
        return None
    measure = "probability" if kind == "discrete" else "density"
    discrete = kind == "discrete"
    shown = {label: curves(rows, measure) for label, rows in panels(found, [measure]).items()}
    if not shown:
        return None
    colours = sequence_colours(sorted({g for kept in shown.values() for g in kept} - {HUMAN}))
    columns = 2 if len(shown) == 4 else min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(DOUBLE if columns > 1 else SINGLE, 0.3 + 1.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for place, (axes, (label, kept)) in enumerate(zip(grid.flat, shown.items(), strict=False)):
        _panel(axes, kept, colours, discrete)
        if place + columns >= len(shown):  # the last one of its column
            axes.set_xlabel("rank" if discrete else "value")
            axes.tick_params(labelbottom=True)
        if len(shown) > 1:
            axes.set_title(plain(label, 0.8 * DOUBLE / columns, lines=3))
    for axes in grid[:, 0]:
        axes.set_ylabel(measure)
    for axes in grid.flat[len(shown) :]:
        axes.remove()
    _scale(figure, discrete)
    entries = {f"generation {generation}": {"color": colour} for generation, colour in colours.items()}
    legend(figure, entries | {"human data": {"color": TRUTH, "linewidth": 5}})
    return figure


def _panel(axes: Axes, kept: dict[int, pd.DataFrame], colours: dict[int, str], discrete: bool) -> None:
    for generation, curve in kept.items():
        if generation != HUMAN:
            marker = "o" if len(curve) == 1 else ""
            axes.plot(curve["at"], curve["value"], marker=marker, markersize=3, color=colours[generation])
        elif discrete:
            axes.plot(curve["at"], curve["value"], color=TRUTH, linewidth=5, solid_capstyle="round")
        else:
            axes.fill_between(curve["at"], curve["value"], color=TRUTH, linewidth=0)


def _scale(figure: Figure, discrete: bool) -> None:
    """The scale of all panels, which share it."""
    axes = figure.axes[0]
    lines = [np.asarray(line.get_xydata()) for panel in figure.axes for line in panel.lines]
    highest = max(float(line[:, 1].max()) for line in lines)
    if discrete:
        axes.loglog()
        lowest = min(float(line[:, 1].min()) for line in lines)
        ranks = max(float(line[:, 0].max()) for line in lines)
        log_axis(axes.xaxis, 1, max(ranks, 2))
        log_axis(axes.yaxis, lowest, highest)
        axes.set_xlim(1 / MARGIN, ranks * MARGIN)
        axes.set_ylim(lowest / MARGIN, highest * MARGIN)
        return
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if highest > TALL / np.sqrt(2 * np.pi):
        axes.set_yscale("log")
        log_axis(axes.yaxis, LOWEST, highest)
        axes.set_ylim(LOWEST, highest * MARGIN)
    else:
        axes.set_ylim(0, highest * MARGIN)
