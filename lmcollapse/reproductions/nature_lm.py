"""Language models on their own text (Shumailov et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmcollapse.reproductions.evidence import (
    Evidence,
    Finding,
    above,
    against,
    below,
    change,
    factor,
    finding,
    rises_every_generation,
)
from lmcollapse.reproductions.panels import Line, Panel, Published
from lmcollapse.reproductions.papers import NATURE as PAPER
from lmcollapse.trajectories import Estimate, mean

__all__ = ["PAPER", "PICTURES", "SMALL", "claims", "panels"]

PICTURES = ("sequence_perplexity",)
SMALL = (
    "A GPT-2 shape of about a million parameters, from scratch in every generation, on 15,000 words of "
    "documentation, in the place of OPT-125m on WikiText-2: perplexities are ten times those of the paper, and "
    "only directions and ratios can be compared. Prompts have 16 tokens and continuations 112, since a model from "
    "scratch knows no position that it was not trained on. They are sampled at temperature 0.9, in the paper found by "
    "five-beam search, with which so small a model repeats a few words and is lost after a single generation (held-out "
    "perplexity from 690 to between 8,000 and 970,000 in three seeds)."
)
ALONE, TENTH = "no human text", "a tenth human"


def claims(found: Evidence) -> Iterator[Finding]:
    """Perplexity rises without human text, much less with a tenth of it; what is written becomes likely."""
    alone, tenth = found[ALONE], found[TENTH]
    last = min(alone.last, tenth.last)
    logs = alone["perplexity"].log()
    yield rises_every_generation(
        "Perplexity rises every generation without human text",
        logs,
        last,
        "log perplexity, one generation less the one before",
        "rises over the generations, by 20 to 28 points",
    )
    yield finding(
        "Without human text perplexity is higher in the end",
        factor(alone["perplexity"], last),
        above,
        1.0,
        f"perplexity, generation {last} over generation 0",
        "34 after the fit to human text, 20 to 28 points more in the end",
    )
    with_, without = tenth["perplexity"].log(), logs
    shares = (with_.values(last + 1)[:, last] - with_.values(last + 1)[:, 0]) / (
        without.values(last + 1)[:, last] - without.values(last + 1)[:, 0]
    )
    yield finding(
        "A tenth of human text keeps the rise below a half of what it is without",
        mean(shares.tolist()),
        below,
        0.5,
        f"rise of log perplexity to generation {last}, with a tenth over without",
        "a minor degradation",
    )
    yield finding(
        "With a tenth of human text perplexity rises all the same",
        change(with_, last),
        above,
        0.0,
        f"log perplexity, generation {last} less generation 0",
        "minor, but there",
    )
    yield finding(
        "A tenth of human text lowers perplexity, seed by seed",
        against(with_, without, last),
        below,
        0.0,
        f"log perplexity in generation {last}, with a tenth less without",
        "not given",
    )
    median = alone["sequence_perplexity_median"].log()
    yield finding(
        "Later generations write what generation 0 finds likely",
        change(median, last),
        below,
        0.0,
        f"log median sequence perplexity under generation 0, generation {last} less generation 0",
        "the mass of the histogram moves left",
    )
    spread = _spread(found, last)
    yield finding(
        "The right tail lengthens: some sequences become unlikely",
        spread,
        above,
        0.0,
        f"log (99 % quantile / median) of sequence perplexity, generation {last} less generation 0",
        "longer right tails in later generations",
    )


def _spread(found: Evidence, last: int) -> Estimate:
    """How much further the tail reaches beyond the median than it did in generation 0."""
    alone = found[ALONE]
    tail = alone["sequence_perplexity_q99"].log().values(last + 1)
    middle = alone["sequence_perplexity_median"].log().values(last + 1)
    beyond = tail - middle
    return mean((beyond[:, last] - beyond[:, 0]).tolist())


def panels(found: Evidence) -> Sequence[Panel | Published]:
    """Perplexity on held-out text, the tail of the vocabulary, and what is public of the paper's numbers."""
    return [
        Panel("Perplexity of held-out human text", "perplexity", "perplexity", (ALONE, TENTH), steep=True),
        Panel("Rare words", "tail_coverage", "tail coverage", (ALONE, TENTH)),
        Published(
            "Published: OPT-125m, WikiText-2",
            "perplexity",
            (
                Line("no human text, least", [0, 9], [34, 54]),
                Line("no human text, most", [0, 9], [34, 62]),
            ),
        ),
    ]
