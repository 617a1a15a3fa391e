"""Paired differences: what seeds share falls out of them, and they are what scipy's paired t-test says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lmcollapse.pairs import paired
from lmcollapse.types import HUMAN, UserError

COLUMNS = ["run", "condition", "seed", "generation", "measure", "value", "low", "high"]


def tidy(rows: list[tuple[str, int, int, str, float]]) -> pd.DataFrame:
    """From condition, seed, generation, measure and value, one a row."""
    return pd.DataFrame([(f"{row[0]}-{row[1]}", *row, np.nan, np.nan) for row in rows], columns=COLUMNS)


def chained(seeds: int = 6) -> pd.DataFrame:
    """Two conditions whose runs are far apart from seed to seed, and near each other within one."""
    rng = np.random.default_rng(0)
    luck, own = rng.normal(0, 12, seeds), rng.normal(0, 0.3, (2, seeds))
    rows = []
    for shift, condition in enumerate(("replace", "accumulate")):
        for seed in range(seeds):
            rows += [(condition, seed, 0, "perplexity", 20 + luck[seed])]
            rows += [(condition, seed, 1, "perplexity", 30 + luck[seed] - 4 * shift + own[shift, seed])]
    return tidy(rows)


def test_the_interval_is_that_of_the_paired_t_test() -> None:
    found = chained()
    row = paired(found).set_index("generation").loc[1]
    at_one = found[found["generation"] == 1].pivot(index="seed", columns="condition", values="value")
    ends = stats.ttest_rel(at_one["accumulate"], at_one["replace"]).confidence_interval(0.95)
    assert (row["condition"], row["against"], row["seeds"]) == ("accumulate", "replace", 6)
    assert row["value"] == pytest.approx((at_one["accumulate"] - at_one["replace"]).mean())
    assert (row["low"], row["high"]) == pytest.approx((ends.low, ends.high))
    unpaired = stats.ttest_ind(at_one["accumulate"], at_one["replace"], equal_var=False).confidence_interval(0.95)
    assert row["high"] - row["low"] < (unpaired.high - unpaired.low) / 5
    assert row["high"] < 0 < unpaired.high  # the pairs tell what the two means do not


def test_what_is_shared_differs_by_nothing() -> None:
    row = paired(chained()).set_index("generation").loc[0]
    assert (row["value"], row["low"], row["high"]) == (0, 0, 0)


def test_the_reference_can_be_named_and_turns_the_sign() -> None:
    columns = ["generation", "measure", "seeds"]
    one, other = paired(chained()), paired(chained(), against="accumulate")
    assert list(one.columns) == ["condition", "against", "generation", "measure", "value", "low", "high", "seeds"]
    pd.testing.assert_frame_equal(one[columns], other[columns])
    assert (-other["high"]).tolist() == pytest.approx(one["low"].tolist())
    with pytest.raises(UserError, match="no run has the condition 'fresh'; these have: replace, accumulate"):
        paired(chained(), against="fresh")


def test_only_seeds_of_both_count() -> None:
    found = chained(3)
    rows = [("human", seed, generation, "perplexity", 100.0 * seed) for seed in (1, 2, 7) for generation in (0, 1, 2)]
    differences = paired(pd.concat([found, tidy(rows)])).set_index(["condition", "generation"])
    assert differences["seeds"].to_dict() == {
        **{("accumulate", 0): 3, ("accumulate", 1): 3},
        **{("human", 0): 2, ("human", 1): 2},
    }
    base = found[(found["condition"] == "replace") & (found["generation"] == 0) & (found["seed"] > 0)]["value"]
    assert differences["value"]["human", 0] == pytest.approx(150 - base.mean())


def test_one_seed_has_no_interval_and_none_is_refused() -> None:
    found = chained(2)
    one = paired(found[(found["seed"] == 0) | (found["condition"] == "replace")])
    assert one["seeds"].tolist() == [1, 1] and one["value"].notna().all()
    assert one[["low", "high"]].isna().all(axis=None)
    with pytest.raises(UserError, match="conditions 'accumulate' and 'replace' have no seed in common"):
        paired(found[(found["seed"] == 0) == (found["condition"] == "replace")])
    with pytest.raises(UserError, match="one condition, 'replace', and nothing to compare it with"):
        paired(found[found["condition"] == "replace"])
    with pytest.raises(UserError, match="condition 'replace' have the seed 0"):
        paired(pd.concat([found, found.iloc[:1]]))


def test_a_seed_without_a_value_is_not_left_out_and_human_text_is_no_pair() -> None:
    found = chained(3)
    found.loc[found["generation"].eq(1) & found["seed"].eq(1), "value"] = np.nan
    human = tidy(
        [(condition, seed, HUMAN, "perplexity", 5.0) for condition in ("replace", "accumulate") for seed in (0,)]
    )
    differences = paired(pd.concat([human, found])).set_index("generation")
    assert differences.index.tolist() == [0, 1]
    assert differences["value"].isna().tolist() == [False, True] and differences["seeds"].tolist() == [3, 3]
