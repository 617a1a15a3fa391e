"""What figures show of runs of images: some images themselves, and what models infer of human ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from lmcollapse.parquet import read_first_images, read_scores
from lmcollapse.records import sound
from lmcollapse.results import finished
from lmcollapse.results import of_images as is_of_images
from lmcollapse.steps import folder_of
from lmcollapse.tidy.conditions import Described, curve, first_of_each
from lmcollapse.types import HUMAN, Floats, Latents

GENERATIONS, IMAGES = 8, 16
"""Generations of which images are shown, and images of each, fewer of large ones:"""
PIXELS, LEAST_IMAGES = 100_000, 6
"""at most so many numbers a run, but no fewer images."""
SNAPSHOTS = 6
"""Generations of which latent variables are shown."""
REACH = 4.0
PLACES = 201


def of_images(runs: Sequence[Described]) -> Iterator[pd.DataFrame]:
    """Parts of the table: pixels, sizes and latent densities of the first run of each condition."""
    for run in first_of_each([run for run in runs if is_of_images(run.manifest)]):
        yield from _pixels(run)
        for generation in evenly(finished(run.path), SNAPSHOTS):
            latents = read_scores(sound(run.path / folder_of(generation) / "scores" / "heldout.parquet")).latents
            if latents is not None and np.isfinite(latents.mean).all() and np.isfinite(latents.variance).all():
                yield curve(run, generation, "latent_density", *_density(latents))


def evenly(count: int, most: int) -> list[int]:
    """At most so many of the numbers below `count`, evenly, the first and the last included."""
    return sorted({round(number) for number in np.linspace(0, count - 1, min(most, count)).tolist()})


def _pixels(run: Described) -> Iterator[pd.DataFrame]:
    chosen = evenly(finished(run.path), GENERATIONS)
    files = {HUMAN: run.path / "human" / "heldout.parquet"} | {
        generation: run.path / folder_of(generation) / "corpus" / "corpus.parquet" for generation in chosen
    }
    found = {generation: read_first_images(sound(file), IMAGES) for generation, file in files.items()}
    shape = found[HUMAN].shape[1:]
    kept = max(LEAST_IMAGES, PIXELS // (len(found) * int(np.prod(shape))))
    for name, size in zip(("height", "width", "channels"), shape, strict=True):
        yield curve(run, HUMAN, f"image_{name}", [np.nan], [float(size)])
    for generation, images in found.items():
        flat = images[:kept].reshape(-1).astype(np.float64)
        yield curve(run, generation, "image_pixel", np.arange(len(flat), dtype=np.float64), flat)


def _density(inferred: Latents) -> tuple[Floats, Floats]:
    """Places, and the mean of all the normals that were inferred, along the leading principal component."""
    places = np.linspace(-REACH, REACH, PLACES)
    centre = inferred.mean.mean(axis=0)
    direction = np.linalg.svd(inferred.mean - centre, full_matrices=False)[2][0]
    direction *= np.sign(direction[np.abs(direction).argmax()])
    with np.errstate(all="ignore"):  # what is beyond single precision is beyond the places, too
        means, deviations = inferred.mean @ direction, np.sqrt(inferred.variance @ direction**2).clip(1e-3)
    total = np.zeros(len(places))
    for first in range(0, len(means), 4096):
        some = slice(first, first + 4096)
        distances = (places[:, None] - means[some]) / deviations[some]
        total += (np.exp(-(distances**2) / 2) / deviations[some]).sum(axis=1)
    return places, total / len(means) / np.sqrt(2 * np.pi)
