"""Replace, accumulate, or a sample of fixed size from everything (Kazdan et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmcollapse.reproductions.evidence import Condition, Evidence, Finding, above, against, below, change, finding
from lmcollapse.reproductions.panels import Panel, Published
from lmcollapse.reproductions.papers import KAZDAN as PAPER
from lmcollapse.trajectories import Trajectory

__all__ = ["PAPER", "PICTURES", "SMALL", "claims", "panels"]

PICTURES = ()
SMALL = (
    "The three statistical estimates at 50 rows a generation, and a GPT-2 shape of about a million parameters on "
    "15,000 words of documentation."
)
POLICIES = ("replace", "accumulate_subsample", "accumulate")
RISKS = {
    "gaussian": ("w2_squared", "squared Wasserstein-2 distance", 0.1),
    "kernel density": ("mean_error", "squared error of the mean", 0.1),
    "regression": ("excess_risk", "excess risk", 0.5),
    "language model": ("perplexity", "log perplexity", 0.05),
}
"""Of each substrate what is risked, in words, and by how much accumulate may let it grow and still be bounded."""


def claims(found: Evidence) -> Iterator[Finding]:
    """For each substrate: replace grows, accumulate does not, a sample of everything lies between."""
    for substrate, (measure, words, bound) in RISKS.items():
        runs = {policy: found[f"{substrate}, {policy}"] for policy in POLICIES}
        risk = {policy: _risk(runs[policy], measure) for policy in POLICIES}
        last = min(run.last for run in runs.values())
        half = last // 2
        yield finding(
            f"{substrate}: replace diverges, it still grows in the second half",
            change(risk["replace"], last, half),
            above,
            0.0,
            f"{words}, generation {last} less generation {half}",
            "diverges",
        )
        yield finding(
            f"{substrate}: accumulate stays bounded",
            change(risk["accumulate"], last),
            below,
            bound,
            f"{words}, generation {last} less generation 0",
            "bounded",
        )
        yield finding(
            f"{substrate}: a sample of everything is better than replace",
            against(risk["accumulate_subsample"], risk["replace"], last),
            below,
            0.0,
            f"{words} in generation {last}, accumulate_subsample less replace",
            "lies between",
        )
        yield finding(
            f"{substrate}: and worse than accumulate",
            against(risk["accumulate_subsample"], risk["accumulate"], last),
            above,
            0.0,
            f"{words} in generation {last}, accumulate_subsample less accumulate",
            "lies between",
        )


def _risk(runs: Condition, measure: str) -> Trajectory:
    return runs[measure].log() if measure == "perplexity" else runs[measure]


def panels(found: Evidence) -> Sequence[Panel | Published]:
    """The risk of each substrate under the three policies."""
    return [
        Panel(
            substrate.capitalize(),
            measure,
            "perplexity" if measure == "perplexity" else words,
            tuple(f"{substrate}, {policy}" for policy in POLICIES),
            steep=True,
            long=measure != "perplexity",
        )
        for substrate, (measure, words, _) in RISKS.items()
    ]
