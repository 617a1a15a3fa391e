"""Summaries and verdicts, on tables made by hand whose outcome is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from rich.table import Table
from scipy import stats

from lmcollapse.readings import write_readings
from lmcollapse.records import FORMAT, sealed
from lmcollapse.summaries import half_life, half_life_fit, summaries, summaries_table, summarise
from lmcollapse.trajectories import Estimate, difference, over_seeds, ratio, share_of_sum, subjects
from lmcollapse.types import HUMAN, Floats, Reading, UserError
from lmcollapse.verdicts import judge, verdicts, verdicts_table
from lmcollapse.verdicts.definitions import DEFINITIONS, Thresholds

NAN = float("nan")
Z = 1.959964

CATASTROPHIC, ANY, DIVERGING, SCALING, VARIANCE, MODES, TAILS, HALLUCINATED = DEFINITIONS
UNDECIDABLE = "undecidable from this run"

Column = Sequence[float]


def tidy(
    measures: Mapping[str, Column],
    half: float | None = 0.01,
    human: Mapping[str, float] | None = None,
    run: str = "run",
    seed: int = 0,
    condition: str = "replace",
) -> pd.DataFrame:
    """A run whose measures have these values by generation; the half-width of intervals is a share of the value."""
    rows = [
        (run, condition, seed, generation, name, value, *((NAN, NAN) if half is None else interval(value, half)))
        for name, values in [*((n, list(enumerate(v))) for n, v in measures.items())]
        for generation, value in values
    ]
    rows += [(run, condition, seed, HUMAN, name, v, *interval(v, half or 0.01)) for name, v in (human or {}).items()]
    columns = ["run", "condition", "seed", "generation", "measure", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def interval(value: float, half: float) -> tuple[float, float]:
    return value - half * abs(value), value + half * abs(value)


def verdict(definition: str, found: pd.DataFrame, **options: Any) -> pd.Series[Any]:
    rows = judge(found, **options)
    (row,) = (row for _, row in rows[rows["definition"] == definition].iterrows())
    return row


def summary(found: pd.DataFrame, measure: str) -> pd.Series[Any]:
    rows = summarise(found)
    (row,) = (row for _, row in rows[rows["measure"] == measure].iterrows())
    return row


def seeds_of(measures: Sequence[Mapping[str, Column]], **options: Any) -> pd.DataFrame:
    return pd.concat(
        [tidy(m, run=f"run {seed}", seed=seed, half=None, **options) for seed, m in enumerate(measures)],
        ignore_index=True,
    )


# arithmetic of intervals


def test_a_difference_of_normal_intervals() -> None:
    found = difference(Estimate(5.0, 5 - Z * 0.3, 5 + Z * 0.3), Estimate(3.0, 3 - Z * 0.4, 3 + Z * 0.4))
    assert found == pytest.approx((2.0, 2 - Z * 0.5, 2 + Z * 0.5))


def test_a_ratio_covers_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(2.0, 0.2, 2000), rng.normal(4.0, 0.4, 2000)
    pairs = [
        ratio(Estimate(x, x - Z * 0.2, x + Z * 0.2), Estimate(y, y - Z * 0.4, y + Z * 0.4))
        for x, y in zip(a.tolist(), b.tolist(), strict=True)
    ]
    assert np.mean([low < 0.5 < high for _, low, high in pairs]) == pytest.approx(0.95, abs=0.015)


def test_a_ratio_at_its_ends() -> None:
    four = Estimate(4.0, 3.0, 5.0)
    assert ratio(Estimate(0.0, 0.0, 0.0), four) == (0.0, 0.0, 0.0)
    assert np.isnan(ratio(four, Estimate(0.0, 0.0, 0.0))).all()
    assert ratio(four, Estimate(1.0, -1.0, 3.0))[1:] == (-np.inf, np.inf)
    assert ratio(Estimate(4.0), four)[0] == 1.0 and not ratio(Estimate(4.0), four).known


@pytest.mark.parametrize("runs", [1, 5])
def test_the_share_of_the_second_half_covers_the_truth(runs: int) -> None:
    rng = np.random.default_rng(1)
    walks = rng.normal(np.r_[np.full(5, 0.9), np.full(5, 0.3)], 0.1, (2000, runs, 10))
    shares = [share_of_sum(walk) for walk in walks]
    assert np.mean([share.low < 0.25 < share.high for share in shares]) == pytest.approx(0.95, abs=0.015)


def test_a_sum_that_may_be_zero_has_no_share() -> None:
    share = share_of_sum(np.array([[1.0, -1.2, 0.3, -1.0, 1.1, -0.1]]))
    assert (share.low, share.high) == (-np.inf, np.inf)


# over seeds


def test_over_seeds_is_the_mean_and_the_t_interval() -> None:
    found = over_seeds(seeds_of([{"distinct_2": [0.5, v]} for v in (0.3, 0.4, 0.45)], human={"distinct_2": 0.6}))
    row = found[found["generation"] == 1].iloc[0]
    low, high = stats.t.interval(0.95, 2, np.mean([0.3, 0.4, 0.45]), stats.sem([0.3, 0.4, 0.45]))
    assert (row["value"], row["low"], row["high"], row["seeds"]) == pytest.approx((1.15 / 3, low, high, 3))
    assert list(found.columns) == ["condition", "generation", "measure", "value", "low", "high", "seeds"]
    band = found[found["generation"] == HUMAN].iloc[0]
    assert (band["low"], band["high"]) == pytest.approx((0.594, 0.606))


def test_a_seed_without_a_value_is_not_left_out() -> None:
    found = over_seeds(seeds_of([{"perplexity": [20, v]} for v in (30, NAN, 35)]))
    assert np.isnan(found[found["generation"] == 1]["value"]).all()


def test_one_seed_twice_is_no_sample() -> None:
    with pytest.raises(UserError, match="condition 'replace' have the seed 0"):
        over_seeds(pd.concat([tidy({"distinct_2": [0.5]}, run=name) for name in ("a", "b")]))


def test_three_seeds_are_one_subject_and_two_are_not() -> None:
    three = seeds_of([{"distinct_2": [0.5, 0.4]}] * 3)
    assert [s.name for s in subjects(three)] == ["run 0, run 1, run 2"]
    assert len(subjects(three[three["seed"] < 2])) == 2
    assert len(subjects(three.assign(seed=0))) == 3
    assert len(subjects(three, {"run 0": 1e3, "run 1": 1e4, "run 2": 1e5})) == 3
    longer = pd.concat([three, tidy({"distinct_2": [0.5, 0.4, 0.3]}, run="run 3", seed=3)])
    assert [s.last for s in subjects(longer)] == [1]


def test_seeds_are_paired() -> None:
    """Runs that start far apart and fall by the same: the difference is sharp, although the levels are not."""
    starts = (0.9, 0.6, 0.3)
    row = summary(seeds_of([{"distinct_2": [s, s - 0.1 - s / 100]} for s in starts]), "distinct_2")
    assert (row["first_warning"], row["seeds"]) == (1, 3)
    assert row["change"] == pytest.approx(-0.106) and row["change_high"] < -0.09


# summaries


def test_the_half_life_of_an_exponential() -> None:
    values = [0.9 * 2 ** (-g / 2.5) for g in range(8)]
    assert half_life(values) == pytest.approx(2.5)
    assert half_life_fit(values) == pytest.approx(2.5)
    row = summary(tidy({"tail_coverage": values}), "tail_coverage")
    assert (row["half_life"], row["half_life_fit"]) == pytest.approx((2.5, 2.5))
    assert row["half_life_note"] == "reached"
    assert (row["first"], row["last"]) == pytest.approx((values[0], values[-1]))


def test_a_half_life_beyond_the_run_is_said_to_be() -> None:
    row = summary(tidy({"tail_coverage": [2 ** (-g / 20) for g in range(6)]}), "tail_coverage")
    assert row["half_life_note"] == "not reached" and np.isnan(row["half_life"])
    assert row["half_life_fit"] == pytest.approx(20)


def test_what_does_not_fall_has_no_half_life() -> None:
    rng = np.random.default_rng(0)
    level = rng.normal(0.5, 0.01, 10).tolist()
    assert np.isnan(half_life(level)) and np.isnan(half_life_fit(level))
    assert np.isnan(half_life([1.0])) and np.isnan(half_life([])) and np.isnan(half_life([NAN, 0.1]))
    assert np.isnan(half_life_fit([1.0, 0.5]))
    assert summary(tidy({"survival_1_excess": [-0.1, -0.3]}), "survival_1_excess")["half_life_note"] == "undefined"


def test_half_lives_pass_over_gaps_and_end_at_zero() -> None:
    assert half_life([1.0, NAN, 0.25]) == pytest.approx(1.0)
    assert half_life([1.0, 0.0]) == pytest.approx(0.5)
    assert half_life_fit([1.0, 0.5, 0.25, 0.0]) == pytest.approx(1.0)


def test_a_warning_must_stay() -> None:
    flicker = tidy({"distinct_2": [0.5, 0.4, 0.5, 0.45, 0.42]})
    assert summary(flicker, "distinct_2")["first_warning"] == 3
    other_side = tidy({"distinct_2": [0.5, 0.4, 0.4, 0.6]})
    assert summary(other_side, "distinct_2")["first_warning"] == 3
    back = summary(tidy({"distinct_2": [0.5, 0.4, 0.5]}), "distinct_2")
    assert back["warning"] == "no" and back["first_warning"] is pd.NA


def test_without_an_interval_a_warning_is_undecided() -> None:
    assert summary(tidy({"mauve": [0.9, 0.1]}, half=None), "mauve")["warning"] == "undecided"
    assert summary(tidy({"mauve": [0.9]}), "mauve")["warning"] == "undecided"
    assert summary(tidy({"mauve": [NAN, 0.5]}), "mauve")["warning"] == "undecided"
    gap = tidy({"mauve": [0.9, 0.5, NAN, 0.4, NAN]})
    assert summary(gap, "mauve")["first_warning"] == 1


def test_false_alarms_are_as_many_as_stated() -> None:
    """No change, twelve generations: a first warning in one run of twenty, not in one of three."""
    rng = np.random.default_rng(0)
    found = rng.normal(10, 0.5, (2000, 12))
    runs = {f"m{i}": values.tolist() for i, values in enumerate(found)}
    table = tidy(runs, half=None)
    table["low"], table["high"] = table["value"] - Z * 0.5, table["value"] + Z * 0.5
    warned = (summarise(table)["warning"] == "yes").mean()
    assert warned == pytest.approx(0.05, abs=0.015)


def test_drift_is_no_measure_of_the_run() -> None:
    found = summarise(tidy({"tail_coverage": [0.5, 0.4], "tail_coverage_drift": [0.5, 0.45]}))
    assert found["measure"].tolist() == ["tail_coverage"]


# risk


@pytest.mark.parametrize(
    ("perplexity", "half", "answer"),
    [
        ([20, 50], 0.01, "holds"),
        ([20, 30], 0.01, "does not hold"),
        ([20, 40.5], 0.05, "undecided"),
        ([20, 50], None, UNDECIDABLE),
        ([20, NAN], 0.01, UNDECIDABLE),
        ([20], 0.01, UNDECIDABLE),
    ],
)
def test_catastrophic_increase(perplexity: Column, half: float | None, answer: str) -> None:
    assert verdict(CATASTROPHIC, tidy({"perplexity": perplexity}, half))["verdict"] == answer


def test_a_verdict_names_its_numbers() -> None:
    row = verdict(CATASTROPHIC, tidy({"perplexity": [20, 50]}))
    assert row["statistic"] == pytest.approx(2.5) and row["low"] < 2.5 < row["high"] and row["threshold"] == 2
    assert (row["low"], row["high"]) == pytest.approx((2.465, 2.536), abs=0.002)
    assert "2.5 [2.46, 2.54] times that of generation 0" in row["sentence"]
    assert (row["measure"], row["generation"], row["seeds"]) == ("perplexity", 1, 1)
    assert verdict(CATASTROPHIC, tidy({"perplexity": [20, 50]}), thresholds=Thresholds(catastrophic_factor=3))[
        "verdict"
    ] == ("does not hold")


@pytest.mark.parametrize(
    ("perplexity", "half", "answer"),
    [
        ([20, 20.5], 0.005, "holds"),
        ([20, 20], 0.005, "does not hold"),
        ([20, 19], 0.02, "does not hold"),
        ([20, 20.1], 0.02, "undecided"),
        ([20, 30], None, UNDECIDABLE),
    ],
)
def test_any_increase(perplexity: Column, half: float | None, answer: str) -> None:
    assert verdict(ANY, tidy({"perplexity": perplexity}, half))["verdict"] == answer


GENERATIONS = np.arange(11)


def growing(log_perplexity: Column | Floats, noise: float = 0.0, seed: int = 0) -> dict[str, Column]:
    values = np.asarray(log_perplexity) + np.random.default_rng(seed).normal(0, noise, len(log_perplexity))
    return {"perplexity": (20 * np.exp(values)).tolist()}


@pytest.mark.parametrize(
    ("growth", "answer"),
    [
        (0.1 * GENERATIONS, "holds"),
        (0.01 * GENERATIONS**2, "holds"),
        (1 - np.exp(-GENERATIONS), "does not hold"),
        (np.cumsum(1 / (GENERATIONS + 1) ** 2), "does not hold"),
        (0.3 * np.sqrt(GENERATIONS), "undecided"),
        (0 * GENERATIONS, "does not hold"),
        (0.1 * GENERATIONS[:6], UNDECIDABLE),
        (np.where(GENERATIONS == 4, NAN, 0.1 * GENERATIONS), UNDECIDABLE),
        (0.001 * GENERATIONS, "undecided"),
    ],
)
def test_divergence_of_several_seeds(growth: Column, answer: str) -> None:
    found = seeds_of([growing(growth, 0.003, seed) for seed in range(5)])
    assert verdict(DIVERGING, found)["verdict"] == answer


@pytest.mark.parametrize(
    ("growth", "noise", "answer"),
    [
        (0.1 * GENERATIONS, 0.003, "holds"),
        (1 - np.exp(-4 * GENERATIONS), 0.003, "undecided"),  # of one run, the first leap may be chance
        (np.minimum(GENERATIONS, 5) / 5, 0.003, "does not hold"),
        (0.1 * GENERATIONS, 0.3, "undecided"),
    ],
)
def test_divergence_of_one_run(growth: Column, noise: float, answer: str) -> None:
    assert verdict(DIVERGING, tidy(growing(growth, noise)))["verdict"] == answer


def test_divergence_names_the_share() -> None:
    row = verdict(DIVERGING, tidy(growing(0.1 * GENERATIONS)))
    assert (row["statistic"], row["threshold"]) == pytest.approx((0.5, 1 / 3))
    assert verdict(DIVERGING, tidy({"distinct_2": [0.5] * 8}))["verdict"] == UNDECIDABLE


# the scaling law


def sized(lost: float, noise: float = 0.001, condition: str = "replace") -> tuple[pd.DataFrame, dict[str, float]]:
    """Runs on four sizes: bits per byte fall as words^-0.1 in generation 0 and as words^-(0.1 - lost) in the last."""
    rng = np.random.default_rng(0)
    words = {f"{condition} {size}": float(size) for size in (1_000, 10_000, 100_000, 1_000_000)}
    tables = [
        tidy(
            {"bits_per_byte": [4 * size**-0.1, 4 * size ** -(0.1 - lost) * np.exp(rng.normal(0, noise))]},
            run=run,
            condition=condition,
        )
        for run, size in words.items()
    ]
    return pd.concat(tables, ignore_index=True), words


@pytest.mark.parametrize(
    ("lost", "noise", "answer"), [(0.05, 0.001, "holds"), (0.0, 0.001, "does not hold"), (0.02, 0.3, "undecided")]
)
def test_the_scaling_law(lost: float, noise: float, answer: str) -> None:
    found, words = sized(lost, noise)
    rows = judge(found, words=words)
    rows = rows[rows["definition"] == SCALING]
    assert rows["verdict"].tolist() == [answer] * 4
    assert (rows["low"] < lost).all() and (lost < rows["high"]).all()


def test_a_scaling_law_takes_sizes() -> None:
    assert verdict(SCALING, tidy({"bits_per_byte": [2.0, 3.0]}))["verdict"] == UNDECIDABLE
    found, words = sized(0.05)
    two = found[found["run"].isin(["replace 1000", "replace 10000"])]
    other, sizes = sized(0.05, condition="human")
    mixed = pd.concat([two, other[~other["run"].isin(["human 1000", "human 10000"])]], ignore_index=True)
    rows = judge(mixed, words=words | sizes)
    assert set(rows[rows["definition"] == SCALING]["verdict"]) == {UNDECIDABLE}
    without = judge(found.assign(value=NAN), words=words)
    assert set(without[without["definition"] == SCALING]["verdict"]) == {UNDECIDABLE}


# corpora


@pytest.mark.parametrize(
    ("values", "human", "answer"),
    [
        ([0.6, 0.3], 0.65, "holds"),
        ([0.6, 0.59], 0.65, "does not hold"),
        ([0.3, 0.3], 0.65, "does not hold"),  # low from the beginning: it does not fall
        ([0.9, 0.65], 0.65, "does not hold"),  # falls to the human level
        ([0.6, 0.54], 0.65, "undecided"),
        ([0.6, 0.3], None, UNDECIDABLE),  # no human band
        ([0.6, 0.6], None, "does not hold"),  # for which none is needed
        ([0.6, NAN], 0.65, UNDECIDABLE),
        ([0.6, 0.0], 0.65, "holds"),
    ],
)
def test_collapsing_variance(values: Column, human: float | None, answer: str) -> None:
    found = tidy({"semantic_diversity": values}, human={} if human is None else {"semantic_diversity": human})
    row = verdict(VARIANCE, found)
    assert row["verdict"] == answer, row["sentence"]


def test_the_nearest_reference_is_reported() -> None:
    row = verdict(VARIANCE, tidy({"semantic_diversity": [0.6, 0.3]}, human={"semantic_diversity": 0.75}))
    assert (row["statistic"], row["threshold"]) == pytest.approx((0.5, 0.9))
    for words in ("0.5 [", "times that of generation 0", "0.4 [", "times that of human data"):
        assert words in row["sentence"]


def test_another_measure_where_the_first_cannot_tell() -> None:
    measures = {"semantic_diversity": [0.6, 0.3], "distinct_2": [0.5, 0.2]}
    row = verdict(VARIANCE, tidy(measures, human={"distinct_2": 0.5}))
    assert (row["measure"], row["verdict"]) == ("distinct_2", "holds")
    assert verdict(VARIANCE, tidy({"distinct_2": [0.5, 0.2]}, half=None))["verdict"] == UNDECIDABLE


@pytest.mark.parametrize(
    ("measures", "human", "answer"),
    [
        ({"mauve": [0.9, 0.3]}, {"mauve": 0.95}, "holds"),
        ({"mauve": [0.9, 0.88]}, {"mauve": 0.95}, "does not hold"),
        ({"mauve": [0.9, 0.795]}, {"mauve": 0.95}, "undecided"),
        ({"frechet_distance": [1.0, 5.0]}, {"frechet_distance": 0.5}, "holds"),
        ({"frechet_distance": [1.0, 1.2]}, {"frechet_distance": 0.5}, "does not hold"),
        ({"perplexity": [20, 30]}, {}, UNDECIDABLE),
    ],
)
def test_entangled_modes(measures: dict[str, Column], human: dict[str, float], answer: str) -> None:
    assert verdict(MODES, tidy(measures, human=human))["verdict"] == answer


@pytest.mark.parametrize(
    ("measures", "human", "answer"),
    [
        ({"tail_coverage": [0.5, 0.2]}, {"tail_coverage": 0.6}, "holds"),
        ({"tail_coverage": [0.5, 0.0]}, {"tail_coverage": 0.6}, "holds"),
        ({"tail_coverage": [0.5, 0.2]}, {"tail_coverage": 0.2}, "does not hold"),  # no more than human text lacks
        ({"tail_coverage": [0.5, 0.5]}, {"tail_coverage": 0.6}, "does not hold"),
        ({"tail_coverage": [0.5, 0.45]}, {"tail_coverage": 0.6}, "undecided"),
        ({"tail_coverage": [0.5, 0.2]}, {}, UNDECIDABLE),
        ({"survival_1": [0.5, 0.2]}, {"survival_1": 0.6}, "holds"),
    ],
)
def test_disappearing_tails(measures: dict[str, Column], human: dict[str, float], answer: str) -> None:
    row = verdict(TAILS, tidy(measures, human=human))
    assert row["verdict"] == answer, row["sentence"]


@pytest.mark.parametrize(
    ("measures", "human", "answer"),
    [
        ({"invented_words": [0.04, 0.09]}, {"invented_words": 0.03}, "holds"),
        ({"invented_words": [0.04, 0.041]}, {"invented_words": 0.03}, "does not hold"),
        ({"invented_words": [0.04, 0.05]}, {"invented_words": 0.03}, "undecided"),
        ({"invented_words": [0.0, 0.02]}, {"invented_words": 0.0}, "holds"),
        ({"sequence_perplexity_above": [0.01, 0.08]}, {}, "holds"),
        ({"sequence_perplexity_above": [0.01, 0.001]}, {}, "does not hold"),
        ({"perplexity": [20, 30]}, {}, UNDECIDABLE),
    ],
)
def test_hallucinated_data(measures: dict[str, Column], human: dict[str, float], answer: str) -> None:
    assert verdict(HALLUCINATED, tidy(measures, human=human))["verdict"] == answer


def test_seeds_decide_what_one_run_cannot() -> None:
    mauve = [{"mauve": [0.9 + d, 0.3 - d]} for d in (0.0, 0.01, -0.01)]
    found = seeds_of(mauve, human={"mauve": 0.95})
    assert verdict(MODES, found)["verdict"] == "holds"
    assert verdict(MODES, found[found["seed"] == 0])["verdict"] == UNDECIDABLE


def test_the_human_band_is_as_wide_over_seeds_as_in_a_run() -> None:
    """Runs that share their human text agree on it to the last digit, which makes it no more certain."""
    found = seeds_of([{"mauve": [0.9, 0.3]}] * 3, human={"mauve": 0.95})
    band = found["generation"] == HUMAN
    found.loc[band, "low"], found.loc[band, "high"] = 0.35, 1.0
    assert verdict(MODES, found)["verdict"] == "undecided"


def test_one_generation_decides_nothing() -> None:
    found = tidy({"perplexity": [20], "semantic_diversity": [0.5]}, human={"semantic_diversity": 0.9})
    rows = judge(found)
    assert rows["definition"].tolist() == list(DEFINITIONS) and set(rows["verdict"]) == {UNDECIDABLE}


def test_without_change_definitions_seldom_hold() -> None:
    rng = np.random.default_rng(0)
    tables = []
    for run in range(300):
        table = tidy({"perplexity": [20.0, 20.0]}, half=None, run=str(run), condition=str(run))
        table["value"] *= np.exp(rng.normal(0, 0.01, len(table)))
        tables.append(table.assign(low=table["value"] * np.exp(-Z * 0.01), high=table["value"] * np.exp(Z * 0.01)))
    rows = judge(pd.concat(tables))
    assert (rows[rows["definition"] == ANY]["verdict"] == "holds").mean() <= 0.05


# run directories and terminals


def write_run(folder: Path, perplexity: Column, seed: int = 0, words: int | None = None, **config: Any) -> Path:
    folder.mkdir(parents=True)
    config = {"policy": {"kind": "replace"}, "seed": seed, "generations": 9, "corpus": {"train_words": words}} | config
    (folder / "manifest.json").write_text(json.dumps(sealed({"format": FORMAT, "config": config})))
    lines = [
        {"generation": g, "perplexity": p, "perplexity_low": 0.99 * p, "perplexity_high": 1.01 * p, "bits_per_byte": p}
        for g, p in enumerate(perplexity)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "reference").mkdir()
    write_readings([Reading("distinct_2", 0.7)], folder / "reference")
    return folder


def test_runs_are_taken_together_if_only_their_seed_differs(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"seed{seed}", [20, 30 + seed], seed) for seed in range(3)]
    other = write_run(tmp_path / "other", [20, 30], 3, model={"width": 64})
    longer = write_run(tmp_path / "longer", [20, 33, 40], 4, generations=12)
    rows = verdicts([*runs, other, longer, runs[0]])
    assert rows["run"].unique().tolist() == ["seed0, seed1, seed2, longer", "other"]
    assert rows["generation"].unique().tolist() == [1]
    found = summaries([*runs, other])
    assert found[found["measure"] == "perplexity"]["seeds"].tolist() == [3, 1]
    assert len(rows) == 2 * len(DEFINITIONS)


def test_runs_of_several_sizes_have_a_scaling_law(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(n), [2 * n**-0.1, 2 * n**-0.05], words=n) for n in (1_000, 10_000, 100_000)]
    rows = verdicts(runs)
    assert rows[rows["definition"] == SCALING]["verdict"].tolist() == ["holds"] * 3
    assert rows[rows["definition"] == SCALING]["statistic"].tolist() == pytest.approx([0.05] * 3)


def printed(table: Table) -> str:
    console = Console(width=80, file=None, record=True, quiet=False, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_both_tables_are_legible_at_80_columns() -> None:
    measures: dict[str, Column] = {"perplexity": [20, 5000], "survival_17_64_excess": [-0.1, -0.3], "mauve": [0.5, 0.5]}
    found = pd.concat([tidy(measures, run=name) for name in ("a", "[b] of a very long name " * 4)])
    for shown, expected in [
        (verdicts_table(judge(found)), ["catastrophic", "undecidable", "250 [246, 254]", "[b] of"]),
        (summaries_table(summarise(found)), ["survival_17_64_excess", "5,000", "warns", "[b] of"]),
    ]:
        text = printed(shown)
        assert max(map(len, text.splitlines())) <= 80 and "…" not in text.replace(" … ", " ")
        assert all(words in text for words in expected), text


def test_what_warns_first_stands_first() -> None:
    table = printed(
        summaries_table(summarise(tidy({"late": [1, 1, 1, 0.5], "never": [1, 1, 1, 1], "early": [1, 0.5, 0.4, 0.3]})))
    )
    assert table.index("early") < table.index("late") < table.index("never")
