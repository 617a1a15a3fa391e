"""The figure `densities`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lmcollapse.figures.chain_runs import ChainRun, by_substrate, snapshots
from lmcollapse.figures.normals import REACH, Normals, window
from lmcollapse.figures.style import DOUBLE, SINGLE, legend, log_axis, plain, sequence_colours, styled
from lmcollapse.substrates.discrete import Discrete
from lmcollapse.types import Floats, State

MOST = 6
"""Generations that are drawn."""
PLACES = 1000
"""Where a density is computed, along its axis."""
NARROW = 1e-9
"""Deviation that a model which has collapsed to a point is drawn with."""
TALL = 10
"""The axis of densities is logarithmic if one is so many times as high as the truth."""
LOWEST = 1e-3
"""Where it begins."""
MARGIN = 1.1
TRUTH = "0.88"


@styled
def densities(runs: Sequence[Path]) -> dict[str, Figure]:
    """What chain 0 has become: the densities of its models in some generations, over the truth in grey.

    Of a discrete distribution, the probabilities by rank, on logarithmic axes.
    """
    return by_substrate(runs, "densities", _draw)


def _draw(substrate: str, runs: list[ChainRun]) -> Figure | None:
    if substrate not in ("gaussian", "kde", "discrete"):
        return None
    kept = snapshots([run for run in runs if run.substrate.width == 1], MOST)
    runs = [run for run in runs if run.label in kept]
    if not runs:
        return None
    colours = sequence_colours(sorted(set().union(*kept.values())))
    columns = 2 if len(runs) == 4 else min(3, len(runs))
    rows = -(-len(runs) // columns)
    figure = Figure(figsize=(DOUBLE if columns > 1 else SINGLE, 0.3 + 1.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    discrete = substrate == "discrete"
    for place, (axes, run) in enumerate(zip(grid.flat, runs, strict=False)):
        (_ranks if discrete else _curves)(axes, run, kept[run.label], colours)
        if place + columns >= len(runs):  # the last one of its column
            axes.set_xlabel("rank" if discrete else "value")
            axes.tick_params(labelbottom=True)
        if len(runs) > 1:
            axes.set_title(plain(run.label, 0.8 * DOUBLE / columns, lines=3))
    for axes in grid[:, 0]:
        axes.set_ylabel("probability" if discrete else "density")
    for axes in grid.flat[len(runs) :]:
        axes.remove()
    _scale(figure, discrete)
    entries = {f"generation {generation}": {"color": colour} for generation, colour in colours.items()}
    legend(figure, entries | {"human data": {"color": TRUTH, "linewidth": 5}})
    return figure


def _curves(axes: Axes, run: ChainRun, models: dict[int, State], colours: dict[int, str]) -> None:
    """Densities on the line."""
    truth = Normals.standard(1)
    known = {generation: Normals.of(run.config.substrate, model) for generation, model in models.items()}
    low, high = window(truth, known.values())
    everywhere = np.linspace(low[0], high[0], PLACES)
    axes.fill_between(everywhere, truth.density(everywhere[:, None]), color=TRUTH, linewidth=0)
    for generation, normals in known.items():
        seen = normals.blurred(NARROW)
        near = np.linspace(-REACH, REACH, PLACES)[:, None] * seen.deviations[:, 0] + seen.means[:, 0]
        places = np.sort(np.concatenate([everywhere, near.ravel()])) if len(seen.means) == 1 else everywhere
        places = places[(places >= low) & (places <= high)]
        axes.plot(places, seen.density(places[:, None]), color=colours[generation])


def _ranks(axes: Axes, run: ChainRun, models: dict[int, State], colours: dict[int, str]) -> None:
    """Probabilities by rank, each generation in an order of its own."""
    assert isinstance(run.substrate, Discrete), run.substrate
    truth = _descending(run.substrate.human_probabilities)
    axes.plot(np.arange(1, len(truth) + 1), truth, color=TRUTH, linewidth=5, solid_capstyle="round")
    for generation, model in models.items():
        present = _descending(model["probabilities"][0])
        marker = "o" if len(present) == 1 else ""
        axes.plot(np.arange(1, len(present) + 1), present, marker=marker, markersize=3, color=colours[generation])


def _descending(probabilities: Floats) -> Floats:
    ordered: Floats = np.sort(probabilities[probabilities > 0])[::-1]
    return ordered


def _scale(figure: Figure, discrete: bool) -> None:
    """The scale of all panels, which share it."""
    axes = figure.axes[0]
    lines = [np.asarray(line.get_xydata()) for panel in figure.axes for line in panel.lines]
    highest = max(float(line[:, 1].max()) for line in lines)
    if discrete:
        axes.loglog()
        lowest, ranks = min(float(line[:, 1].min()) for line in lines), max(len(line) for line in lines)
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
