"""The figure `measures`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmcollapse.figures.lines import IMAGES, SINGLE_SEED, TEXT, Line, kinds, lines, over_what
from lmcollapse.figures.style import DOUBLE, SINGLE, generation_axis, legend, line_styles, log_axis, styled
from lmcollapse.types import HUMAN

LABELS = {
    "perplexity": "held-out perplexity",
    "tail_coverage": "tail coverage",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "distinct_3": "distinct-3",
    "distinct_4": "distinct-4",
    "survival_1": "survival, once",
    "survival_2_4": "survival, 2–4 times",
    "survival_5_16": "survival, 5–16 times",
    "tail_mass": "tail mass",
    "unigram_js": "unigram JS (bits)",
    "cross_entropy": "cross-entropy (nats per token)",
    "type_token_ratio": "type-token ratio",
    "self_bleu": "self-BLEU",
    "mauve": "MAUVE",
    "compression_ratio": "compression ratio",
    "invented_words": "invented words",
    "next_token_accuracy": "next-token accuracy",
    "cross_entropy_head": "cross-entropy, head (nats)",
    "cross_entropy_body": "cross-entropy, body (nats)",
    "cross_entropy_tail": "cross-entropy, tail (nats)",
    "expected_calibration_error": "calibration error",
    "negative_elbo": "negative ELBO (nats)",
    "negative_elbo_written": "… of written images",
    "latent_variance": "variance of latents",
    "pixel_variance": "variance of pixels",
    "pixel_frechet": "Fréchet distance",
    "image_precision": "precision",
    "image_recall": "recall",
    "image_density": "density",
    "image_coverage": "coverage",
}
"""What is drawn, and what its axis says."""

FIGURES = {
    "measures": [["perplexity", "distinct_1", "distinct_2"], ["tail_coverage", "distinct_3", "distinct_4"]],
    "perplexity": [["perplexity"]],
    "cross_entropy": [["cross_entropy"]],
    "distinct_n": [["distinct_1", "distinct_2"], ["distinct_3", "distinct_4"]],
    "type_token_ratio": [["type_token_ratio"]],
    "tail_coverage": [["tail_coverage"]],
    "tail": [["survival_1", "survival_2_4", "survival_5_16"], ["tail_coverage", "tail_mass", "unigram_js"]],
    "text": [["self_bleu", "compression_ratio"], ["invented_words", "mauve"]],
    "model": [
        ["cross_entropy_head", "cross_entropy_body", "cross_entropy_tail"],
        ["perplexity", "next_token_accuracy", "expected_calibration_error"],
    ],
    "image_measures": [
        ["negative_elbo", "pixel_variance", "pixel_frechet"],
        ["image_precision", "image_recall", "image_coverage"],
    ],
}
"""The panels of each file, row by row."""

HUMAN_LINE: dict[str, Any] = {"color": "0.6", "linewidth": 0.8}
DRIFT_LINE: dict[str, Any] = {"linestyle": ":", "linewidth": 1}
ENDS = ["value", "low", "high"]
BAND = 0.2
"""Opacity of intervals."""
SWATCH: dict[str, Any] = {"color": "0.3", "linewidth": 5, "alpha": BAND}

LOG_FROM = 5
"""Perplexity has a logarithmic axis where its largest value is more than so many times its smallest."""


@styled
def measures(found: pd.DataFrame) -> dict[str, Figure]:
    """Measures per generation, conditions overlaid: means over three or more seeds, or runs, with 95 % intervals.

    A grey band is held-out human text of the same size, dotted lines are neutral drift: what a perfect model that
    merely resamples its training text would have lost by then. There is no figure of measures that no run took.
    """
    of_kind = kinds(found)
    readings = pd.concat([of_kind[kind] for kind in (TEXT, IMAGES) if kind in of_kind] or [found[:0]])
    readings = readings[readings["at"].isna()]
    taken = set(readings["measure"])
    return {stem: _draw(readings, panels) for stem, panels in FIGURES.items() if taken & {*chain(*panels)}}


def _draw(readings: pd.DataFrame, panels: list[list[str]]) -> Figure:
    rows, columns = len(panels), len(panels[0])
    size = (DOUBLE if columns > 2 else SINGLE, 0.4 + 1.6 * rows if rows > 1 else 2.2)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    generations = 1 + int(readings["generation"].max())
    drawn = lines(readings, by_run=True)
    styles = line_styles([line.label for line in drawn], generations)
    for row, measures_of_row in enumerate(panels):
        for column, measure in enumerate(measures_of_row):
            axes = grid[row, column]
            human = readings[(readings["measure"] == measure) & (readings["generation"] == HUMAN)][ENDS].dropna(
                how="all"
            )
            if over_what(drawn):  # each seed has its own human text, and the lines are means
                human = human.mean().to_frame().T
            _panel(axes, measure, drawn, human, styles)
            generation_axis(axes.xaxis, generations)
            axes.set_xlim(-0.3, generations - 0.7)
            if row == rows - 1:
                axes.set_xlabel("generation")
    figure.align_ylabels()
    entries = _entries(readings[readings["measure"].isin([*chain(*panels)])], drawn, styles)
    if readings["measure"].isin([f"{measure}_drift" for measure in chain(*panels)]).any():
        entries = {**entries, "neutral drift": {**DRIFT_LINE, "color": "0.3"}}
    if entries:
        legend(figure, entries)
    return figure


def _entries(
    shown: pd.DataFrame, drawn: Sequence[Line], styles: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    entries = styles if len(styles) > 1 else {}
    alone = [line.runs[0]["run"].iloc[0] for line in drawn if line.seeds == 1]
    intervals = shown.loc[shown["run"].isin(alone) & (shown["generation"] != HUMAN), ["low", "high"]]
    if over_seeds := over_what(drawn):
        entries = {**entries, over_seeds: SWATCH, "single seeds": {**SINGLE_SEED, "color": "0.3"}}
    if intervals.notna().any(axis=None):
        entries = {**entries, "95 % interval of a run" if over_seeds else "95 % interval": SWATCH}
    if shown.loc[shown["generation"] == HUMAN, "value"].notna().any():
        what = "images" if shown["measure"].isin([*chain(*FIGURES["image_measures"])]).any() else "text"
        entries = {**entries, f"held-out human {what}": HUMAN_LINE}
    return entries


def _panel(
    axes: Axes, measure: str, drawn: Sequence[Line], human: pd.DataFrame, styles: dict[str, dict[str, Any]]
) -> None:
    for low, high in set(human[["low", "high"]].dropna().itertuples(index=False, name=None)):
        axes.axhspan(low, high, color="0.85", linewidth=0)
    for value in set(human["value"].dropna()):
        axes.axhline(value, **HUMAN_LINE)
    levels, ends = [], [human["value"], human["high"]]
    for line in drawn:
        if not any(len(single) for single in line.singles(measure)):
            continue
        style, rows, singles = styles[line.label], line.rows(measure), line.singles(measure)
        for single in singles if line.seeds > 1 else ():
            axes.plot(single["generation"], single["value"], color=style["color"], **SINGLE_SEED)
        axes.fill_between(rows["generation"], rows["low"], rows["high"], color=style["color"], alpha=BAND, lw=0)
        axes.plot(rows["generation"], rows["value"], clip_on=False, **style)
        levels += [single["value"] for single in singles]
        ends += [rows["high"]]
        if any(len(single) for single in line.singles(f"{measure}_drift")):
            drift = line.rows(f"{measure}_drift")
            axes.plot(drift["generation"], drift["value"], color=style["color"], **DRIFT_LINE)
            ends += [drift["value"]]
    axes.set_ylabel(LABELS[measure])
    written = pd.concat(levels) if levels else pd.Series(dtype=float)
    low, high = written.min(), pd.concat([written, *ends]).max()
    if written.isna().all():
        axes.text(0.5, 0.5, "no values", ha="center", va="center", transform=axes.transAxes, color="0.5")
        axes.set_yticks([])
    elif measure == "perplexity" and high > LOG_FROM * low:
        axes.set_yscale("log")
        axes.set_ylim(log_axis(axes.yaxis, low, high))
    else:  # from zero, so that a small change looks small
        axes.set_ylim(min(0, 1.05 * low), 1.05 * max(high, 0) or 1)
