"""What becomes of the variety of words and phrases (Guo et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmcollapse.reproductions.evidence import Evidence, Finding, above, below, change, finding, last_known
from lmcollapse.reproductions.panels import Line, Panel, Published
from lmcollapse.reproductions.papers import GUO as PAPER

__all__ = ["PAPER", "PICTURES", "SMALL", "claims", "panels"]

PICTURES = ()
SMALL = (
    "A GPT-2 shape of about a million parameters from scratch on 20,000 words of documentation, unconditional, at "
    "two temperatures, in the place of OPT-350M on three tasks; the type-token ratio is that of a moving window, "
    "in the paper that of the whole text."
)
CONDITIONS = ("temperature 0.8", "temperature 1.0")
FALLING = {
    "type_token_ratio": ("type-token ratio", "news 7.36 to 3.66, stories 2.23 to 0.61 (in per cent, whole text)"),
    "distinct_2": ("distinct-2", "abstracts 35.4 % to 13.3 %"),
    "semantic_diversity": ("semantic diversity", "falls"),
    "tail_coverage": ("coverage of rare words", "not in the paper"),
}


def claims(found: Evidence) -> Iterator[Finding]:
    """Diversity in the last iteration less that of the model fitted to human text.

    A measure may end earlier: what has collapsed writes too few documents for it that have a word.
    """
    for name in CONDITIONS:
        runs = found[name]
        for measure, (words, published) in FALLING.items():
            last = last_known(runs[measure], runs.last)
            yield finding(
                f"{words.capitalize()} falls, {name}",
                change(runs[measure], last),
                below,
                0.0,
                f"{words}, generation {last} less generation 0",
                published,
            )
        last = last_known(runs["self_bleu"], runs.last)
        yield finding(
            f"Texts become more like each other, {name}",
            change(runs["self_bleu"], last),
            above,
            0.0,
            f"self-BLEU, generation {last} less generation 0",
            "self-BLEU rises",
        )


def panels(found: Evidence) -> Sequence[Panel | Published]:
    """Words, phrases, texts, meaning, and the paper's numbers."""
    return [
        Panel("Words", "type_token_ratio", "type-token ratio", CONDITIONS),
        Panel("Phrases", "distinct_2", "distinct-2", CONDITIONS),
        Panel("Texts", "self_bleu", "self-BLEU", CONDITIONS),
        Panel("Meaning", "semantic_diversity", "semantic diversity", CONDITIONS),
        Published(
            "Published: OPT-350M",
            "over the first iteration",
            (
                Line("type-token ratio, news", [0, 6], [1, 3.66 / 7.36]),
                Line("type-token ratio, stories", [0, 6], [1, 0.61 / 2.23]),
                Line("distinct-2, abstracts", [0, 6], [1, 13.3 / 35.4]),
            ),
        ),
    ]
