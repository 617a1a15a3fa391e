"""The figure `images`."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lmcollapse.figures.lines import curves, panels
from lmcollapse.figures.style import DOUBLE, plain, styled
from lmcollapse.metrics.sequence_perplexity import flat_name
from lmcollapse.types import HUMAN, Pixels

GAP = 1
"""Pixels between images."""
SIZES = ("image_height", "image_width", "image_channels")


@styled
def images(found: pd.DataFrame) -> dict[str, Figure]:
    """What was written in some generations, a row each, below human images; a figure for each condition.

    As figure 7 of Shumailov et al. 2024 (arXiv 2305.17493). The images are the first ones of each corpus.
    """
    shown = panels(found, ["image_pixel", *SIZES])
    stems = ["images" if len(shown) == 1 else f"images_{flat_name(rows['run'].iloc[0])}" for rows in shown.values()]
    return {stem: _draw(label, rows) for stem, (label, rows) in zip(stems, shown.items(), strict=True)}


def _draw(label: str, rows: pd.DataFrame) -> Figure:
    sizes = rows[rows["at"].isna()].set_index("measure")["value"]
    shape = tuple(int(sizes[name]) for name in SIZES)
    pixels = {
        generation: curve.sort_values("at")["value"].to_numpy().astype(np.uint8).reshape(-1, *shape)
        for generation, curve in curves(rows, "image_pixel").items()
    }
    height, width, _ = shape
    columns = max(map(len, pixels.values()))
    side = (DOUBLE - 0.7) / columns
    figure = Figure(figsize=(DOUBLE, 0.35 + (side + 0.04) * (height / width) * len(pixels)), layout="constrained")
    grid = figure.subplots(len(pixels), 1, squeeze=False)
    for axes, (generation, written) in zip(grid[:, 0], pixels.items(), strict=True):
        strip = _strip(written, columns)
        axes.imshow(strip, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="equal")
        axes.set_axis_off()
        name = "human" if generation == HUMAN else str(generation)
        axes.text(-0.008, 0.5, name, transform=axes.transAxes, ha="right", va="center", fontsize=8)
    figure.suptitle(plain(f"{label}: images by generation", DOUBLE, 1), fontsize=8)
    return figure


def _strip(pixels: Pixels, columns: int) -> Pixels:
    """Images beside each other on white."""
    count, height, width, channels = pixels.shape
    strip = np.full((height, columns * (width + GAP) - GAP, channels), 255, np.uint8)
    for place in range(count):
        strip[:, place * (width + GAP) : place * (width + GAP) + width] = pixels[place]
    return strip[..., 0] if channels == 1 else strip
