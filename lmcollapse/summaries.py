"""What each measure did over a run: how far it went, which one warned first, how fast it fell by half."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, takewhile
from pathlib import Path

import numpy as np
import pandas as pd
from rich.table import Table

from lmcollapse.progress import bare_table, literal, number
from lmcollapse.trajectories import Subject, Trajectory, families, slope, subjects


def summaries(runs: Sequence[Path]) -> pd.DataFrame:
    """What each measure did over the generations of each run, one a row; see `summarise`.

    Raises UserError as `results.table` does.
    """
    return _rows([subject for family in families(runs) for subject in family])


def summarise(found: pd.DataFrame) -> pd.DataFrame:
    """A tidy table (`results.table`) in summary: one row a run and measure.

    Three runs or more of one condition with different seeds are one row, and their intervals are over seeds. Neutral
    drift is no measure of what a run did, and has no row. Columns:

    - `run`, `condition`, `seeds` (runs taken together), `measure`
    - `first`, `last`: the value in generation 0 and in the last generation
    - `change`, `change_low`, `change_high`: the last less the first, with the 95 % interval
    - `first_warning`: the first generation from which on the difference from generation 0 excludes zero and stays on
      that side, in all later generations; missing where there is none
    - `warning`: "yes", "no", or "undecided" where no later generation has an interval of the difference
    - `half_life`: generations until a measure that falls has lost half of its value in generation 0, by log-linear
      interpolation; NaN where it does not come to that
    - `half_life_fit`: ln 2 / -b of the regression ln value = a + b generation; NaN where the 95 % interval of b is not
      all below 0
    - `half_life_note`: "reached", "not reached", or "undefined" where generation 0 has no value above 0

    To warn, the last generation must differ: without change that happens once in twenty times, however many generations
    there are. Nothing is corrected for the number of measures: of m that do not change, m / 20 warn.
    """
    return _rows(subjects(found))


def _rows(found: Sequence[Subject]) -> pd.DataFrame:
    rows = []
    for subject in found:
        for name, trajectory in subject.measures.items():
            if name.endswith("_drift"):
                continue
            change = trajectory.against(subject.last, 0)
            warning, decided = first_warning(trajectory, subject.last)
            values = [trajectory.at(generation).value for generation in range(subject.last + 1)]
            halved = half_life(values)
            positive = bool(values) and values[0] > 0
            rows.append(
                {
                    "run": subject.name,
                    "condition": subject.condition,
                    "seeds": subject.seeds,
                    "measure": name,
                    "first": trajectory.at(0).value,
                    "last": trajectory.at(subject.last).value,
                    "change": change.value,
                    "change_low": change.low,
                    "change_high": change.high,
                    "first_warning": warning,
                    "warning": "undecided" if not decided else "no" if warning is None else "yes",
                    "half_life": halved,
                    "half_life_fit": half_life_fit(values),
                    "half_life_note": "undefined" if not positive else "not reached" if np.isnan(halved) else "reached",
                }
            )
    return pd.DataFrame(rows).astype({"first_warning": "Int64"})


def first_warning(trajectory: Trajectory, last: int) -> tuple[int | None, bool]:
    """The first generation that differs from generation 0 as all later ones do, and whether that could be told.

    Generations without an interval are passed over.
    """
    gaps = ((g, trajectory.against(g, 0)) for g in range(last, 0, -1))
    known = [(g, gap) for g, gap in gaps if gap.known]
    side = np.sign(known[0][1].value) if known else 0
    staying = [g for g, _ in takewhile(lambda entry: min(side * entry[1].low, side * entry[1].high) > 0, known)]
    return (staying[-1] if staying else None), bool(known)


def half_life(values: Sequence[float]) -> float:
    """Generations until a measure has lost half of its first value, NaN where it does not or has none above 0.

    Between two generations the logarithm is interpolated, or the value itself where the later one is not above 0.
    """
    if not values or not values[0] > 0:
        return np.nan
    half = values[0] / 2
    known = [(generation, value) for generation, value in enumerate(values) if not np.isnan(value)]
    for (g, before), (h, after) in pairwise(known):
        if after <= half:
            part = np.log(before / half) / np.log(before / after) if after > 0 else (before - half) / (before - after)
            return g + (h - g) * float(part)
    return np.nan


def half_life_fit(values: Sequence[float]) -> float:
    """The half-life of the exponential fitted to the values before the first that is not above 0; at least three."""
    kept = list(takewhile(lambda value: value > 0, values))
    if len(kept) < 3:
        return np.nan
    rate = slope(range(len(kept)), [float(np.log(value)) for value in kept])
    return float(np.log(2)) / -rate.value if rate.high < 0 else np.nan


def summaries_table(found: pd.DataFrame) -> Table:
    """Summaries as a table for the terminal, what warned first stands first (t½: half-life)."""
    shown = bare_table()
    shown.add_column("measure", overflow="fold", min_width=26)
    for heading in ("first", "last", "change, 95 %", "warns", "t½"):
        shown.add_column(heading, justify="right", no_wrap=heading != "change, 95 %")
    for run, rows in found.groupby("run", sort=False):
        shown.add_row(f"[bold]{literal(str(run))}[/bold]")
        for row in rows.sort_values("first_warning", kind="stable").itertuples():
            warns = {"yes": str(row.first_warning), "no": "no"}.get(str(row.warning), "?")
            halved = f"{row.half_life:.1f}" if row.half_life_note == "reached" else "–"
            change = f"{_number(row.change_low)} … {_number(row.change_high)}"
            shown.add_row(literal(str(row.measure)), _number(row.first), _number(row.last), change, warns, halved)
    return shown


def _number(value: object) -> str:
    assert isinstance(value, float), value
    return number(None if np.isnan(value) else value)
