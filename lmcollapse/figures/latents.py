"""The figure `latents`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lmcollapse.figures.lines import curves, panels
from lmcollapse.figures.style import DOUBLE, SINGLE, legend, plain, sequence_colours, styled

PRIOR: dict[str, Any] = {"color": "0.3", "linestyle": "--", "linewidth": 1}


@styled
def latents(found: pd.DataFrame) -> dict[str, Figure]:
    """What models infer of the latent variables of held-out human images, in some generations.

    The density of all that is inferred together, along the direction in which the inferred means vary most. Dashed is
    the prior, from which the model samples, and which has the same density along any direction. A panel a condition.
    """
    shown = {label: curves(rows, "latent_density") for label, rows in panels(found, ["latent_density"]).items()}
    return {"latents": _draw(shown)} if shown else {}


def _draw(shown: dict[str, dict[int, pd.DataFrame]]) -> Figure:
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(DOUBLE if columns > 1 else SINGLE, 0.3 + 1.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    colours = sequence_colours(sorted({generation for kept in shown.values() for generation in kept}))
    for place, (axes, (label, kept)) in enumerate(zip(grid.flat, shown.items(), strict=False)):
        for generation, curve in kept.items():
            axes.plot(curve["at"], curve["value"], color=colours[generation])
        places = next(iter(kept.values()))["at"].to_numpy()
        axes.plot(places, np.exp(-(places**2) / 2) / np.sqrt(2 * np.pi), **PRIOR)
        axes.set_ylim(0)
        if len(shown) > 1:
            axes.set_title(plain(label, 0.8 * DOUBLE / columns, 2))
        if place + columns >= len(shown):
            axes.set_xlabel("leading latent direction")
            axes.tick_params(labelbottom=True)
    for axes in grid.flat[len(shown) :]:
        axes.remove()
    for axes in grid[:, 0]:
        axes.set_ylabel("density")
    entries = {f"generation {generation}": {"color": colour} for generation, colour in colours.items()}
    legend(figure, {**entries, "prior": PRIOR})
    return figure
