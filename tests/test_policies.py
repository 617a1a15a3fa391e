"""Policies: which rows, exactly, a generation trains on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcollapse.policies.accumulate import accumulate
from lmcollapse.policies.accumulate_subsample import accumulate_subsample
from lmcollapse.policies.filling import filling
from lmcollapse.policies.fresh import fresh
from lmcollapse.policies.human import human
from lmcollapse.policies.mix import mix
from lmcollapse.policies.replace import replace
from lmcollapse.types import HUMAN, Pool, Selection, UserError

POOL = Pool(human=100, synthetic=(100, 90, 110))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def rows_of(chosen: Selection, pool: Pool = POOL) -> set[tuple[int, int]]:
    """Every row that was chosen; none twice."""
    spelled = chosen.spelled_out(pool)
    rows = list(zip(spelled.generation.tolist(), spelled.row.tolist(), strict=True))
    assert len(set(rows)) == len(rows)
    return set(rows)


def test_replace_takes_the_newest_corpus_whole_and_nothing_else() -> None:
    assert rows_of(replace(POOL, rng())) == {(2, row) for row in range(110)}


def test_accumulate_takes_everything_once() -> None:
    chosen = rows_of(accumulate(POOL, rng()))
    assert len(chosen) == 100 + 100 + 90 + 110
    assert {g for g, _ in chosen} == {HUMAN, 0, 1, 2}


def test_human_is_the_same_rows_every_generation() -> None:
    assert rows_of(human(POOL, rng())) == {(HUMAN, row) for row in range(100)}


def test_a_subsample_is_drawn_from_everything_and_as_large_as_the_human_part() -> None:
    drawn = [rows_of(accumulate_subsample(POOL, np.random.default_rng(seed))) for seed in range(300)]
    assert all(len(rows) == 100 for rows in drawn)
    everything = rows_of(accumulate(POOL, rng()))
    assert set.union(*drawn) == everything
    human_rows = sum(g == HUMAN for rows in drawn for g, _ in rows)
    expected, variance = 100 * 100 / 400, 100 * 0.25 * 0.75 * 300 / 399  # hypergeometric
    assert abs(human_rows / 300 - expected) < 4 * np.sqrt(variance / 300)


@given(st.integers(1, 400), st.floats(0, 1), st.integers(1, 6))
def test_fresh_rows_are_new_each_generation(humans: int, share: float, generations: int) -> None:
    wanted = round(share * humans)
    seen: set[tuple[int, int]] = set()
    for generation in range(1, generations + 1):
        pool = Pool(humans, (humans,) * generation, reserve=wanted * generations)
        chosen = rows_of(fresh(pool, rng(), human_fraction=share), pool)
        new = {row for row in chosen if row[0] == HUMAN}
        assert len(chosen) == humans and len(new) == wanted
        assert all(humans <= row < humans + pool.reserve for _, row in new)
        assert not new & seen
        assert {g for g, _ in chosen - new} <= {generation - 1}
        seen |= new


def test_fresh_rows_may_run_out() -> None:
    with pytest.raises(UserError, match="needs 100 rows of human text in reserve, and there are 99"):
        fresh(Pool(100, (100,), reserve=99), rng())


def test_chains_choose_each_for_itself() -> None:
    pool = Pool(50, (50, 50), reserve=1000, chains=4)
    for chosen in (mix(pool, rng(), human_fraction=0.5), accumulate_subsample(pool, rng())):
        assert chosen.row.shape == chosen.generation.shape == (4, 50)
        pairs = [
            set(zip(g.tolist(), r.tolist(), strict=True)) for g, r in zip(chosen.generation, chosen.row, strict=True)
        ]
        assert all(len(rows) == 50 for rows in pairs)
        assert len(set(map(frozenset, pairs))) == 4
    mixed = mix(pool, rng(), human_keep=0.5)
    assert mixed.whole == (1,) and mixed.row.shape == (4, 25)


@given(st.integers(1, 500), st.integers(1, 500), st.floats(0, 1))
def test_mix_fraction_is_exact_to_the_row_and_keeps_the_total(humans: int, synthetic: int, share: float) -> None:
    pool = Pool(humans, (7, synthetic))
    chosen = mix(pool, rng(), human_fraction=share).spelled_out(pool)
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
    chosen = rows_of(mix(POOL, rng(), human_keep=0.1))
    assert sum(g == HUMAN for g, _ in chosen) == 10
    assert chosen >= {(2, row) for row in range(110)}
    assert len(chosen) == 120


def test_mix_draws_its_human_rows_anew() -> None:
    one = mix(POOL, np.random.default_rng(1), human_keep=0.1).row[:10]
    two = mix(POOL, np.random.default_rng(2), human_keep=0.1).row[:10]
    assert set(one.tolist()) != set(two.tolist())


@pytest.mark.parametrize("given", [{"human_fraction": 0.3}, {"human_keep": 0.3}])
def test_mix_may_keep_the_same_human_rows(given: dict[str, Any]) -> None:
    def humans(generation: int, redraw: bool, seed: int) -> set[int]:
        pool = Pool(100, (100,) * generation, seed=(seed,))
        chosen = mix(pool, np.random.default_rng(generation), redraw=redraw, **given)
        return set(chosen.row[chosen.generation == HUMAN].tolist())

    same = [humans(generation, False, 7) for generation in (1, 2, 5)]
    assert same[0] == same[1] == same[2] and len(same[0]) == 30
    assert humans(1, False, 8) != same[0], "another run keeps other rows"
    assert humans(1, True, 7) != humans(2, True, 7)


@given(st.integers(1, 300), st.floats(0, 1), st.floats(0, 1), st.integers(1, 12), st.integers(1, 9), st.booleans())
def test_a_web_fills_up_by_its_schedule(
    humans: int, start: float, end: float, over: int, generation: int, geometric: bool
) -> None:
    if geometric:
        start, end = max(start, end, 0.01), max(min(start, end), 0.01)
    pool = Pool(humans, (humans,) * generation)
    chosen = rows_of(
        filling(pool, rng(), start=start, end=end, over=over, schedule="geometric" if geometric else "linear"), pool
    )
    way = min(1, generation / over)
    share = start * (end / start) ** way if geometric else (1 - way) * start + way * end
    kept = sum(g == HUMAN for g, _ in chosen)
    assert len(chosen) == humans and abs(kept - share * humans) <= 0.5 + 1e-6
    assert {g for g, _ in chosen} <= set(range(-1, generation))


def test_a_web_fills_up_from_every_generation_so_far() -> None:
    drawn = filling(Pool(1000, (1000,) * 4), rng(), start=1, end=0, over=4)
    counts = np.bincount(drawn.generation, minlength=4)
    assert counts.sum() == 1000 and (np.abs(counts - 250) < 5 * np.sqrt(250 * 0.75)).all()
    with pytest.raises(UserError, match="geometric schedule needs 0 < end <= start"):
        filling(POOL, rng(), start=0.5, end=0, schedule="geometric")


def test_accumulate_may_hold_the_steps() -> None:
    assert not accumulate(POOL, rng()).same_steps
    chosen = accumulate(POOL, rng(), same_steps=True)
    assert chosen.same_steps and chosen.spelled_out(POOL).same_steps
    assert rows_of(chosen) == rows_of(accumulate(POOL, rng()))


@pytest.mark.parametrize("given", [{}, {"human_fraction": 0.1, "human_keep": 0.1}])
def test_mix_needs_exactly_one_reading(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="exactly one"):
        mix(POOL, rng(), **given)
