"""The figure `differences`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lmcollapse.figures.chains import BESIDE, POINTS
from lmcollapse.figures.chains import LABELS as CHAIN_LABELS
from lmcollapse.figures.lines import IMAGES, TEXT, kinds, marked, span
from lmcollapse.figures.measures import BAND, LABELS, SWATCH
from lmcollapse.figures.style import DOUBLE, SINGLE, generation_axis, legend, line_styles, log_axis, plain, styled
from lmcollapse.pairs import paired
from lmcollapse.progress import shown
from lmcollapse.tidy.chains import spaced
from lmcollapse.trajectories import LEAST_SEEDS

OF_TEXT = ("perplexity", "distinct_2", "tail_coverage")
MOST = 3
"""Panels."""


@styled
def differences(found: pd.DataFrame) -> dict[str, Figure]:
    """How far conditions are from the first one, seed by seed: mean of the differences, 95 % t-interval over seeds.

    Of conditions that have three or more seeds in common with the first. What seeds share falls out of the differences,
    and so these tell conditions apart before the intervals of their means do.
    """
    drawn = {kind: _draw(kind, rows) for kind, rows in kinds(found[found["at"].isna()]).items()}
    made = {kind: figure for kind, figure in drawn.items() if figure is not None}
    return {"differences" if len(made) == 1 else f"differences_{kind}": figure for kind, figure in made.items()}


def _draw(kind: str, found: pd.DataFrame) -> Figure | None:
    found = _with_seeds_in_common(found)
    conditions = list(found["condition"].unique())
    measures = _measures(kind, found)
    if len(conditions) < 2 or not measures:
        return None
    chains = kind not in (TEXT, IMAGES)
    generations = 1 + int(found["generation"].max())
    kept = spaced(generations, POINTS if chains else generations).tolist()
    chosen = found[found["measure"].isin(measures) & found["generation"].isin(kept)]
    pairs = paired(chosen)
    figure = Figure(figsize=(DOUBLE if len(measures) > 1 else SINGLE, 2.2), layout="constrained")
    grid = figure.subplots(1, len(measures), squeeze=False)
    # the first condition keeps the colour that it has in the other figures
    styles = dict(list(line_styles(conditions, generations).items())[1:])
    style_of = marked(styles, kept, generations) if chains else lambda label, _: styles[label]
    for axes, measure in zip(grid[0], measures, strict=True):
        _panel(axes, pairs[pairs["measure"] == measure], style_of, 1 if chains else 0)
        axes.set_ylabel(LABELS.get(measure) or CHAIN_LABELS.get(measure, measure.replace("_", " ")))
        if chains:
            axes.set_xscale("log")
            log_axis(axes.xaxis, 1, max(generations, 2))
            axes.set_xlim(1 if generations > 1 else 0.9, max(generations, 2))
        else:
            generation_axis(axes.xaxis, generations)
            axes.set_xlim(-0.3, generations - 0.7)
        axes.set_xlabel("fits, t = generation + 1" if chains else "generation")
    figure.suptitle(plain(f"difference from {conditions[0]}", figure.get_figwidth() - 0.5, 2), fontsize=8)
    legend(figure, {**styles, f"mean of {span(pairs['seeds'])} pairs with the same seed, 95 % t-interval": SWATCH})
    return figure


def _with_seeds_in_common(found: pd.DataFrame) -> pd.DataFrame:
    """The first condition, and those that have enough seeds in common with it."""
    seeds = {str(name): set(rows["seed"]) for name, rows in found.groupby("condition", sort=False)}
    first = next(iter(seeds.values()))
    return found[found["condition"].isin([name for name, own in seeds.items() if len(own & first) >= LEAST_SEEDS])]


def _measures(kind: str, found: pd.DataFrame) -> list[str]:
    """What is drawn: as a person who follows a run sees it."""
    written = found[found["generation"] >= 0]
    taken = [name for name in written["measure"].unique() if not name.endswith((*BESIDE, "collapsed"))]
    if kind == TEXT:
        return [name for name in OF_TEXT if name in taken]
    return [name for name in shown(dict.fromkeys(taken)) if name in taken][:MOST]


def _panel(axes: Axes, pairs: pd.DataFrame, style_of: Callable[[str, int], dict[str, Any]], shift: int) -> None:
    axes.axhline(0, color="0.3", linewidth=0.8)
    for condition, rows in pairs.groupby("condition", sort=False):
        rows, style = rows.sort_values("generation"), style_of(str(condition), len(rows))
        x = rows["generation"] + shift
        axes.fill_between(x, rows["low"], rows["high"], color=style["color"], alpha=BAND, linewidth=0)
        axes.plot(x, rows["value"], **style)
    axes.yaxis.set_major_locator(MaxNLocator(5))
