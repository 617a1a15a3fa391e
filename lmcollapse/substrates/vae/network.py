"""The network of a variational autoencoder, and its evidence lower bound (Kingma and Welling 2014, arXiv 1312.6114)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

Likelihood = Literal["bernoulli", "gaussian"]

LEVEL = 1 / 255
"""A level of grey: the smallest deviation of a pixel, so that the density of images without noise stays finite."""


class Bound(NamedTuple):
    """The two parts of the negative evidence lower bound, `(images,)` each in nats.

    reconstruction : minus the log probability of the image given its latent variables.
    divergence : Kullback-Leibler divergence of what is inferred from the prior.
    """

    reconstruction: Tensor
    divergence: Tensor


class Network(nn.Module):
    """Convolutions of stride 2, a hidden layer, independent normal latent variables, and the same way back.

    height, width, channels : of the images; any size will do.
    filters : channels of the convolutions, one a layer.
    hidden : units of the layer between convolutions and latent variables.
    latent : latent variables; their prior is standard normal.
    likelihood : of a pixel from 0 to 1: the probability of a white one; or normal, with one variance for all that is
        learned with the rest (Rybkin et al. 2021, arXiv 2006.13202).
    """

    def __init__(
        self,
        height: int,
        width: int,
        channels: int,
        *,
        filters: Sequence[int],
        hidden: int,
        latent: int,
        likelihood: Likelihood,
    ) -> None:
        super().__init__()
        sizes = [(height, width)]
        for _ in filters:
            sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
        planes = [channels, *filters]
        self.shape, self.latent = (height, width, channels), latent
        flat = planes[-1] * sizes[-1][0] * sizes[-1][1]

        down: list[nn.Module] = []
        for before, after in pairwise(planes):
            down += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, hidden), nn.ReLU())
        self.mean = nn.Linear(hidden, latent)
        self.log_variance = nn.Linear(hidden, latent)

        up: list[nn.Module] = [nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, flat), nn.ReLU()]
        up.append(nn.Unflatten(1, (planes[-1], *sizes[-1])))
        for layer in range(len(filters), 0, -1):
            # a convolution of stride 2 makes 7 and 8 rows 4; the way back must know which it was
            extra = (1 - sizes[layer - 1][0] % 2, 1 - sizes[layer - 1][1] % 2)
            up += [
                nn.ConvTranspose2d(planes[layer], planes[layer - 1], 3, stride=2, padding=1, output_padding=extra),
                nn.ReLU(),
            ]
        self.decoder = nn.Sequential(*up[:-1])
        self.log_deviation = nn.Parameter(torch.tensor(math.log(0.25))) if likelihood == "gaussian" else None

    def infer(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, `(images, latent)`, of what is inferred from `(images, channels, height, width)`."""
        hidden = self.encoder(pixels)
        return self.mean(hidden), self.log_variance(hidden)

    def decode(self, latents: Tensor) -> Tensor:
        """The logits of the means of the pixels, `(images, channels, height, width)`."""
        logits: Tensor = self.decoder(latents)
        return logits

    def deviation(self) -> Tensor:
        """Of a pixel, where its likelihood is normal."""
        assert self.log_deviation is not None
        return LEVEL + self.log_deviation.exp()

    def bound(self, pixels: Tensor, noise: Tensor) -> Bound:
        """The negative evidence lower bound of `(images, channels, height, width)` pixels from 0 to 1.

        noise : `(draws, images, latent)` standard normal; the expectation over what is inferred is estimated by so many
            draws.
        """
        mean, log_variance = self.infer(pixels)
        drawn = mean + torch.exp(0.5 * log_variance) * noise
        logits = self.decode(drawn.flatten(0, 1)).reshape(len(noise), *pixels.shape)
        pixels = pixels.expand_as(logits)
        if self.log_deviation is None:
            errors = nn.functional.binary_cross_entropy_with_logits(logits, pixels, reduction="none")
        else:
            deviation = self.deviation()
            errors = ((pixels - logits.sigmoid()) / deviation) ** 2 / 2 + deviation.log() + math.log(2 * math.pi) / 2
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1)
        return Bound(errors.flatten(2).sum(dim=2).mean(dim=0), divergence)
