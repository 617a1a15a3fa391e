"""Fitting a variational autoencoder."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from lmcollapse.files import keep, kept
from lmcollapse.substrates.causal_lm.devices import deterministic
from lmcollapse.substrates.vae.network import Network
from lmcollapse.types import Diverged, Pixels, Progress

if TYPE_CHECKING:
    from lmcollapse.substrates.vae import VAE

STATE = "state"
"""A line with the history, and safetensors with weights and moments."""
KEEP_SECONDS = 60.0
"""A fit that takes longer keeps its state about so often, at the end of an epoch."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A network, and what its fit recorded: one dict of numbers an epoch."""

    network: Network
    history: list[dict[str, float]] = field(default_factory=list)


def as_pixels(images: Pixels, device: torch.device) -> Tensor:
    """`(images, height, width, channels)` uint8 as `(images, channels, height, width)` float32 from 0 to 1."""
    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(device)
    return tensor.float() / 255


def fit(
    network: Network,
    images: Pixels,
    options: VAE,
    steps: int,
    seed: int,
    progress: Progress,
    bench: Path,
) -> Fitted:
    """Minimise the negative evidence lower bound, one draw of the latent variables a step; raises Diverged.

    The last epoch may be cut short: so many optimizer steps it is.

    The order of the images and the noise follow from the seed and the epoch, so that a fit that was killed ends with
    the same weights.
    """
    device = options.enter()
    network.to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
    history = _resume(network, optimizer, bench / STATE)
    batch = options.batch_size
    in_epoch = -(-len(images) // batch)
    epochs = -(-steps // in_epoch)
    kept = began = time.monotonic()
    pixels = as_pixels(images, device)
    with progress.stage("fit", total=steps * batch, unit="images") as advance, deterministic(device):
        advance(len(history) * len(images))
        for epoch in range(len(history), epochs):
            rng = np.random.default_rng([seed, epoch])
            order = torch.from_numpy(rng.permutation(len(images))).to(device)
            noise = torch.from_numpy(rng.standard_normal((len(images), network.latent), np.float32)).to(device)
            sums = torch.zeros(2, dtype=torch.float64, device=device)
            here = order[: batch * min(in_epoch, steps - epoch * in_epoch)]
            for first in range(0, len(here), batch):
                some = slice(first, first + batch)
                reconstruction, divergence = network.bound(pixels[here[some]], noise[None, : len(here)][:, some])
                loss = (reconstruction + divergence).mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                sums += torch.stack([reconstruction.detach().sum(), divergence.detach().sum()]).double()
            parts = (sums / len(here)).tolist()
            if not math.isfinite(sum(parts)):
                raise Diverged(min(steps, (epoch + 1) * in_epoch), sum(parts), math.nan, option="learning_rate")
            advance(len(here), loss=sum(parts))
            speed = len(here) / max(time.monotonic() - began, 1e-9)
            began = time.monotonic()
            names = {"loss": sum(parts), "reconstruction": parts[0], "divergence": parts[1]}
            history.append({"epoch": epoch, **names, "images_per_second": round(speed, 1)})
            if time.monotonic() - kept > KEEP_SECONDS and epoch + 1 < epochs:
                _keep(network, optimizer, history, bench / STATE)
                kept = time.monotonic()
    broken = [name for name, weight in network.named_parameters() if not weight.isfinite().all()]
    if broken:  # the last step was too long, and no loss was computed after it
        raise Diverged(steps, sum(parts), math.nan, f"the weight {broken[0]} is not finite", option="learning_rate")
    return Fitted(network.eval(), history)


def _keep(network: Network, optimizer: torch.optim.Optimizer, history: list[dict[str, float]], file: Path) -> None:
    """Weights, Adam's moments and the history, whole or not at all."""
    moments = {
        f"optimizer.{number}.{name}": tensor
        for number, each in optimizer.state_dict()["state"].items()
        for name, tensor in each.items()
    }
    weights = {f"network.{name}": weight for name, weight in network.state_dict().items()}
    keep(file, json.dumps(history).encode() + b"\n" + save({**weights, **moments}))


def _resume(network: Network, optimizer: torch.optim.Optimizer, file: Path) -> list[dict[str, float]]:
    """The history of a killed fit, whose state is taken up; where that is damaged the fit begins anew."""
    content = kept(file)
    if content is None:
        return []
    line, _, tensors = content.partition(b"\n")
    history: list[dict[str, float]] = json.loads(line)
    weights: dict[str, Tensor] = {}
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in load(tensors).items():
        part, _, name = key.partition(".")
        if part == "network":
            weights[name] = tensor
        else:
            number, _, moment = name.partition(".")
            moments.setdefault(int(number), {})[moment] = tensor
    network.load_state_dict(weights)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return history
