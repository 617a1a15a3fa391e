"""The measure `sequence_perplexity`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lmcollapse.metrics.intervals import LEVEL, NONE, Interval
from lmcollapse.metrics.perplexity import exponential
from lmcollapse.metrics.scene import Judged
from lmcollapse.types import Floats, Reading, Scores

QUANTILES = {"q01": 0.01, "q05": 0.05, "median": 0.5, "q95": 0.95, "q99": 0.99}


def sequence_perplexity(judges: Mapping[str, Judged]) -> list[Reading]:
    """How likely frozen models find each sequence that this generation wrote: quantiles, and both tails.

    The perplexity of a sequence is exp(its nats / its tokens); sequences without a scored token have none and are left
    out. `sequence_perplexity_median`, `_q01`, … are quantiles, interpolated between the logarithms;
    `sequence_perplexity_below` and `_above` are the shares of sequences below the 1 % and above the 99 % quantile of
    what generation 0 wrote, under the same judge. The judge is generation 0's model; other judges have the last part of
    their name in the reading's, as in `sequence_perplexity_smollm2_median`. Shumailov et al. 2024, Nature 631, figure
    1, saw the bulk fall from generation to generation while the upper tail grew.

    Intervals of quantiles are between order statistics (Conover 1999, Practical Nonparametric Statistics, section
    3.2), and so free of any assumption on the distribution; those of shares are Wilson's (1927), with generation 0's
    quantiles taken as given.
    """
    readings = []
    for judge, judged in judges.items():
        prefix = "sequence_perplexity_" + ("" if judge == "generation_0" else f"{flat_name(judge)}_")
        nats, first = np.sort(nats_per_token(judged.scores)), np.sort(nats_per_token(judged.first))
        if not len(nats) or not len(first):
            note = "no token was scored"
        elif not np.isfinite(nats).all() or not np.isfinite(first).all():
            note = "a sequence has no finite probability"
        else:
            readings += [exponential(_quantile(prefix + name, nats, share)) for name, share in QUANTILES.items()]
            readings.append(_share(prefix + "below", nats < np.quantile(first, QUANTILES["q01"])))
            readings.append(_share(prefix + "above", nats > np.quantile(first, QUANTILES["q99"])))
            continue
        readings += [Reading(prefix + name, None, note) for name in (*QUANTILES, "below", "above")]
    return readings


def nats_per_token(scores: Scores) -> Floats:
    """The logarithm of the perplexity of every row with at least one scored token."""
    scored = scores.tokens > 0
    return scores.nats[scored] / scores.tokens[scored]


def flat_name(judge: str) -> str:
    """The last part of a judge's name, as part of a reading's name."""
    return re.sub(r"\W+", "_", Path(judge).name.lower()).strip("_")


def _quantile(name: str, ordered: Floats, share: float) -> Reading:
    low, high = _between(ordered, share)
    return Reading(name, float(np.quantile(ordered, share)), low=low, high=high)


def _between(ordered: Floats, share: float) -> Interval:
    """The order statistics between which the quantile lies; none where the sample ends before them."""
    from scipy import stats

    low, high = stats.binom.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], len(ordered), share).astype(int)
    if low < 1 or high >= len(ordered):
        return NONE
    return float(ordered[low - 1]), float(ordered[high])


def _share(name: str, beyond: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Reading:
    from scipy import stats

    count, trials = int(beyond.sum()), len(beyond)
    found = stats.binomtest(count, trials).proportion_ci(LEVEL, "wilson")
    return Reading(name, count / trials, low=float(found.low), high=float(found.high))
