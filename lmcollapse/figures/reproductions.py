"""The figure of a reproduction: its panels, and the paper's own numbers beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmcollapse.catalog import find
from lmcollapse.figures.style import (
    COLOURS,
    DASHES,
    DOUBLE,
    MARKERS,
    generation_axis,
    legend,
    log_axis,
    plain,
    save,
    styled,
)
from lmcollapse.reproductions.evidence import Evidence, by_seed
from lmcollapse.reproductions.panels import Panel, Published
from lmcollapse.reproductions.results import Judged
from lmcollapse.tidy import tidy
from lmcollapse.trajectories import Estimate, Trajectory, mean
from lmcollapse.types import HUMAN

BAND = 0.18
SEED = 0.5
THEORY: dict[str, Any] = {"color": "black", "linestyle": (0, (1, 1.5)), "linewidth": 1.2}
HUMAN_LINE: dict[str, Any] = {"color": "0.6", "linewidth": 0.8}
HUMAN_DATA, EXPECTED = "human data", "theory"
LEGEND_LINE = 0.13
"""Inches that an entry of a panel's own legend takes."""
MARKED = 25
"""Lines of up to so many points have markers."""


def draw_all(judged: Judged, runs: Sequence[Path], folder: Path) -> list[Path]:
    """The figure of a reproduction, and those of the catalogue that belong to it; the files.

    runs : without any, only what the small table has is drawn.
    """
    files = save(draw(judged), folder, judged.reproduction.name)
    found = tidy(runs) if runs and judged.reproduction.pictures else None
    for name in judged.reproduction.pictures if found is not None else ():
        for stem, figure in find("figure", name)(found).items():
            files += save(figure, folder, f"{judged.reproduction.name}-{stem}")
    return files


@styled
def draw(judged: Judged) -> Figure:
    """Means over seeds with their 95 % t-intervals, single seeds as thin lines, theory dotted.

    On a logarithmic axis means and intervals are those of the logarithms.
    """
    panels, found = judged.reproduction.panels(judged.evidence), judged.evidence
    columns = 3 if len(panels) in (3, 5, 6) else 2
    rows = -(-len(panels) // columns)
    ours = [_names(panel, found) for panel in panels if isinstance(panel, Panel)]
    most = max(ours, key=len)
    alike = all(set(names) <= set(most) for names in ours)
    own = [_entries_of_its_own(panel, found, alike) for panel in panels]
    beneath = LEGEND_LINE * sum(max(own[row * columns : (row + 1) * columns]) for row in range(rows))
    height = (2.1 if columns == 3 else 2.3) * rows + beneath
    figure = Figure(figsize=(DOUBLE, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    entries: dict[str, dict[str, Any]] = {}
    for axes, panel in zip(grid.flat, panels, strict=False):
        if isinstance(panel, Published):
            _published(axes, panel)
            _legend(axes)
        else:
            names = _names(panel, found)
            entries |= _panel(axes, panel, found, {name: (most if alike else names).index(name) for name in names})
            if not alike:
                _legend(axes)
        axes.set_title(plain(panel.title, DOUBLE / columns - 0.4, 2), loc="left", fontweight="bold")
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    beside = {name: style for name, style in entries.items() if name in (HUMAN_DATA, EXPECTED)}
    if shown := {**({name: entries[name] for name in most} if alike else {}), **beside}:
        legend(figure, shown)
    return figure


def _entries_of_its_own(panel: Panel | Published, found: Evidence, alike: bool) -> int:
    if isinstance(panel, Published):
        return len(panel.lines)
    return 0 if alike else len(_names(panel, found))


def _names(panel: Panel, found: Evidence) -> tuple[str, ...]:
    return panel.conditions or tuple(found.table["condition"].unique())


def _panel(axes: Axes, panel: Panel, found: Evidence, places: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Draw a measure; the entries of a legend.

    places : of each condition among those that have a colour.
    """
    entries: dict[str, dict[str, Any]] = {}
    values: list[float] = []
    for name, place in places.items():
        runs = found[name]
        trajectory = runs[panel.measure]
        generations = sorted({g for run in trajectory.runs for g in run if 0 <= g <= runs.last})
        shift = 1 if panel.long else 0
        x = np.array(generations) + shift
        means = [_mean(trajectory, generation, panel.steep) for generation in generations]
        style = entries[name] = _style(place, len(x))
        for run in trajectory.runs if len(trajectory.runs) > 1 else ():
            y = [run.get(generation, Estimate()).value for generation in generations]
            axes.plot(x, y, color=style["color"], linewidth=0.5, alpha=SEED)
            values += y
        axes.fill_between(x, [e.low for e in means], [e.high for e in means], color=style["color"], alpha=BAND, lw=0)
        axes.plot(x, [e.value for e in means], label=name, **style)
        values += [estimate.value for estimate in means]
        if name in panel.theory:
            theory = np.asarray(panel.theory[name])[generations]
            axes.plot(x, theory, zorder=4, **THEORY)
            values += theory.tolist()
    human = found[next(iter(places))][panel.measure].at(HUMAN).value
    if np.isfinite(human) and (human > 0 or not panel.steep):
        axes.axhline(human, zorder=0.5, **HUMAN_LINE)
        entries[HUMAN_DATA] = HUMAN_LINE
        values.append(human)
    if panel.theory:
        entries[EXPECTED] = THEORY
    last = max(found[name].last for name in places)
    if panel.long:
        axes.set_xscale("log")
        log_axis(axes.xaxis, 1, last + 1)
        axes.set_xlim(1, last + 1)
        axes.set_xlabel("fits")
    else:
        generation_axis(axes.xaxis, last + 1)
        axes.set_xlabel("generation")
    _values(axes, np.array(values), panel.steep)
    axes.set_ylabel(panel.label)
    return entries


def _mean(trajectory: Trajectory, generation: int, steep: bool) -> Estimate:
    values = by_seed(trajectory, generation)
    if not steep or len(values) < 2 or not (values > 0).all():
        return trajectory.at(generation)
    return Estimate(*np.exp(mean(np.log(values).tolist())).tolist())


def _legend(axes: Axes) -> None:
    """Below the panel's axis: within it there is often no place that is free of lines."""
    axes.legend(
        fontsize=6.5,
        frameon=False,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        borderaxespad=4.5,
        borderpad=0.2,
        labelspacing=0.3,
        handlelength=2.5,
    )


def _values(axes: Axes, values: np.ndarray[Any, np.dtype[np.float64]], steep: bool) -> None:
    known = values[np.isfinite(values)]
    if steep and len(known) and (known > 0).any():
        positive = known[known > 0]
        axes.set_yscale("log")
        log_axis(axes.yaxis, positive.min(), positive.max())
        axes.set_ylim(positive.min() / 1.3, positive.max() * 1.3)
    elif len(known) and known.min() >= 0:
        axes.set_ylim(0, min(axes.get_ylim()[1], 1.05) if known.max() <= 1 else None)  # an interval may go beyond 1


def _published(axes: Axes, panel: Published) -> None:
    for place, line in enumerate(panel.lines):
        axes.plot(line.x, line.y, label=line.name, markerfacecolor="white", **_style(place, len(line.x)))
    last = max(x for line in panel.lines for x in line.x)
    generation_axis(axes.xaxis, int(last) + 1)
    axes.set_xlabel("generation")
    if panel.steep:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, None)
    axes.set_ylabel(panel.label)


def _style(place: int, points: int) -> dict[str, Any]:
    style: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[place % len(DASHES)]}
    return style | ({"marker": MARKERS[place % len(MARKERS)], "markersize": 3} if points <= MARKED else {})
