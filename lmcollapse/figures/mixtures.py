"""The figure `mixtures`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lmcollapse.figures.chain_runs import ChainRun, by_substrate, snapshots
from lmcollapse.figures.normals import Normals, window
from lmcollapse.figures.style import COLOURS, DOUBLE, legend, plain, styled
from lmcollapse.substrates.gaussian_mixture import GaussianMixture
from lmcollapse.types import Floats

MOST = 6
"""Generations that are drawn, side by side."""
MASSES = (0.95, 0.5)
"""The contours hold so much of the mass, in as little room as possible."""
FILLS = ("#A6CBE3", COLOURS[0])
TRUTH: dict[str, Any] = {"color": "0.45", "linewidth": 0.7}
MEANS: dict[str, Any] = {"color": "black", "marker": "+", "markersize": 4, "markeredgewidth": 0.8, "linestyle": ""}
CELLS = 240
"""Cells of the grid on which a density is computed, along each axis."""
PLACES = 1000
"""Where a curve is computed."""
TALL = 3
"""Curves are cut off at so many times the height of the truth."""


@styled
def mixtures(runs: Sequence[Path]) -> dict[str, Figure]:
    """What chain 0 has become, in small multiples: its density in some generations, and the truth in grey.

    In two dimensions regions that hold half and 95 % of the mass, in one dimension curves; a row a run.
    """
    return by_substrate(runs, "mixtures", _draw)


def _draw(substrate: str, runs: list[ChainRun]) -> Figure | None:
    drawable = {"gaussian": (2,), "gaussian_mixture": (2, 1)}.get(substrate, ())
    for dimensions in drawable:
        alike = [run for run in runs if run.substrate.width == dimensions]
        kept = {run.label: models for run in alike for models in snapshots([run], MOST).values()}
        models = {
            label: {generation: Normals.of(substrate, model) for generation, model in found.items()}
            for label, found in kept.items()
        }
        if models:
            return _small_multiples(models, {run.label: _truth(run) for run in alike}, dimensions)
    return None


def _small_multiples(models: dict[str, dict[int, Normals]], truths: dict[str, Normals], dimensions: int) -> Figure:
    """A row a run, a panel a generation."""
    columns = max(len(found) for found in models.values())
    width = DOUBLE * min(1, columns / 4)
    figure = Figure(figsize=(width, (width / columns + 0.25) * len(models)), layout="constrained")
    grid = figure.subplots(len(models), columns, squeeze=False, sharex=True, sharey=True)
    windows = [window(truths[label], found.values()) for label, found in models.items()]
    low, high = np.min([low for low, _ in windows], axis=0), np.max([high for _, high in windows], axis=0)
    middle, half = (low + high) / 2, (high - low).max() / 2
    for row, (label, found) in zip(grid, models.items(), strict=True):
        for axes, (generation, normals) in zip(row, found.items(), strict=False):
            (_contours if dimensions == 2 else _curves)(axes, normals, truths[label], middle - half, middle + half)
            axes.set_title(f"generation {generation}")
        for axes in row[len(found) :]:
            axes.remove()
        if len(models) > 1:
            row[0].set_ylabel(plain(label, 1.3, lines=3))
    fills = {
        f"{100 * mass:.0f} % of the mass": {"color": c, "linewidth": 5} for mass, c in zip(MASSES, FILLS, strict=True)
    }
    grid[0, 0].xaxis.set_major_locator(MaxNLocator(3, integer=True))
    if dimensions == 2:
        grid[0, 0].yaxis.set_major_locator(MaxNLocator(3, integer=True))
    shown = {**fills, "means": MEANS} if dimensions == 2 else {"model": {"color": COLOURS[0]}}
    legend(figure, shown | {"human data": TRUTH})
    return figure


def _contours(axes: Axes, normals: Normals, truth: Normals, low: Floats, high: Floats) -> None:
    """Regions of the model, and the outlines of the truth's."""
    x, y = (np.linspace(*ends, CELLS) for ends in zip(low, high, strict=True))
    places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    shape = (len(y), len(x))
    cell = float(max(high - low)) / CELLS
    density = normals.blurred(cell).density(places)  # what is narrower than a cell would fall between them
    if density.any():  # else it has left the figure
        axes.contourf(x, y, density.reshape(shape), levels=[*_levels(density), 2 * density.max()], colors=FILLS)
    expected = truth.density(places)
    axes.contour(
        x, y, expected.reshape(shape), levels=_levels(expected), colors=TRUTH["color"], linewidths=TRUTH["linewidth"]
    )
    axes.plot(*normals.means.T, **MEANS)
    axes.set_aspect("equal")


def _levels(density: Floats) -> list[float]:
    """The lowest density of the regions that hold each mass."""
    ordered = np.sort(density)[::-1]
    held = np.cumsum(ordered) / ordered.sum()
    return [float(ordered[np.searchsorted(held, mass)]) for mass in MASSES]


def _curves(axes: Axes, normals: Normals, truth: Normals, low: Floats, high: Floats) -> None:
    """The model's density on the line, and the truth's."""
    places = np.linspace(low, high, PLACES)
    expected = truth.density(places)
    cell = float(high[0] - low[0]) / PLACES
    density = normals.blurred(cell).density(places)
    axes.fill_between(places[:, 0], density, color=FILLS[0], linewidth=0)
    axes.plot(places[:, 0], density, color=COLOURS[0])
    axes.plot(places[:, 0], expected, **TRUTH)
    axes.set_ylim(0, TALL * expected.max())


def _truth(run: ChainRun) -> Normals:
    """The distribution of human data."""
    if isinstance(run.substrate, GaussianMixture):
        return Normals.of("gaussian_mixture", run.substrate.human_model())
    return Normals.standard(run.substrate.width)
