"""Policies: which rows, exactly, a generation trains on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcollapse.policies.accumulate import accumulate
from lmcollapse.policies.human import human
from lmcollapse.policies.mix import mix
from lmcollapse.policies.replace import replace
from lmcollapse.types import HUMAN, Pool, UserError

POOL = Pool(human=100, synthetic=(100, 90, 110))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_replace_takes_the_newest_corpus_whole_and_nothing_else() -> None:
    chosen = replace(POOL, rng())
    assert set(chosen.generation) == {2}
    assert chosen.row.tolist() == list(range(110))


def test_accumulate_takes_everything_once() -> None:
    chosen = accumulate(POOL, rng())
    references = set(zip(chosen.generation.tolist(), chosen.row.tolist(), strict=True))
    assert len(chosen) == len(references) == 100 + 100 + 90 + 110
    assert {g for g, _ in references} == {HUMAN, 0, 1, 2}


def test_human_is_the_same_rows_every_generation() -> None:
    chosen = human(POOL, rng())
    assert set(chosen.generation) == {HUMAN}
    assert chosen.row.tolist() == list(range(100))


@given(st.integers(1, 500), st.integers(1, 500), st.floats(0, 1))
def test_mix_fraction_is_exact_to_the_row_and_keeps_the_total(humans: int, synthetic: int, share: float) -> None:
    chosen = mix(Pool(humans, (7, synthetic)), rng(), human_fraction=share)
    assert len(chosen) == humans
    assert np.sum(chosen.generation == HUMAN) == round(share * humans)
    drawn = chosen.row[chosen.generation == 1]
    assert set(chosen.generation) <= {HUMAN, 1}
    if len(drawn):
        assert set(drawn.tolist()) <= set(range(synthetic))
        uses = np.bincount(drawn, minlength=synthetic)
        assert uses.max() - uses.min() <= 1  # repeated evenly, and not at all where there are enough
    kept = chosen.row[chosen.generation == HUMAN]
    assert len(set(kept.tolist())) == len(kept)


def test_mix_keep_stands_beside_the_whole_newest_corpus() -> None:
    chosen = mix(POOL, rng(), human_keep=0.1)
    assert np.sum(chosen.generation == HUMAN) == 10
    assert np.sum(chosen.generation == 2) == 110
    assert len(chosen) == 120


def test_mix_draws_its_human_rows_anew() -> None:
    one = mix(POOL, np.random.default_rng(1), human_keep=0.1).row[:10]
    two = mix(POOL, np.random.default_rng(2), human_keep=0.1).row[:10]
    assert set(one.tolist()) != set(two.tolist())


@pytest.mark.parametrize("given", [{}, {"human_fraction": 0.1, "human_keep": 0.1}])
def test_mix_needs_exactly_one_reading(given: dict[str, float]) -> None:
    with pytest.raises(UserError, match="exactly one"):
        mix(POOL, rng(), **given)
