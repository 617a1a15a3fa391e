"""One table of a set of runs, from which every figure can be drawn again without them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lmcollapse.results import table
from lmcollapse.tidy.chains import of_chains
from lmcollapse.tidy.conditions import describe
from lmcollapse.tidy.files import COLUMNS, TYPES, read_table, write_table
from lmcollapse.tidy.images import of_images
from lmcollapse.tidy.text import of_text

__all__ = ["COLUMNS", "read_table", "tidy", "write_table"]


def tidy(runs: Sequence[Path]) -> pd.DataFrame:
    """Everything that a figure shows of a set of runs, one number a row.

    Columns: `run` (the name of its directory), `seed`, `condition`, `generation` (-1 is human data), `measure`, `at`
    (NaN, or the place on a curve), `value`, `low` and `high` (a 95 % interval, NaN where there is none). Two runs have
    the same condition only if they differ in nothing but seed and length: where the name that a sweep gave, or the data
    policy in words, does not tell runs apart, what differs in their configurations is added.

    Rows without `at` are the measures of `results.table`, and beside them

    cross_entropy : nats per token of held-out human text, the logarithm of `perplexity`.
    NAME_p5, NAME_p50, NAME_p95 : percentiles of a measure over the chains of a run.
    NAME_theory : what theory expects of its mean, where that is known in closed form.
    image_height, image_width, image_channels : of the images of a run, in generation -1.

    Curves, `at` in the unit that is given:

    ==================================  ==========================================  ====================================
    measure                             at                                          value
    ==================================  ==========================================  ====================================
    sequence_perplexity_histogram       middle of a bin (perplexity; bins of equal  share of the sequences; outermost
                                        width on a logarithmic axis)                bins count what lies beyond
    sequence_perplexity_quantile        share of the sequences (0.01, 0.5, 0.99)    perplexity
    density                             place on the line (human deviation = 1)     density of chain 0's model
    probability                         rank, from 1 on                             probability in chain 0's model
    component_weight, component_mean_1  number of the component, from 0 on          chain 0's model, a mixture of
    … component_covariance_12 …                                                     normals in two dimensions
    image_pixel                         ((image * height + row) * width + column)   0 to 255, of the first images
                                        * channels + channel
    latent_density                      place along the direction in which          density of what is inferred of
                                        inferred means vary most (prior's           held-out images
                                        deviation = 1)
    ==================================  ==========================================  ====================================

    Under other judges than generation 0's model the judge's name is part of the measure, as in
    `sequence_perplexity_smollm2_histogram`. What shows an example (models, images, latents) is there for the first run
    of each condition, in at most eight generations; percentiles and theory of more than 500 generations are there for
    500 of them, evenly on a logarithmic axis.

    Raises UserError as `results.table` does.
    """
    described = describe(runs)
    scalars = table(runs).assign(at=float("nan"))
    parts = [scalars, *of_text(described, scalars), *of_chains(described), *of_images(described)]
    found = pd.concat([part for part in parts if len(part)], ignore_index=True)
    order = {run.name: place for place, run in enumerate(described)}
    found = found.sort_values("run", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    found["seed"] = found["run"].map({run.name: run.seed for run in described})
    found["condition"] = found["run"].map({run.name: run.condition for run in described})
    return found.reindex(columns=list(COLUMNS)).astype(TYPES)  # runs that took no measure have curves alone
