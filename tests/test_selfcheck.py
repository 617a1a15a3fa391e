"""The project against exact theory: right as it is, and caught where it is broken on purpose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lmcollapse import cli, theory
from lmcollapse.chains import Block, Experiment
from lmcollapse.config import parse
from lmcollapse.policies.rows import every, together
from lmcollapse.selfcheck import FALSE_ALARMS, GROUPS, Check, selfcheck, selfcheck_table
from lmcollapse.substrates.discrete import Discrete
from lmcollapse.substrates.gaussian import Gaussian
from lmcollapse.substrates.kde import KDE
from lmcollapse.substrates.linear_regression import LinearRegression
from lmcollapse.types import HUMAN, Floats, Pool, Selection, State


def failed(*groups: str) -> list[str]:
    return [check.name for check in selfcheck(groups=groups) if not check.passed]


def test_every_row_agrees_with_theory(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["selfcheck", "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["name"].partition(": ")[0] for row in rows} == set(GROUPS)
    assert all(row["passed"] for row in rows)
    assert {"equals", "at most", "at least", "near"} == {row["kind"] for row in rows}
    # so few false alarms that a failure is one: 2 P(Z > limit) x rows
    from scipy import stats

    assert 2 * stats.norm.sf(rows[0]["limit"]) * len(rows) == pytest.approx(FALSE_ALARMS)


def test_a_row_fails_where_it_should() -> None:
    def check(kind: Any, measured: float, allowance: float = 0.0, error: float = 0.1) -> bool:
        return Check("row", kind, measured, error, 10.0, 4.0, allowance).passed

    assert check("equals", 10.39) and not check("equals", 10.41) and not check("equals", 9.59)
    assert check("at most", 5.0) and check("at most", 10.39) and not check("at most", 10.41)
    assert check("at least", 15.0) and check("at least", 9.61) and not check("at least", 9.59)
    assert check("near", 10.89, allowance=0.05) and not check("near", 10.91, allowance=0.05)
    assert not check("equals", float("nan")) and not check("at most", float("-inf"))
    assert check("equals", 10.0, error=0.0) and not check("equals", 10.0001, error=0.0)
    wrong = Check("row", "equals", 9.0, 0.1, 10.0, 4.0)
    assert list(selfcheck_table([wrong]).columns[-1].cells) == ["FAILED"]


def test_the_command_fails_with_a_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = Check("a wrong row", "equals", 9.0, 0.1, 10.0, 4.0)
    monkeypatch.setattr("lmcollapse.selfcheck.selfcheck", lambda progress: [wrong])
    with pytest.raises(SystemExit) as end:
        cli.main(["selfcheck"])
    assert end.value.code == 1
    shown = capsys.readouterr().out
    assert "a wrong row" in shown and "FAILED" in shown and "0 of 1 checks passed" in shown


@pytest.mark.parametrize("right", [0, 1])
def test_a_wrong_ddof_is_caught(right: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = Gaussian.fit

    def wrong(self: Gaussian, *given: Any) -> State:
        return fit(self.model_copy(update={"ddof": 1 - right}), *given)

    monkeypatch.setattr(Gaussian, "fit", wrong)
    assert failed("gaussian, replace, unbiased" if right else "gaussian, replace")


def test_a_generation_off_by_one_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    human = Gaussian.human

    def fitted_already(self: Gaussian, rng: np.random.Generator, chains: int, rows: int) -> Floats:
        model = self.fit(self.statistic(human(self, rng, chains, rows)), None, rng)
        return self.sample(model, rows, rng, np.empty(0))

    monkeypatch.setattr(Gaussian, "human", fitted_already)
    for group in ("gaussian, replace", "gaussian, accumulate", "gaussian, accumulate_subsample"):
        assert failed(group), group


def test_blocks_that_share_their_random_numbers_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Experiment._stream

    def shared(self: Experiment, name: str, block: Block, span: range) -> np.random.Generator:
        return stream(self, name, Block(0, block.chains), span)

    monkeypatch.setattr(Experiment, "_stream", shared)
    assert failed("independence")


def test_chains_that_share_their_noise_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Gaussian.sample

    def shared(self: Gaussian, model: State, rows: int, rng: np.random.Generator, human: Floats) -> Floats:
        one = {"mean": np.zeros((1, 1)), "covariance": np.ones((1, 1, 1))}
        return sample(self, one, rows, rng, human) * np.sqrt(model["covariance"]) + model["mean"][:, None]

    monkeypatch.setattr(Gaussian, "sample", shared)
    assert any("spread of the mean" in name for name in failed("independence"))


def test_human_rows_that_leak_into_replace_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaking(pool: Pool, rng: np.random.Generator) -> Selection:
        few = Selection(np.full(1, HUMAN, np.int32), np.zeros(1, np.int64))
        return together(every(pool, pool.generation - 1), few)

    leaking.forgetful = True  # type: ignore[attr-defined]
    monkeypatch.setattr("lmcollapse.policies.replace.replace", leaking)
    for group in ("gaussian, replace", "kde", "linear_regression"):
        assert failed(group), group


@pytest.mark.parametrize("policy", ["accumulate", "accumulate_subsample", "fresh"])
def test_a_policy_that_is_another_is_caught(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lmcollapse.policies.replace import replace

    def other(pool: Pool, rng: np.random.Generator, *, human_fraction: float = 0.0) -> Selection:
        return replace(pool, rng)

    other.forgetful = True  # type: ignore[attr-defined]
    monkeypatch.setattr(f"lmcollapse.policies.{policy}.{policy}", other)
    assert failed(f"gaussian, {policy}")


def wrong_parts() -> Iterator[Any]:
    """A method of a substrate, how it is broken, and the group that must see it."""
    narrow = lambda self, model, rows, rng, human: KDE_SAMPLE(  # noqa: E731
        self, model | {"bandwidth": 0.8 * model["bandwidth"]}, rows, rng, human
    )
    yield pytest.param(KDE, "sample", narrow, "kde", id="a narrower kernel")
    fewer = lambda self, model, rows, rng, human: np.concatenate(  # noqa: E731
        [DISCRETE_SAMPLE(self, model, rows // 2, rng, human)] * 2, axis=1
    )
    yield pytest.param(Discrete, "sample", fewer, "discrete", id="every symbol twice")
    yield pytest.param(Discrete, "sample", fewer, "discrete, survival", id="every symbol twice, survival")
    quiet = lambda self, model, rows, rng, human: REGRESSION_SAMPLE(  # noqa: E731
        self.model_copy(update={"noise": 0.9}), model, rows, rng, human
    )
    yield pytest.param(LinearRegression, "sample", quiet, "linear_regression", id="less noise")


KDE_SAMPLE, DISCRETE_SAMPLE, REGRESSION_SAMPLE = KDE.sample, Discrete.sample, LinearRegression.sample


@pytest.mark.parametrize(("substrate", "method", "broken", "group"), [*wrong_parts()])
def test_a_broken_substrate_is_caught(
    substrate: type, method: str, broken: Any, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(substrate, method, broken)
    assert failed(group)


def test_a_wrong_distance_of_mixtures_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from lmcollapse.substrates import gaussian_mixture

    overlap = gaussian_mixture.overlap
    monkeypatch.setattr(gaussian_mixture, "overlap", lambda a, b: overlap(a, b) * (1.01 if a is b else 1.0))
    assert failed("gaussian_mixture")


@pytest.mark.parametrize(
    ("given", "measure", "known"),
    [
        ({"substrate": "gaussian"}, "variance", True),
        ({"substrate": "gaussian", "ddof": 1, "policy": "accumulate"}, "variance", False),
        ({"substrate": "gaussian", "policy": {"kind": "fresh", "human_fraction": 0.2}}, "mean_error", True),
        ({"substrate": "gaussian", "policy": {"kind": "mix", "human_fraction": 0.2}}, "variance", False),
        ({"substrate": "kde", "bandwidth": 0.2}, "sample_variance", True),
        ({"substrate": "kde"}, "sample_variance", False),
        ({"substrate": "discrete", "policy": "accumulate"}, "heterozygosity", True),
        ({"substrate": "linear_regression", "policy": "accumulate"}, "excess_risk", False),
        ({"substrate": "linear_regression"}, "excess_risk", True),
    ],
)
def test_a_run_has_a_theory_line_where_there_is_theory(given: dict[str, Any], measure: str, known: bool) -> None:
    line = theory.expected(parse({"policy": "replace", "generations": 7, **given}), measure)
    assert (line is not None) == known
    assert line is None or (line.shape == (7,) and np.isfinite(line).all())
    assert theory.expected(parse({"policy": "replace", **given}), "collapsed") is None
