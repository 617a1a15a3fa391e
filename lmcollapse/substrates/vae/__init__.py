"""Variational autoencoders as a substrate: images, fitted, sampled and scored by these options.

network.py is the network and its evidence lower bound, fit.py fits. torch is imported when a verb is used.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from lmcollapse.options import Options
from lmcollapse.records import HISTORY
from lmcollapse.types import Corpus, Human, Images, Latents, Progress, Scores, Speechless, Start

if TYPE_CHECKING:
    import torch

    from lmcollapse.substrates.vae.fit import Fitted
    from lmcollapse.substrates.vae.network import Network

SHAPE = "vae.json"
WEIGHTS = "model.safetensors"
AT_ONCE = 500
"""Images that are decoded or scored at once; the last bits of a score depend on it, so it is the same everywhere."""
DRAWS = 8
"""Draws of the latent variables by which the bound of an image is estimated."""
SCORE_SEED = 0
"""The same noise for every model: what changes from generation to generation is the model."""

Positive = Annotated[int, Field(gt=0)]


class VAE(Options):
    """A convolutional variational autoencoder of images; each generation is fitted to what the last one's decoder made.

    After Shumailov et al. 2024 (arXiv 2305.17493): convolutions, 20 latent variables with a standard normal prior,
    samples that are the decoder's mean. Sizes are free.
    """

    reads: ClassVar[str] = "images"
    starts: ClassVar[tuple[Start, ...]] = ("base", "previous", "scratch")
    iterative: ClassVar[bool] = True

    latent: Positive = 20
    """Latent variables."""
    filters: tuple[Positive, ...] = Field(default=(32, 64), min_length=1)
    """Channels of the encoder's convolutions, each of stride 2; the decoder has them backwards."""
    hidden: Positive = 256
    """Units of the layer between the convolutions and the latent variables."""
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    """Of a pixel: its value as the probability of white, which suits images that are nearly black and white; or normal,
    with a variance that is learned, for levels of grey and colours."""
    epochs: Positive = 50
    """How often a fit reads its images."""
    batch_size: Positive = 64
    """Images an optimizer step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Of Adam, constant."""
    output: Literal["mean", "draw"] = "mean"
    """Sampling: the decoder's mean; or pixels drawn from their likelihood. Both in 256 levels."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    threads: Positive | None = None
    """CPU threads (null: torch's choice)."""

    def check(self, start: Start) -> None:
        """Raise UserError for a device that is not here."""
        self.enter()

    def decide(self) -> VAE:
        """The same options with device and threads settled."""
        import torch

        device = self.enter()
        return self.model_copy(update={"device": str(device), "threads": self.threads or torch.get_num_threads()})

    def enter(self) -> torch.device:
        """Set the number of threads, where it was decided, and return the device."""
        import torch

        from lmcollapse.substrates.causal_lm.devices import named

        if self.threads:
            torch.set_num_threads(self.threads)
        return named(self.device, "device")

    def prepare(self, human: Human[Images], folder: Path, seed: int) -> None:
        """The initial weights, for images of this size."""
        from lmcollapse.substrates.vae.fit import Fitted

        self.save(Fitted(self._new(human.train.pixels.shape[1:], seed)), folder)

    def encode(self, base: Path, human: Human[Images]) -> tuple[Corpus, Corpus]:
        """One row an image."""
        train, heldout = (
            Corpus.of_images(part.pixels, -1, sources=part.sources) for part in (human.train, human.heldout)
        )
        return train, heldout

    def fit(
        self,
        base: Path,
        train: Corpus,
        start: Start,
        previous: Path | None,
        seed: int,
        progress: Progress,
        bench: Path,
        passes: float = 1.0,
    ) -> Fitted:
        """The network fitted to `train` by Adam on the evidence lower bound."""
        from lmcollapse.substrates.vae.fit import fit

        if start == "scratch":
            network = self._new(train.values.shape[1:], seed)
        else:
            network = self.load(previous or base).network
        steps = self.epochs * max(1, -(-round(passes * len(train)) // self.batch_size))
        return fit(network, train.values, self, steps, seed, progress, bench)

    def sample(
        self,
        model: Fitted,
        human: Corpus,
        previous: Corpus,
        generation: int,
        seed: int,
        progress: Progress,
        bench: Path | None = None,
    ) -> Corpus:
        """As many images as the human part has, from latent variables that are drawn from the prior."""
        import torch

        device, network = self.enter(), model.network
        parts = []
        with progress.stage("sample", total=len(human), unit="images") as advance, torch.inference_mode():
            for number, first in enumerate(range(0, len(human), AT_ONCE)):
                count = min(AT_ONCE, len(human) - first)
                rng = np.random.default_rng([seed, number])
                latents = rng.standard_normal((AT_ONCE, network.latent), np.float32)[:count]
                pixels = torch.sigmoid(network.decode(torch.from_numpy(latents).to(device))).cpu().numpy()
                if self.output == "draw" and self.likelihood == "bernoulli":
                    pixels = (rng.random(pixels.shape) < pixels).astype(np.float32)
                elif self.output == "draw":
                    pixels = pixels + float(network.deviation()) * rng.standard_normal(pixels.shape, np.float32)
                if not np.isfinite(pixels).all():
                    raise Speechless("its pixels are not finite numbers; lower learning_rate")
                parts.append(np.round(pixels.clip(0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1))
                advance(count)
        return Corpus.of_images(np.concatenate(parts), generation)

    def score(self, model: Fitted, corpus: Corpus, progress: Progress, *, by_token: bool = False) -> Scores:
        """The negative evidence lower bound of each image in nats, and what is inferred of its latent variables."""
        import torch

        from lmcollapse.substrates.vae.fit import as_pixels

        device, network = self.enter(), model.network
        rows, values = len(corpus), int(np.prod(corpus.values.shape[1:]))
        nats = np.empty(rows)
        latents = Latents(*(np.empty((rows, network.latent), np.float32) for _ in range(2)))
        with progress.stage("score", total=rows, unit="images") as advance, torch.inference_mode():
            for number, first in enumerate(range(0, rows, AT_ONCE)):
                some = slice(first, min(first + AT_ONCE, rows))
                pixels = as_pixels(corpus.values[some], device)
                rng = np.random.default_rng([SCORE_SEED, number])
                noise = rng.standard_normal((DRAWS, AT_ONCE, network.latent), np.float32)[:, : len(pixels)]
                reconstruction, divergence = network.bound(pixels, torch.from_numpy(noise).to(device))
                nats[some] = (reconstruction.double() + divergence.double()).cpu().numpy()
                mean, log_variance = network.infer(pixels)
                latents.mean[some], latents.variance[some] = mean.cpu().numpy(), log_variance.exp().cpu().numpy()
                advance(len(pixels))
        return Scores(nats, np.full(rows, values, np.int64), latents=latents)

    judges: ClassVar[tuple[str, ...]] = ()

    def judge(self, name: str, corpus: Corpus, progress: Progress) -> Scores:
        """There is no judge."""
        raise AssertionError(name)

    def save(self, model: Fitted, folder: Path) -> None:
        """The weights, the sizes of images and layers, and the history of the fit as `fit.jsonl`."""
        from safetensors.torch import save_file

        network = model.network.cpu()
        save_file({name: weight.contiguous() for name, weight in network.state_dict().items()}, folder / WEIGHTS)
        sizes = {name: getattr(self, name) for name in ("filters", "hidden", "latent", "likelihood")}
        sizes["images"] = network.shape
        (folder / SHAPE).write_text(json.dumps(sizes) + "\n", encoding="utf-8")
        if model.history:
            lines = [json.dumps(record) + "\n" for record in model.history]
            (folder / HISTORY).write_text("".join(lines), encoding="utf-8")

    def load(self, folder: Path) -> Fitted:
        """What `save` wrote."""
        from safetensors.torch import load_file

        from lmcollapse.substrates.vae.fit import Fitted

        network = self._new(json.loads((folder / SHAPE).read_text(encoding="utf-8"))["images"], seed=0)
        network.load_state_dict(load_file(folder / WEIGHTS))
        return Fitted(network.to(self.enter()).eval())

    def _new(self, shape: tuple[int, ...], seed: int) -> Network:
        import torch

        from lmcollapse.substrates.vae.network import Network

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Network(
                *shape, filters=self.filters, hidden=self.hidden, latent=self.latent, likelihood=self.likelihood
            )
