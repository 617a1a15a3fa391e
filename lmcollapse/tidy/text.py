"""What figures show of runs of text, beside the measures of `results.table`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from lmcollapse.metrics.sequence_perplexity import flat_name
from lmcollapse.results import finished, judges, of_chains, of_images, sequence_perplexities
from lmcollapse.tidy.conditions import Described
from lmcollapse.types import Floats

QUANTILES = (0.01, 0.5, 0.99)
BINS = 40
EDGE = 0.002
"""The bins end where they leave out at most this share of any generation; the outermost ones count what lies beyond."""

Written = dict[tuple[str, int], Floats]
"""The perplexity of every sequence, by run and generation."""


def of_text(runs: Sequence[Described], scalars: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Parts of the table: cross-entropy, and how the perplexity of sequences is distributed under each judge.

    scalars : what `results.table` has of the runs.
    """
    perplexity = scalars[scalars["measure"] == "perplexity"]
    numbers = ["value", "low", "high"]
    positive = perplexity[numbers].where(perplexity[numbers] > 0)
    yield perplexity.assign(measure="cross_entropy", **{name: np.log(positive[name]) for name in numbers})
    for judge, written in _by_judge(runs).items():
        yield from _distribution(judge, written)


def _by_judge(runs: Sequence[Described]) -> dict[str, Written]:
    """Under "" for generation 0's model, and under the name of each other judge."""
    found: dict[str, Written] = {}
    for run in runs:
        if of_chains(run.manifest) or of_images(run.manifest):
            continue
        for number, judge in enumerate(judges([run.path])):
            written = found.setdefault(f"{flat_name(judge)}_" if number else "", {})
            for generation in range(finished(run.path)):
                values = sequence_perplexities(run.path, generation, number)
                if len(values):
                    written[run.name, generation] = values
    return found


def _distribution(judge: str, written: Written) -> Iterator[pd.DataFrame]:
    """Histogram and quantiles, in the same bins for all runs and generations."""
    edges = _edges(written)
    middles = np.sqrt(edges[:-1] * edges[1:])
    for (run, generation), values in written.items():
        shares = np.histogram(values.clip(edges[0], edges[-1]), edges)[0] / len(values)
        with np.errstate(invalid="ignore"):
            quantiles = np.nan_to_num(np.quantile(values, QUANTILES), nan=np.inf, posinf=np.inf)
        for name, at, numbers in [("histogram", middles, shares), ("quantile", np.array(QUANTILES), quantiles)]:
            measure = f"sequence_perplexity_{judge}{name}"
            yield pd.DataFrame({"run": run, "generation": generation, "measure": measure, "at": at, "value": numbers})


def _edges(written: Written) -> Floats:
    """Of bins of equal width on a logarithmic axis."""
    ends = [np.quantile(kept, [EDGE, 1 - EDGE]) for v in written.values() if len(kept := v[np.isfinite(v)])]
    low, high = (min(low for low, _ in ends), max(high for _, high in ends)) if ends else (1.0, 1.0)
    middle = np.sqrt(low * high)
    return np.geomspace(min(low, middle / 2), max(high, middle * 2), BINS + 1)
