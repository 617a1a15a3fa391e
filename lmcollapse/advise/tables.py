"""Advice as tables for the terminal, legible from 80 columns on."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table

from lmcollapse.advise.conclusion import Advice
from lmcollapse.progress import bare_table, literal, number


def advice_table(advice: Advice) -> Group:
    """The losses by share, the answer, and what a detector would be worth."""
    last, loss = advice.generations - 1, f"{100 * advice.loss:g} %"
    exact = [] if advice.exact is None else [f"by theory it is {advice.exact:.3g}"]
    interval = f"95 % interval {advice.answer.low:g} … {advice.answer.high:g}"
    return Group(
        f"{literal(advice.measure)} in generation {last}, against human text alone ({advice.policy})",
        "",
        _losses(advice),
        "",
        f"[bold]human share needed for a loss of at most {loss}:[/bold] {advice.sentence}",
        "; ".join([interval, *exact]),
        *(f"to narrow it: {line}" for line in advice.next_steps),
        "",
        "human share that an unlabelled pool needs, if a detector filters it,",
        f"which must keep {100 * advice.keep:g} % of the human text",
        "",
        _detectors(advice),
    )


def _losses(advice: Advice) -> Table:
    drawn = _empty("human share", literal(advice.measure), "loss", "95 % interval", "fitted")
    theory = bool(advice.shares["exact"].notna().any())
    if theory:
        drawn.add_column("theory", justify="right", no_wrap=True)
    drawn.add_column(f"within {100 * advice.loss:g} %", no_wrap=True)
    for row in advice.shares.to_dict("records"):
        baseline = row["share"] == 1
        within = "yes" if row["band_high"] <= advice.loss else "no" if row["band_low"] > advice.loss else "undecided"
        interval = "" if baseline else f"{_percent(row['low'])} … {_percent(row['high'])}"
        figures = [_percent(row["loss"]), interval, _percent(row["fitted"])]
        figures += [_percent(row["exact"])] if theory else []
        value = number(None if np.isnan(row["value"]) else row["value"])
        drawn.add_row(f"{row['share']:g}", value, *figures, "baseline" if baseline else within)
    return drawn


def _detectors(advice: Advice) -> Table:
    drawn = _empty("detector's AUC", "finds", "loses", "human share of the pool", "95 % interval")
    for row in advice.detectors.to_dict("records"):
        ends = f"{_share(row['pool_low'])} … {_share(row['pool_high'])}"
        rates = (_percent(row["found"]), _percent(row["lost"]))
        auc = f"{row['auc']:g}" + {0.5: " (none)", 1.0: " (never wrong)"}.get(row["auc"], "")
        drawn.add_row(auc, *rates, "any" if row["auc"] == 1 else _share(row["pool"]), "" if row["auc"] == 1 else ends)
    return drawn


def _empty(*headings: str) -> Table:
    drawn = bare_table()
    for heading in headings:
        drawn.add_column(heading, justify="right", no_wrap=True)
    return drawn


def _share(share: Any) -> str:
    return f"{share:.2g}"


def _percent(part: Any) -> str:
    """A relative number; a dash where it is not known."""
    if not np.isfinite(part):
        return "–"
    digits = 0 if abs(part) >= 1 else 1
    return f"{round(100 * part, digits) + 0.0:,.{digits}f} %"
