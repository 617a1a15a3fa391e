"""A variational autoencoder on its own images (Shumailov et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmcollapse.reproductions.evidence import Evidence, Finding, above, against, below, change, factor, finding, within
from lmcollapse.reproductions.panels import Panel, Published
from lmcollapse.reproductions.papers import NATURE as PAPER

__all__ = ["PAPER", "PICTURES", "SMALL", "claims", "panels"]

PICTURES = ("images", "latents")
SMALL = (
    "The 8 x 8 digits of scikit-learn in the place of MNIST, a small convolutional network, and a control that "
    "reads human images in every generation."
)


def claims(found: Evidence) -> Iterator[Finding]:
    """What the paper shows: images that all look alike, a latent distribution that narrows."""
    alone, human = found["no human data"], found["human data only"]
    last = min(alone.last, human.last)
    yield finding(
        "The images become alike",
        factor(alone["pixel_variance"], last),
        below,
        0.9,
        f"variance of pixels of what is written, generation {last} over generation 0",
        "digits become one blurred shape by generation 20",
    )
    yield finding(
        "They no longer cover human images",
        change(alone["image_recall"], last),
        below,
        0.0,
        f"recall, generation {last} less generation 0",
        "variety is lost",
    )
    yield finding(
        "They move away from human images",
        change(alone["pixel_frechet"], last),
        above,
        0.0,
        f"Fréchet distance in pixels, generation {last} less generation 0",
        "no longer like the original data",
    )
    yield finding(
        "It is the recursion: fitted to human images alone, the last model is as varied as the first",
        change(human["pixel_variance"], last),
        within,
        0.05,
        f"the same with human data only, generation {last} less generation 0",
        "not in the paper",
    )
    yield finding(
        "Without human data the images are less varied than with them",
        against(alone["pixel_variance"], human["pixel_variance"], last),
        below,
        0.0,
        f"variance of pixels in generation {last}, without less with human data",
        "not in the paper",
    )


def panels(found: Evidence) -> Sequence[Panel | Published]:
    """Variety, coverage and distance."""
    return [
        Panel("Variety", "pixel_variance", "variance of pixels"),
        Panel("Coverage of human images", "image_recall", "recall"),
        Panel("Distance to human images", "pixel_frechet", "Fréchet distance"),
    ]
