"""The figure `images`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from lmcollapse.config import condition
from lmcollapse.figures.style import DOUBLE, plain, styled
from lmcollapse.metrics.sequence_perplexity import flat_name
from lmcollapse.parquet import read_first_images
from lmcollapse.results import finished, manifest_of, names, of_images
from lmcollapse.steps import folder_of
from lmcollapse.types import HUMAN

Pixels = npt.NDArray[np.uint8]

COLUMNS, MOST = 16, 8
"""Images of a generation, and generations, that are drawn."""
GAP = 1
"""Pixels between images."""


@styled
def images(runs: Sequence[Path]) -> dict[str, Figure]:
    """What was written in some generations, a row each, below human images; a figure for each run of images.

    As figure 7 of Shumailov et al. 2024 (arXiv 2305.17493). The images are the first ones of each corpus.
    """
    chosen = [run for run in {run.resolve(): run for run in runs}.values() if of_images(manifest_of(run))]
    stems = ["images" if len(chosen) == 1 else f"images_{flat_name(name)}" for name in names(chosen)]
    return {stem: _draw(run) for stem, run in zip(stems, chosen, strict=True)}


def _draw(run: Path) -> Figure:
    last = finished(run) - 1
    chosen = sorted({round(generation) for generation in np.linspace(0, last, min(MOST, last + 1))})
    files = {HUMAN: run / "human" / "heldout.parquet"} | {
        g: run / folder_of(g) / "corpus" / "corpus.parquet" for g in chosen
    }
    rows = {generation: read_first_images(file, COLUMNS) for generation, file in files.items()}
    height, width = rows[HUMAN].shape[1:3]
    side = (DOUBLE - 0.7) / COLUMNS
    figure = Figure(figsize=(DOUBLE, 0.35 + (side + 0.04) * (height / width) * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), 1, squeeze=False)
    for axes, (generation, pixels) in zip(grid[:, 0], rows.items(), strict=True):
        strip = _strip(pixels)
        axes.imshow(strip, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="equal")
        axes.set_axis_off()
        label = "human" if generation == HUMAN else str(generation)
        axes.text(-0.008, 0.5, label, transform=axes.transAxes, ha="right", va="center", fontsize=8)
    policy = condition(manifest_of(run)["config"]["policy"])
    figure.suptitle(plain(f"{policy}: images by generation", DOUBLE, 1), fontsize=8)
    return figure


def _strip(pixels: Pixels) -> Any:
    """Images beside each other on white."""
    count, height, width, channels = pixels.shape
    strip = np.full((height, COLUMNS * (width + GAP) - GAP, channels), 255, np.uint8)
    for place in range(count):
        strip[:, place * (width + GAP) : place * (width + GAP) + width] = pixels[place]
    return strip[..., 0] if channels == 1 else strip
