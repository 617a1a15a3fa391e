"""A mixture of two Gaussians on its own samples (Shumailov et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmcollapse.reproductions.evidence import Evidence, Finding, above, against, below, change, factor, finding
from lmcollapse.reproductions.panels import Panel, Published
from lmcollapse.reproductions.papers import NATURE as PAPER

__all__ = ["PAPER", "PICTURES", "SMALL", "claims", "panels"]

PICTURES = ("mixtures",)
SMALL = "As in the paper, twenty chains a seed in the place of one; beside it a condition that the paper does not have."


def claims(found: Evidence) -> Iterator[Finding]:
    """What the paper shows in its snapshots."""
    alone = found["no human data"]
    last = alone.last
    yield finding(
        "In the end the mixture has moved away from human data",
        change(alone["l2_squared"], last),
        above,
        0.0,
        f"squared L2 distance to the human mixture, generation {last} less generation 0",
        "at generation 2,000 hardly any similarity is left",
    )
    yield finding(
        "It has lost its variance",
        factor(alone["variance"], last),
        below,
        0.5,
        f"variance, generation {last} over generation 0",
        "at generation 2,000 very little variance",
    )
    middle = min(last, 50)
    yield finding(
        "It has moved as early as generation 50",
        change(alone["l2_squared"], middle),
        above,
        0.0,
        f"squared L2 distance, generation {middle} less generation 0",
        "a snapshot of the paper",
    )
    if "a tenth fresh" in set(found.table["condition"]):
        yield finding(
            "A tenth of fresh human data in every fit keeps it near",
            against(found["a tenth fresh"]["l2_squared"], alone["l2_squared"], last),
            below,
            0.0,
            f"squared L2 distance in generation {last}, with a tenth less without",
            "not in the paper",
        )


def panels(found: Evidence) -> Sequence[Panel | Published]:
    """Distance, variance and the modes' distance."""
    return [
        Panel("Distance to human data", "l2_squared", "squared L2 distance", steep=True, long=True),
        Panel("Variance", "variance", "variance", long=True),
        Panel("Distance of the modes", "separation", "distance of the means", long=True),
    ]
