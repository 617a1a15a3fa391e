"""A pool without labels, and a detector that weighs its rows (Drayson et al. 2025)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmcollapse.reproductions.evidence import Evidence, Finding, above, against, below, change, factor, finding
from lmcollapse.reproductions.panels import Line, Panel, Published
from lmcollapse.reproductions.papers import DRAYSON as PAPER

__all__ = ["PAPER", "PICTURES", "SMALL", "claims", "panels"]

PICTURES = ()
SMALL = (
    "A GPT-2 shape of about a million parameters from scratch on 20,000 words of documentation, and a classifier "
    "of n-grams in the place of ModernBERT; texts are written without prompts, where the paper continues human "
    "blocks."
)
SYNTHETIC, POOL, RESAMPLED, ORACLE = "all synthetic", "mixed pool", "detector resampling", "oracle"


def claims(found: Evidence) -> Iterator[Finding]:
    """Perplexity of held-out human text, with and without the detector."""
    runs = {name: found[name] for name in (SYNTHETIC, POOL, RESAMPLED, ORACLE)}
    logs = {name: run["perplexity"].log() for name, run in runs.items()}
    last = min(run.last for run in runs.values())
    yield finding(
        "Fully synthetic training collapses",
        factor(runs[SYNTHETIC]["perplexity"], last),
        above,
        1.2,
        f"perplexity, generation {last} over generation 0",
        "29.31 to 48.36 at generation 9: 1.65",
    )
    yield finding(
        "With all human text kept in the pool perplexity hardly rises",
        factor(runs[POOL]["perplexity"], last),
        below,
        1.1,
        f"perplexity, generation {last} over generation 0",
        "29.25 to 29.92: 1.02",
    )
    yield finding(
        "Resampling by a detector prevents collapse",
        factor(runs[RESAMPLED]["perplexity"], last),
        below,
        1.1,
        f"perplexity, generation {last} over generation 0",
        "prevents collapse",
    )
    yield finding(
        "It is better than the pool as it is",
        against(logs[RESAMPLED], logs[POOL], last),
        below,
        0.0,
        f"log perplexity in generation {last}, resampling less mixed pool",
        "improves on it",
    )
    yield finding(
        "It is as good as knowing what is human",
        against(logs[RESAMPLED], logs[ORACLE], last),
        below,
        0.05,
        f"log perplexity in generation {last}, resampling less oracle",
        "not in the notes at hand",
    )
    yield finding(
        "More of what is trained on is human with the detector than without",
        against(runs[RESAMPLED]["human_fraction"], runs[POOL]["human_fraction"], last),
        above,
        0.0,
        f"human fraction of the training set in generation {last}, resampling less mixed pool",
        "not given",
    )
    auc = runs[RESAMPLED]["detector_auc"]
    yield finding(
        "The detector still tells human text from synthetic in the last generation",
        change(auc, last, 1),
        above,
        -0.05,
        f"area under the ROC curve, generation {last} less generation 1",
        "not in the notes at hand",
    )


def panels(found: Evidence) -> Sequence[Panel | Published]:
    """Perplexity, what was trained on, the detector, and the paper's numbers."""
    return [
        Panel("Perplexity of held-out human text", "perplexity", "perplexity", steep=True),
        Panel("What is trained on", "human_fraction", "human fraction", (SYNTHETIC, POOL, RESAMPLED, ORACLE)),
        Panel("The detector", "detector_auc", "area under the ROC curve", (RESAMPLED,)),
        Published(
            "Published: GPT-2, WikiText-2",
            "perplexity",
            (Line(SYNTHETIC, [0, 9], [29.31, 48.36]), Line("all human text kept", [0, 9], [29.25, 29.92])),
        ),
    ]
