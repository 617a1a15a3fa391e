"""Conditions against each other, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lmcollapse.trajectories import over_seeds, refuse_twins, t_quantile
from lmcollapse.types import UserError

COLUMNS = ("condition", "against", "generation", "measure", "value", "low", "high", "seeds")


def paired(found: pd.DataFrame, against: str | None = None) -> pd.DataFrame:
    """Differences from one condition, seed by seed: their mean over seeds, with the 95 % t-interval over seeds.

    Runs with the same seed in different conditions share generation 0 and all their random streams. Much of what chance
    does to the one it does to the other, and that falls out of their difference: the interval is narrower than that of
    two independent means, and in generation 0 the difference is exactly 0. Mean +- t * deviation / sqrt(n) of the n
    differences, with the t of n - 1 degrees of freedom (Student 1908, Biometrika 6, 1-25).

    Columns, a row for each condition, generation from 0 on and measure that both have:

    condition, against : the value is that of `condition` less that of `against`.
    generation, measure : as in `results.table`.
    value : NaN where one of the runs has none.
    low, high : the interval, NaN with one seed.
    seeds : pairs of runs; only seeds that both conditions have count.

    found : a tidy table as `results.table` gives it.
    against : a condition of the table, by default its first one.

    Raises UserError for a condition that is not there, one that has no seed in common with `against`, and runs of one
    condition with the same seed.
    """
    conditions = list(dict.fromkeys(found["condition"]))
    against = _reference(conditions, against)
    refuse_twins(found)
    written = found[found["generation"] >= 0]
    base = written[written["condition"] == against]
    keys = ["seed", "generation", "measure"]
    pairs = written[written["condition"] != against].merge(base[[*keys, "value"]], on=keys, suffixes=("", "_against"))
    for condition in conditions:
        if condition != against and condition not in set(pairs["condition"]):
            raise UserError(
                f"conditions '{condition}' and '{against}' have no seed in common; "
                "give runs of both with the same seeds"
            )
    pairs["difference"] = pairs["value"] - pairs["value_against"]
    groups = pairs.groupby(["condition", "generation", "measure"], sort=False)["difference"]
    seeds = groups.size()
    known = groups.count() == seeds  # a difference that is not a number makes the mean none, in every pandas
    value, deviation = groups.mean().where(known), groups.std().where(known)
    t = np.array([t_quantile(int(n) - 1) if n > 1 else np.nan for n in seeds])
    half = t * deviation / np.sqrt(seeds)
    rows = pd.DataFrame({"value": value, "low": value - half, "high": value + half, "seeds": seeds}).reset_index()
    return rows.assign(against=against)[list(COLUMNS)]


def by_condition(found: pd.DataFrame) -> pd.DataFrame:
    """Every condition as its seeds have it: the means of its measures, and its differences from the first condition.

    Columns: those of `paired`; where `against` is "" the value is the mean over seeds (`over_seeds`). No rows where
    each condition has one seed. Of the first condition's seeds a condition needs two for differences.

    found : a tidy table; curves are left out.
    """
    scalars = found[found["at"].isna()]
    seeds = {str(name): set(rows["seed"]) for name, rows in scalars.groupby("condition", sort=False)}
    if max(map(len, seeds.values()), default=0) < 2:
        return pd.DataFrame(columns=list(COLUMNS))
    means = over_seeds(scalars).assign(against="")
    first, *others = seeds
    pairs = [name for name in others if len(seeds[name] & seeds[first]) > 1]
    parts = [means] + ([paired(scalars[scalars["condition"].isin([first, *pairs])], first)] if pairs else [])
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def _reference(conditions: Sequence[str], against: str | None) -> str:
    """The condition that the others are compared with."""
    if len(conditions) < 2:
        raise UserError(
            f"there is one condition, '{conditions[0]}', and nothing to compare it with; give runs of two or more"
            if conditions
            else "there are no runs to compare; give runs of two conditions or more"
        )
    if against is None:
        return conditions[0]
    if against not in conditions:
        raise UserError(f"no run has the condition '{against}'; these have: {', '.join(conditions)}")
    return against
