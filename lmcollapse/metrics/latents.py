"""The measure `latents`."""

from __future__ import annotations

import numpy as np

from lmcollapse.metrics.intervals import bootstrap
from lmcollapse.metrics.scene import Heldout
from lmcollapse.types import Reading

ACTIVE = 0.01
"""Variance of the inferred mean above which a latent variable is in use, as in the source."""


def latents(heldout: Heldout) -> list[Reading]:
    """How a model uses its latent variables for held-out human images: `active_latents`, `latent_variance`.

    active_latents : how many have Var_x(E[z | x]) > 0.01 (Burda et al. 2016, arXiv 1509.00519).
    latent_variance : of what is inferred from all images together, Var_x(E[z | x]) + E_x(Var[z | x]), the mean over the
        latent variables; the prior has 1. Above that, human images lie where the model seldom looks when it samples.

    The interval by bootstrap over images.
    """
    inferred = heldout.scores.latents
    assert inferred is not None
    mean, variance = inferred.mean.astype(np.float64), inferred.variance.astype(np.float64)
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        return [Reading(name, None, "it is not finite") for name in ("active_latents", "latent_variance")]
    active = int((mean.var(axis=0) > ACTIVE).sum())
    width = mean.shape[1]
    columns = np.column_stack([np.ones(len(mean)), (mean**2 + variance).sum(axis=1), mean])
    interval = bootstrap(
        columns, lambda sums: (sums[:, 1] / sums[:, 0] - ((sums[:, 2:] / sums[:, :1]) ** 2).sum(axis=1)) / width
    )
    together = float((mean.var(axis=0) + variance.mean(axis=0)).mean())
    return [Reading("active_latents", float(active)), Reading("latent_variance", together, "", *interval)]
