"""The measure `elbo`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lmcollapse.metrics.intervals import bootstrap_ratio
from lmcollapse.metrics.scene import Heldout, Judged
from lmcollapse.types import Floats, Reading, Scores


def elbo(heldout: Heldout, judges: Mapping[str, Judged] | None = None) -> list[Reading]:
    """Negative evidence lower bound of held-out human images, in nats an image, and its parts.

    negative_elbo = reconstruction + divergence, means over images: minus the expected log probability of an image given
    latent variables that are inferred from it, and the Kullback-Leibler divergence of these from their prior (Kingma
    and Welling 2014, arXiv 1312.6114). It bounds minus the log-likelihood from above. bits_per_value = negative_elbo /
    ln 2 / values of a pixel in an image. negative_elbo_written is that of what this generation wrote, under generation
    0's model: low where that finds it likely. Pixels between black and white count as probabilities, so that the bound
    of a grey image cannot reach 0 (its entropy is left).

    Intervals by bootstrap over images.
    """
    scores = heldout.scores
    divergence = _divergence(scores)
    with np.errstate(invalid="ignore"):
        reconstruction = scores.nats - divergence
    readings = [
        _mean("negative_elbo", scores.nats),
        _mean("reconstruction", reconstruction),
        _mean("divergence", divergence),
        _mean("bits_per_value", scores.nats / np.log(2) / scores.tokens),
    ]
    if judges:
        readings.append(_mean("negative_elbo_written", judges["generation_0"].scores.nats))
    return readings


def _divergence(scores: Scores) -> Floats:
    """`(images,)` from what was inferred, as it is the closed form for normals."""
    assert scores.latents is not None
    mean, variance = (part.astype(np.float64) for part in (scores.latents.mean, scores.latents.variance))
    with np.errstate(divide="ignore", invalid="ignore"):  # no variance at all is infinitely far from the prior
        each: Floats = 0.5 * (mean**2 + variance - 1 - np.log(variance)).sum(axis=1)
    return each


def _mean(name: str, values: Floats) -> Reading:
    if not np.isfinite(values).all():
        return Reading(name, None, "it is not finite for every image")
    return Reading(name, float(values.mean()), "", *bootstrap_ratio(values, np.ones(len(values))))
