"""Everything kept (Gerstgrasser et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmcollapse.reproductions.evidence import (
    Evidence,
    Finding,
    above,
    against,
    below,
    change,
    finding,
    rises_every_generation,
)
from lmcollapse.reproductions.panels import Line, Panel, Published
from lmcollapse.reproductions.papers import GERSTGRASSER as PAPER

__all__ = ["PAPER", "PICTURES", "SMALL", "claims", "panels"]

PICTURES = ()
SMALL = (
    "A GPT-2 shape of about a million parameters on 20,000 words of documentation for four epochs, in the place "
    "of 9 million parameters on TinyStories for one."
)
COLD = "temperature 0.3"


def claims(found: Evidence) -> Iterator[Finding]:
    """Cross-entropy of held-out human text, in nats a token."""
    loss = {name: found[name]["perplexity"].log() for name in ("replace", "accumulate")}
    cold = {name: found[f"{name}, {COLD}"]["perplexity"].log() for name in loss}
    last = min(found[name].last for name in (*loss, *(f"{name}, {COLD}" for name in loss)))
    yield rises_every_generation(
        "Replace: cross-entropy rises every generation",
        loss["replace"],
        last,
        "cross-entropy in nats a token, one generation less the one before",
        "1.82 at iteration 1, 2.39 at 4, 2.91 at 10",
    )
    yield finding(
        "Accumulate stays bounded: in the end cross-entropy is no higher than in the beginning",
        change(loss["accumulate"], last),
        below,
        0.05,
        f"cross-entropy, generation {last} less generation 0",
        "1.82 at iteration 1, 1.74 at 4",
    )
    yield finding(
        "Accumulate is better than replace",
        against(loss["accumulate"], loss["replace"], last),
        below,
        0.0,
        f"cross-entropy in generation {last}, accumulate less replace",
        "1.74 against 2.39 at iteration 4",
    )
    yield finding(
        "Replace at temperature 0.3 is far worse than at 1.0",
        against(cold["replace"], loss["replace"], last),
        above,
        1.0,
        f"cross-entropy of replace in generation {last}, temperature 0.3 less 1.0",
        "5.82 against 2.39 at iteration 4",
    )
    yield finding(
        "Accumulate stays bounded at temperature 0.3, too",
        change(cold["accumulate"], last),
        below,
        0.05,
        f"cross-entropy at temperature 0.3, generation {last} less generation 0",
        "bounded at every temperature",
    )


def panels(found: Evidence) -> Sequence[Panel | Published]:
    """Cross-entropy as log perplexity, at both temperatures, and the paper's."""
    warm, cold = ("replace", "accumulate"), (f"replace, {COLD}", f"accumulate, {COLD}")
    return [
        Panel("Temperature 1.0", "perplexity", "perplexity", warm, steep=True),
        Panel("Temperature 0.3", "perplexity", "perplexity", cold, steep=True),
        Published(
            "Published: GPT-2 9M, TinyStories",
            "cross-entropy (nats)",
            (
                Line("replace", [0, 3, 9], [1.82, 2.39, 2.91]),
                Line("accumulate", [0, 3], [1.82, 1.74]),
                Line("replace, temperature 0.3", [0, 3], [1.82, 5.82]),
            ),
        ),
    ]
