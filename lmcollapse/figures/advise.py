"""The figure `advise`: what is lost against the human share, and the smallest share that is enough."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lmcollapse.advise.conclusion import Advice
from lmcollapse.figures.measures import LABELS
from lmcollapse.figures.style import COLOURS, SINGLE, legend, styled
from lmcollapse.types import Floats

WIDE_FROM = 12
"""The axis is linear up to twice the loss that was asked about and logarithmic above, where the largest loss is so many
times that."""
WAYS = {"higher": "rise", "lower": "loss", "either": "change"}
POINTS = 400
BAND = 0.18
FITTED: dict[str, Any] = {"color": COLOURS[0]}
SEEDS: dict[str, Any] = {"color": "0.55", "marker": "o", "markersize": 2.2, "linestyle": ""}
MEANS: dict[str, Any] = {"color": COLOURS[0], "marker": "o", "markersize": 3.5, "linestyle": ""}
THEORY: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 0.9}
ASKED: dict[str, Any] = {"color": "0.3", "linestyle": ":", "linewidth": 1}
ANSWER: dict[str, Any] = {"color": COLOURS[1], "linewidth": 2.2, "marker": "D", "markersize": 4.5}


@styled
def draw(advice: Advice) -> Figure:
    """Loss against human share: runs, means with 95 % intervals, the fitted curve and its band.

    The band holds all falling curves that agree with the intervals. The answer and its interval lie on the
    line of the loss that was asked about.
    """
    figure = Figure(figsize=(SINGLE, 2.6), layout="constrained")
    axes = figure.subplots()
    table, loss = advice.shares, advice.loss
    shares = table["share"].to_numpy()
    runs, below = advice.runs, table[table["share"] < 1]
    known = np.concatenate([runs["loss"], below["low"], below["high"], table["exact"], [0.0, loss]])
    known = known[np.isfinite(known)]
    bottom, top = _loss_axis(axes, known, loss)
    _share_axis(axes, shares)

    edges = np.repeat(shares, 2)[1:-1]
    low, high = table["band_low"].to_numpy(), table["band_high"].clip(upper=top).to_numpy()
    axes.fill_between(edges, np.repeat(low[1:], 2), np.repeat(high[:-1], 2), color=COLOURS[0], alpha=BAND, linewidth=0)
    fine = _fine(shares)
    axes.plot(fine, [advice.scale.relative(advice.curve.at(share)) for share in fine], **FITTED)
    axes.plot(runs["share"], runs["loss"], zorder=3, **SEEDS)
    axes.errorbar(
        below["share"],
        below["loss"],
        [below["loss"] - below["low"].clip(lower=bottom), below["high"].clip(upper=top) - below["loss"]],
        elinewidth=0.8,
        capsize=2,
        zorder=4,
        **MEANS,
    )
    if advice.theory is not None:
        axes.plot(advice.theory["share"], advice.theory["loss"], zorder=5, **THEORY)
    axes.axhline(loss, zorder=1, **ASKED)
    found = advice.answer
    axes.plot([found.low, found.high], [loss, loss], **{**ANSWER, "marker": "|", "markersize": 8}, zorder=6)
    axes.plot([found.share], [loss], **ANSWER, zorder=6)
    axes.set_ylim(bottom, top)
    label = LABELS.get(advice.measure, advice.measure.replace("_", " "))
    axes.set_ylabel(f"{WAYS[advice.scale.worse]} of {label}")
    axes.set_xlabel(f"human share ({advice.policy})")
    legend(figure, _entries(advice))
    return figure


def _entries(advice: Advice) -> dict[str, dict[str, Any]]:
    percent = f"{100 * advice.loss:g} %"
    found = advice.answer
    needed = f"{found.share:.2g} ({found.low:g}–{found.high:g})" if found.high < 1 else f"above {found.low:g}"
    return {
        "runs": SEEDS,
        "mean, 95 % interval": MEANS,
        "fitted": FITTED,
        "falling curves": {"color": COLOURS[0], "linewidth": 5, "alpha": BAND},
        **({"theory": THEORY} if advice.theory is not None else {}),
        f"{percent}, as asked": ASKED,
        f"share needed: {needed}": ANSWER,
    }


def _share_axis(axes: Axes, shares: Floats) -> None:
    """Logarithmic, with room for none at all: straight below the smallest share."""
    smallest = shares[shares > 0][0]
    axes.set_xscale("symlog", linthresh=smallest, linscale=0.5)
    axes.set_xlim(shares[0] - 0.08 * smallest, 1.12)
    axes.xaxis.set_major_locator(FixedLocator(_apart(axes, shares)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _apart(axes: Axes, shares: Floats) -> list[float]:
    """The shares whose labels do not run into each other; the ends always."""
    places = axes.transData.transform(np.column_stack([shares, np.zeros(len(shares))]))[:, 0]
    room = 0.1 * (places[-1] - places[0])
    kept = [len(shares) - 1]
    for place in range(len(shares) - 2, 0, -1):
        if places[kept[-1]] - places[place] >= room and places[place] - places[0] >= room:
            kept.append(place)
    return [float(shares[place]) for place in (0, *reversed(kept))]


def _loss_axis(axes: Axes, known: Floats, loss: float) -> tuple[float, float]:
    """The axis of losses, in per cent; its ends."""
    lowest, highest = float(known.min()), float(known.max())
    per_cent = FuncFormatter(lambda value, _: f"{100 * value:,.4g} %")
    if highest <= WIDE_FROM * loss:
        margin = 0.06 * (highest - lowest)
        axes.yaxis.set_major_formatter(per_cent)
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        return min(lowest, 0.0) - margin, highest + margin
    axes.set_yscale("symlog", linthresh=2 * loss, linscale=0.7)
    decades = [factor * 10.0**n for n in range(-4, 9) for factor in (1, 3)]
    axes.yaxis.set_major_locator(FixedLocator([-loss, 0, loss, *(tick for tick in decades if tick > 2.5 * loss)]))
    axes.yaxis.set_major_formatter(per_cent)
    axes.yaxis.set_minor_locator(NullLocator())
    return min(lowest * 1.2, -0.2 * loss), highest * 1.3


def _fine(shares: Floats) -> Floats:
    smallest = shares[shares > 0][0]
    return np.unique(np.concatenate([shares, np.linspace(shares[0], smallest, 50), np.geomspace(smallest, 1, POINTS)]))
