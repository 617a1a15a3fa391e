"""The reproductions by name, and how one is run."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from lmcollapse.options import suggestion
from lmcollapse.reproductions.evidence import Evidence, Finding
from lmcollapse.reproductions.panels import Panel, Published
from lmcollapse.reproductions.papers import Paper
from lmcollapse.sweeps import Sweep, plan
from lmcollapse.types import UserError
from lmcollapse.yaml_files import lay_over

Scale = Literal["small", "paper"]

NAMES = {
    "nature-lm": "language models on their own text: perplexity, and which sequences they write",
    "nature-gaussian": "a Gaussian on its own samples",
    "nature-gmm": "a mixture of Gaussians on its own samples",
    "nature-vae": "a variational autoencoder on its own images",
    "accumulate": "keep everything that was ever written",
    "collapse-or-thrive": "replace, accumulate, or a sample of everything",
    "detector": "a pool without labels, and a detector",
    "diversity": "what becomes of the variety of words and phrases",
    "rate": "how long a rare symbol survives",
}
"""Every reproduction, and what it is about."""


@dataclass(frozen=True)
class Reproduction:
    """One published result.

    scales : the sweep, as a configuration holds it, by scale.
    claims : what the paper says, tested on what the runs found.
    panels : of its figure, given what was found.
    pictures : figures of the catalogue that belong to it, by name.
    small : how the small scale differs from the paper.
    """

    name: str
    paper: Paper
    scales: Mapping[str, Mapping[str, Any]]
    claims: Callable[[Evidence], Iterator[Finding]]
    panels: Callable[[Evidence], Sequence[Panel | Published]]
    pictures: tuple[str, ...]
    small: str

    def sweep(self, out: Path, scale: Scale = "small", overrides: Sequence[str] = ()) -> Sweep:
        """Its runs below a directory. Raises UserError where an override cannot be used."""
        given = dict(self.scales[scale])
        lay_over(given, overrides)
        return plan(given, out, f"{self.name} at scale {scale}")


def find(name: str) -> Reproduction:
    """A reproduction by name; UserError with the nearest known name where there is none."""
    if name not in NAMES:
        raise UserError(f"unknown reproduction '{name}'" + suggestion(name, sorted(NAMES)))
    module = importlib.import_module(f"lmcollapse.reproductions.{name.replace('-', '_')}")
    scales = yaml.safe_load((files("lmcollapse.reproductions") / f"{name}.yaml").read_text(encoding="utf-8"))
    return Reproduction(name, module.PAPER, scales, module.claims, module.panels, module.PICTURES, module.SMALL)
