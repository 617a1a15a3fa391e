"""Every measure by generation, as the page draws it: seeds, their mean, human data, drift, theory, differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lmcollapse.config import recorded
from lmcollapse.figures import chains, measures
from lmcollapse.pairs import paired
from lmcollapse.progress import SHOWN_OF_IMAGES
from lmcollapse.report.gather import Condition, Gathered
from lmcollapse.results import over_chains, table
from lmcollapse.theory import expected
from lmcollapse.trajectories import over_seeds
from lmcollapse.types import HUMAN, UserError

FIRST = (
    *("perplexity", "distinct_2", "tail_coverage", "self_bleu", "mauve", "invented_words", "semantic_diversity"),
    *("sequence_perplexity_median", "unigram_js", "compression_ratio", "bits_per_byte"),
    *SHOWN_OF_IMAGES,
)
"""Measures that a reader meets first, in this order; of simple models those of their figures come after them."""
LABELS = {
    **chains.LABELS,
    **measures.LABELS,
    **{f"distinct_{n}_human": f"distinct-{n}, over human words" for n in range(1, 5)},
    "human_fraction": "human share of the training rows",
    "human_fraction_of_tokens": "human share of the training tokens",
    "sequence_perplexity_median": "perplexity of what was written, median",
    "collapsed": "share of chains that have collapsed",
}
DRIFT, EXCESS = "_drift", "_excess"
SHARE = "human_fraction"
"""Begins the names of what a run was given, and did not come to."""
NUMBERS = 60_000
"""Numbers that the page may hold before generations are thinned; each takes about eight bytes."""
FEWEST, MOST = 8, 160
"""Generations that are drawn, whatever there is."""
LOG_FROM = 5
"""A positive measure of which the largest value is so many times the smallest begins on a logarithmic axis."""

Row = list[float | None]


@dataclass(frozen=True)
class Curves:
    """What the page draws.

    generations : that are drawn, of so many (`all_generations`) that there are.
    lines : one a run: the number of its condition, and what tells it from the others there.
    measures : JSON-able, one a measure; see `_measure`.
    against : the condition that the others are compared with, None where nothing can be paired.
    """

    generations: list[int]
    all_generations: int
    conditions: list[str]
    lines: list[tuple[int, str]]
    measures: list[dict[str, Any]]
    against: str | None

    def as_json(self) -> dict[str, Any]:
        """For the script of the page, names as they may be shown."""
        return {"generations": self.generations, "lines": self.lines, "measures": self.measures}


def curves(gathered: Gathered) -> Curves:
    """The curves of all runs. UserError as `results.table` has it, as for a run without a finished generation."""
    paths = [run.path for run in gathered.runs]
    found = table(paths)
    named = [name for name in dict.fromkeys(found["measure"]) if _shown(found, name)]
    every = range(1 + int(found["generation"].max()))
    generations = thinned(len(every), NUMBERS // max(1, 3 * len(paths) * len(named)))
    found = found[found["generation"].isin([HUMAN, *generations])]
    found = found.assign(condition=[gathered.of[run].label for run in found["run"]])
    means = _means(found, gathered.conditions)
    spread = over_chains(paths)
    differences, against = _differences(found, gathered.conditions)
    shelf = _Shelf(gathered, generations, found, means, spread, differences)
    return Curves(
        generations,
        len(every),
        [condition.label for condition in gathered.conditions],
        [(number, one.line(run)) for number, one in enumerate(gathered.conditions) for run in one.runs],
        [_measure(shelf, name) for name in _ordered(named, gathered)],
        against,
    )


def thinned(generations: int, most: int) -> list[int]:
    """At most so many generations, evenly on a logarithmic axis of fits; the first and the last are among them."""
    most = min(MOST, max(FEWEST, most))
    if generations <= most:
        return list(range(generations))
    return sorted({round(fit) - 1 for fit in np.geomspace(1, generations, most).tolist()})


def _shown(found: pd.DataFrame, name: str) -> bool:
    """Whether a measure is one of its own and has a value anywhere."""
    rows = found[(found["measure"] == name) & (found["generation"] != HUMAN)]
    return not name.endswith(DRIFT) and bool(rows["value"].notna().any())


def _ordered(named: Sequence[str], gathered: Gathered) -> list[str]:
    """What a reader meets first stands first, what a run was given last."""
    substrates = {run.config.get("substrate") for run in gathered.runs if run.kind == "chains"}
    of_chains = [name for kind, panels in chains.PANELS.items() if kind in substrates for name in panels]
    shares = [name for name in named if name.startswith(SHARE)]
    named = [*(name for name in named if name not in shares), *shares]
    return [name for name in dict.fromkeys([*FIRST, *of_chains, *named]) if name in named]


def _means(found: pd.DataFrame, conditions: Sequence[Condition]) -> pd.DataFrame:
    labels = [one.label for one in conditions if one.together]
    return over_seeds(found[found["condition"].isin(labels)])


def _differences(found: pd.DataFrame, conditions: Sequence[Condition]) -> tuple[pd.DataFrame | None, str | None]:
    """Of each condition from the first, seed by seed, where they have a measure of the same seed in common."""
    written = found[found["generation"] != HUMAN]
    first, *others = [one for one in conditions if one.distinct or one is conditions[0]]
    taken = {
        label: set(rows[["seed", "measure"]].itertuples(index=False, name=None))
        for label, rows in written.groupby("condition", sort=False)
    }
    pairs = [one.label for one in others if first.distinct and taken[one.label] & taken[first.label]]
    if not pairs:
        return None, None
    return paired(written[written["condition"].isin([first.label, *pairs])], first.label), first.label


@dataclass(frozen=True)
class _Shelf:
    """The tables that a measure is read from."""

    gathered: Gathered
    generations: Sequence[int]
    found: pd.DataFrame
    means: pd.DataFrame
    spread: pd.DataFrame
    differences: pd.DataFrame | None


def _measure(shelf: _Shelf, name: str) -> dict[str, Any]:
    """One measure.

    runs : of each line, its values and both ends of their intervals.
    spread : of each line, 5 % and 95 % of the chains, or None.
    means : of each condition the same over seeds, or None where there are too few.
    drift, theory : of each condition what a perfect model would have, and what theory expects, or None.
    human : value, low and high of human data, as often as they differ.
    differences : of each condition value, low, high and seeds, or None.
    """
    found = shelf.found[shelf.found["measure"] == name]
    written, human = found[found["generation"] != HUMAN], found[found["generation"] == HUMAN]
    drift = shelf.found[shelf.found["measure"] == name + DRIFT]
    conditions = shelf.gathered.conditions
    runs = [_columns(written[written["run"] == run.name], shelf.generations) for run in shelf.gathered.runs]
    values = [value for run in runs for value in run[0] if value is not None]
    return {
        "name": name,
        "label": label_of(name),
        "log": _begins_on_log(name, values, shelf.gathered.runs[0].kind == "chains"),
        "human": _humans(human),
        "runs": runs,
        "spread": _spreads(shelf, name),
        "means": [_mean(shelf, name, one) for one in conditions],
        "drift": [_drift(drift, one, shelf.generations) for one in conditions],
        "theory": [_theory(one, name, shelf.generations) for one in conditions],
        "differences": [_difference(shelf, name, one) for one in conditions],
    }


def _begins_on_log(name: str, values: Sequence[float], chains: bool) -> bool:
    """Others begin on a linear axis from zero, so that a small change looks small, and nothing as nothing."""
    wide = min(values) > 0 and max(values) > LOG_FROM * min(values)
    return wide and (chains or "perplexity" in name)


def label_of(name: str) -> str:
    """A measure in words."""
    if name.endswith(EXCESS):
        return f"{label_of(name.removesuffix(EXCESS))}, less neutral drift"
    return LABELS.get(name, name.replace("_", " "))


def _columns(
    rows: pd.DataFrame, generations: Sequence[int], names: Sequence[str] = ("value", "low", "high")
) -> list[Row]:
    by_generation = rows.drop_duplicates("generation").set_index("generation")
    part = by_generation.reindex(list(generations))
    return [[rounded(value) for value in part[name].tolist()] for name in names]


def _humans(rows: pd.DataFrame) -> list[Row]:
    seen: dict[tuple[float | None, ...], None] = {}
    for _, part in rows.groupby("condition", sort=False):
        seen.setdefault(tuple(rounded(part[name].mean(skipna=False)) for name in ("value", "low", "high")))
    return [list(one) for one in seen if one[0] is not None]


def _spreads(shelf: _Shelf, name: str) -> list[list[Row] | None]:
    part = shelf.spread[shelf.spread["measure"] == name]
    found: list[list[Row] | None] = []
    for run in shelf.gathered.runs:
        rows = part[(part["run"] == run.name) & part["generation"].isin(shelf.generations) & part["p5"].notna()]
        found.append(_columns(rows, shelf.generations, ("p5", "p95")) if len(rows) else None)
    return found


def _mean(shelf: _Shelf, name: str, one: Condition) -> list[Row] | None:
    """Only of generations that all of its runs have."""
    means = shelf.means
    if not one.together:
        return None
    chosen = (means["condition"] == one.label) & (means["measure"] == name) & (means["generation"] != HUMAN)
    return _columns(means[chosen & (means["seeds"] == len(one.runs))], shelf.generations)


def _drift(rows: pd.DataFrame, one: Condition, generations: Sequence[int]) -> Row | None:
    part = rows[(rows["condition"] == one.label) & (rows["generation"] != HUMAN)]
    if part["value"].isna().all():
        return None
    mean = part.groupby("generation")["value"].mean()
    return _columns(mean.reset_index(), generations, ("value",))[0]


def _theory(one: Condition, name: str, generations: Sequence[int]) -> Row | None:
    if one.first.kind != "chains":
        return None
    try:
        known = expected(recorded(one.first.config), name)
    except UserError:  # a part of the configuration is from outside the project
        return None
    return None if known is None else [rounded(known[g]) if g < len(known) else None for g in generations]


def _difference(shelf: _Shelf, name: str, one: Condition) -> list[Row] | None:
    found = shelf.differences
    if found is None:
        return None
    rows = found[(found["condition"] == one.label) & (found["measure"] == name)]
    return _columns(rows, shelf.generations, ("value", "low", "high", "seeds")) if len(rows) else None


def rounded(value: Any) -> float | None:
    """Five digits of a number, None where it is none."""
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None
