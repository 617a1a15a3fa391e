"""The figure `latents`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lmcollapse.config import condition
from lmcollapse.figures.style import DOUBLE, SINGLE, legend, plain, sequence_colours, styled
from lmcollapse.parquet import read_scores
from lmcollapse.results import finished, manifest_of, of_images
from lmcollapse.steps import folder_of
from lmcollapse.types import Floats, Latents

MOST = 6
"""Generations that are drawn."""
REACH = 4.0
PLACES = 400
PRIOR = {"color": "0.3", "linestyle": "--", "linewidth": 1}


@styled
def latents(runs: Sequence[Path]) -> dict[str, Figure]:
    """What models infer of the latent variables of held-out human images, in some generations.

    The density of all that is inferred together, along the direction in which the inferred means vary most. Dashed is
    the prior, from which the model samples, and which has the same density along any direction. A panel a run.
    """
    kept: dict[Path, dict[int, Latents]] = {}
    for run in {run.resolve(): run for run in runs}.values():
        last = finished(run) - 1
        if of_images(manifest_of(run)) and last >= 0:
            chosen = sorted({round(generation) for generation in np.linspace(0, last, min(MOST, last + 1))})
            read = {g: read_scores(run / folder_of(g) / "scores" / "heldout.parquet").latents for g in chosen}
            kept[run] = {g: latents for g, latents in read.items() if latents is not None}
    kept = {run: found for run, found in kept.items() if found}
    return {"latents": _draw(kept)} if kept else {}


def _draw(kept: dict[Path, dict[int, Latents]]) -> Figure:
    columns = min(3, len(kept))
    rows = -(-len(kept) // columns)
    figure = Figure(figsize=(DOUBLE if columns > 1 else SINGLE, 0.3 + 1.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    colours = sequence_colours(sorted({g for found in kept.values() for g in found}))
    places = np.linspace(-REACH, REACH, PLACES)
    prior = np.exp(-(places**2) / 2) / np.sqrt(2 * np.pi)
    for number, (axes, (run, found)) in enumerate(zip(grid.flat, kept.items(), strict=False)):
        for generation, inferred in found.items():
            axes.plot(places, _density(inferred, places), color=colours[generation])
        axes.plot(places, prior, **PRIOR)
        axes.set_ylim(0)
        if len(kept) > 1:
            axes.set_title(plain(condition(manifest_of(run)["config"]["policy"]), 0.8 * DOUBLE / columns, 2))
        if number + columns >= len(kept):
            axes.set_xlabel("leading latent direction")
            axes.tick_params(labelbottom=True)
    for axes in grid.flat[len(kept) :]:
        axes.remove()
    for axes in grid[:, 0]:
        axes.set_ylabel("density")
    entries = {f"generation {g}": {"color": colour} for g, colour in colours.items()}
    legend(figure, {**entries, "prior": PRIOR})
    return figure


def _density(inferred: Latents, places: Floats) -> Floats:
    """The mean of all the normals that were inferred, along the leading principal component, `(places,)`."""
    centre = inferred.mean.mean(axis=0)
    direction = np.linalg.svd(inferred.mean - centre, full_matrices=False)[2][0]
    direction *= np.sign(direction[np.abs(direction).argmax()])
    means, deviations = inferred.mean @ direction, np.sqrt(inferred.variance @ direction**2).clip(1e-3)
    total = np.zeros(len(places))
    for first in range(0, len(means), 4096):
        some = slice(first, first + 4096)
        distances = (places[:, None] - means[some]) / deviations[some]
        total += (np.exp(-(distances**2) / 2) / deviations[some]).sum(axis=1)
    density: Floats = total / len(means) / np.sqrt(2 * np.pi)
    return density
