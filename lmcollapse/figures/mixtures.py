"""The figure `mixtures`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lmcollapse.figures.lines import curves, of_each_kind, panels
from lmcollapse.figures.style import COLOURS, DOUBLE, legend, plain, styled
from lmcollapse.normals import Normals, window
from lmcollapse.types import HUMAN, Floats

MASSES = (0.95, 0.5)
"""The contours hold so much of the mass, in as little room as possible."""
FILLS = ("#A6CBE3", COLOURS[0])
TRUTH: dict[str, Any] = {"color": "0.45", "linewidth": 0.7}
MEANS: dict[str, Any] = {"color": "black", "marker": "+", "markersize": 4, "markeredgewidth": 0.8, "linestyle": ""}
PARTS = (
    *("component_weight", "component_mean_1", "component_mean_2"),
    *("component_covariance_11", "component_covariance_12", "component_covariance_22"),
)
CELLS = 240
"""Cells of the grid on which a density is computed, along each axis."""
TALL = 3
"""Curves are cut off at so many times the height of the truth."""


@styled
def mixtures(found: pd.DataFrame) -> dict[str, Figure]:
    """What chain 0 has become, in small multiples: its density in some generations, and the truth in grey.

    In two dimensions regions that hold half and 95 % of the mass, in one dimension curves; a row a condition.
    """
    return of_each_kind(found, "mixtures", _draw)


def _draw(kind: str, found: pd.DataFrame) -> Figure | None:
    if kind not in ("gaussian", "gaussian_mixture"):
        return None
    if plane := {label: _normals(rows) for label, rows in panels(found, list(PARTS)).items()}:
        figure, grid = _small_multiples({label: list(kept) for label, kept in plane.items()})
        low, high = _window(list(plane.values()))
        for row, kept in zip(grid, plane.values(), strict=True):
            for axes, normals in zip(row, [kept[generation] for generation in kept if generation >= 0], strict=False):
                _contours(axes, normals, kept[HUMAN], low, high)
        grid[0, 0].yaxis.set_major_locator(MaxNLocator(3, integer=True))
        fills = zip(MASSES, FILLS, strict=True)
        regions = {f"{100 * mass:.0f} % of the mass": {"color": colour, "linewidth": 5} for mass, colour in fills}
        return _with_legend(figure, grid, {**regions, "means": MEANS})
    line = {label: curves(rows, "density") for label, rows in panels(found, ["density"]).items()}
    if kind != "gaussian_mixture" or not line:
        return None
    figure, grid = _small_multiples({label: list(drawn) for label, drawn in line.items()})
    for row, drawn in zip(grid, line.values(), strict=True):
        for axes, curve in zip(row, [drawn[generation] for generation in drawn if generation >= 0], strict=False):
            _curve(axes, curve, drawn[HUMAN])
    return _with_legend(figure, grid, {"model": {"color": COLOURS[0]}})


def _small_multiples(generations: dict[str, list[int]]) -> tuple[Figure, Any]:
    """A row a condition, a panel a generation."""
    written = {label: [generation for generation in kept if generation >= 0] for label, kept in generations.items()}
    columns = max(map(len, written.values()))
    width = DOUBLE * min(1, columns / 4)
    figure = Figure(figsize=(width, (width / columns + 0.25) * len(written)), layout="constrained")
    grid = figure.subplots(len(written), columns, squeeze=False, sharex=True, sharey=True)
    for row, (label, kept) in zip(grid, written.items(), strict=True):
        for axes, generation in zip(row, kept, strict=False):
            axes.set_title(f"generation {generation}")
        for axes in row[len(kept) :]:
            axes.remove()
        if len(written) > 1:
            row[0].set_ylabel(plain(label, 1.3, lines=3))
    return figure, grid


def _with_legend(figure: Figure, grid: Any, entries: dict[str, dict[str, Any]]) -> Figure:
    grid[0, 0].xaxis.set_major_locator(MaxNLocator(3, integer=True))
    legend(figure, {**entries, "human data": TRUTH})
    return figure


def _normals(rows: pd.DataFrame) -> dict[int, Normals]:
    """The mixture of each generation, out of its parameters."""
    found = {}
    for generation, part in rows.groupby("generation"):
        columns = {name: values.sort_values("at")["value"].to_numpy() for name, values in part.groupby("measure")}
        weights, *numbers = (columns[name] for name in PARTS)
        first, second, across, both, down = numbers
        covariances = np.stack([across, both, both, down], axis=-1).reshape(-1, 2, 2)
        found[int(str(generation))] = Normals(weights, np.stack([first, second], axis=-1), covariances)
    return found


def _window(kept: list[dict[int, Normals]]) -> tuple[Floats, Floats]:
    """The square that all panels show."""
    windows = [window(models[HUMAN], [n for g, n in models.items() if g != HUMAN]) for models in kept]
    low, high = np.min([low for low, _ in windows], axis=0), np.max([high for _, high in windows], axis=0)
    middle, half = (low + high) / 2, (high - low).max() / 2
    return middle - half, middle + half


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
    if expected.any():  # else it falls between the cells
        outline = {"colors": TRUTH["color"], "linewidths": TRUTH["linewidth"]}
        axes.contour(x, y, expected.reshape(shape), levels=_levels(expected), **outline)
    axes.plot(*normals.means.T, **MEANS)
    axes.set_aspect("equal")


def _levels(density: Floats) -> list[float]:
    """The lowest density of the regions that hold each mass, ascending; one that holds several counts once."""
    ordered = np.sort(density)[::-1]
    held = np.cumsum(ordered) / ordered.sum()
    return sorted({float(ordered[np.searchsorted(held, mass)]) for mass in MASSES})


def _curve(axes: Axes, model: pd.DataFrame, truth: pd.DataFrame) -> None:
    """The model's density on the line, and the truth's."""
    axes.fill_between(model["at"], model["value"], color=FILLS[0], linewidth=0)
    axes.plot(model["at"], model["value"], color=COLOURS[0])
    axes.plot(truth["at"], truth["value"], **TRUTH)
    axes.set_ylim(0, TALL * truth["value"].max())
