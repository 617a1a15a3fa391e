"""Advice: the answer against exact theory, its coverage, detectors by hand, shared steps to the byte, refusals."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from lmcollapse import cli
from lmcollapse.advise import Advice, Question, advise, described, estimate, planned_runs
from lmcollapse.advise.curve import answer, between, fit, seeds_to_decide
from lmcollapse.advise.detectors import operating_point, share_before, worth
from lmcollapse.advise.exact import exact_losses, exact_share
from lmcollapse.advise.question import NAMES, check, scale_of, variant
from lmcollapse.advise.tables import advice_table
from lmcollapse.catalog import CATALOG
from lmcollapse.config import parse
from lmcollapse.figures.advise import ANSWER, draw
from lmcollapse.figures.style import save
from lmcollapse.loop import run
from lmcollapse.theory import fresh_mean_error
from lmcollapse.types import Diverged, UserError
from tests.text import FEW_MEASURES
from tests.urn import Urn, urn_config

GAUSSIAN = {"substrate": "gaussian", "generations": 40, "chains": 400, "rows": 100, "traced": 0}
SHARES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)


@pytest.fixture
def urn(tmp_path: Path) -> dict[str, Any]:
    return urn_config(tmp_path, urn={"smoothing": 0.01}, measures={**FEW_MEASURES, "words": 1500})


@pytest.fixture(scope="module")
def gaussian(tmp_path_factory: pytest.TempPathFactory) -> Advice:
    """A whole answer; several tests look at it."""
    return advise(parse(GAUSSIAN), tmp_path_factory.mktemp("gaussian") / "advice", Question(loss=0.1, seeds=5))


def rendered(advice: Advice, width: int = 80) -> str:
    console = Console(width=width, highlight=False, file=StringIO())
    console.print(advice_table(advice))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_exact_share_of_a_gaussian_lies_in_the_interval(gaussian: Advice) -> None:
    assert gaussian.exact is not None
    assert gaussian.answer.low < gaussian.exact <= gaussian.answer.high
    assert gaussian.answer.high < 1 and gaussian.answer.shown, "the interval must say something"
    assert gaussian.answer.share == pytest.approx(gaussian.exact, rel=0.5)
    exact, found = gaussian.shares["exact"], gaussian.shares["loss"]
    assert np.allclose(found, exact, atol=0.08)
    assert f"by theory it is {gaussian.exact:.3g}" in rendered(gaussian)


def test_the_exact_share_is_the_smallest_by_the_closed_form() -> None:
    config, question = parse(GAUSSIAN), Question(loss=0.05)

    def loss(rows: int) -> float:  # of so many fresh rows in a hundred, from the formula itself
        variance = 1 - float(fresh_mean_error(np.array(40), 100, rows / 100))
        return 1 - variance / (1 - 1 / 100)

    needed = next(rows for rows in range(101) if loss(rows) <= 0.05)
    assert exact_share(config, question) == needed / 100
    assert exact_losses(config, question, np.array([0.07]))[0] == pytest.approx(loss(7))
    assert exact_share(config, Question(measure="log_variance")) is None
    assert exact_share(config, Question(policy="mix")) is None


def test_the_interval_covers_the_true_share() -> None:
    """Losses that fall as a power, with noise: the truth is missed 5 % of the time at most."""
    shares, threshold, truth = np.array([*SHARES]), 0.05, 0.02
    true = np.array([0.3, 0.1, 0.05 * 0.02 / 0.03, 0.01, 0.0033, 0.0])
    rng = np.random.default_rng(0)
    missed, narrow = 0, 0
    for _ in range(2000):
        losses = true[:, None] + rng.normal(0, 0.02, (6, 3)) * (true[:, None] > 0)
        found = answer(fit(shares, losses), threshold)
        assert found.low <= found.share <= found.high
        missed += not found.low < truth <= found.high
        narrow += found.high < 1
    assert missed <= 0.05 * 2000 + 3 * np.sqrt(0.05 * 0.95 * 2000)
    assert narrow > 1000, "an interval that holds everything is never wrong"


def test_the_fit_falls_and_unknown_runs_prove_nothing() -> None:
    shares = np.array([0, 0.1, 0.5, 1.0])
    losses = np.array([[0.4, 0.5], [0.1, 0.1], [0.2, 0.2], [0.0, 0.0]])
    curve = fit(shares, losses)
    assert curve.fitted.tolist() == pytest.approx([0.45, 0.15, 0.15, 0])
    assert curve.at(0.05) == pytest.approx(0.3)  # straight from no share to the first
    assert answer(curve, 0.15 / 2).share == pytest.approx(0.75)
    power = fit(np.array([0.01, 0.1, 1]), np.array([[1.0, 1.0], [0.1, 0.1], [0, 0]]))
    assert answer(power, 0.5).share == pytest.approx(0.02)  # between positive ones a power of the share
    losses[1, 0] = np.nan
    unknown = answer(fit(shares, losses), 0.3)
    assert unknown.high == 0.5, "a share of which a run has no value is not shown to be enough"
    losses[0] = np.nan
    assert not answer(fit(shares, losses), 0.3).shown


def test_answers_beyond_the_grid_are_said_so(gaussian: Advice) -> None:
    def sentence(losses: list[list[float]]) -> str:
        curve = fit(gaussian.curve.shares, np.array([*losses, [0.0] * 3]))
        changed = {"curve": curve, "answer": answer(curve, 0.05)}
        return Advice(**{**vars(gaussian), **changed}).sentence

    much, little = [0.9, 0.91, 0.92], [0.01, 0.011, 0.012]
    assert sentence([much] * 5) == "more than 0.3"
    assert sentence([little] * 5) == "any share is enough, even none"
    assert "more than 0.03, at most 0.1" in sentence([much] * 3 + [little] * 2)
    assert "no share below 1 is shown to be enough" in sentence([[0.0, 0.05, 0.1]] * 5)


def test_what_would_narrow_an_interval() -> None:
    assert all(0.03 < share < 0.1 for share in between(0.03, 0.1)) and len(between(0.03, 0.1)) == 2
    assert between(0, 0.01)[0] == 0.001
    curve = fit(np.array([0.1, 1.0]), np.array([[0.03, 0.05, 0.01], [0.0, 0.0, 0.0]]))
    n = seeds_to_decide(curve, 0, 0.05)
    assert n is not None and 3 < n < 10
    half = {k: 0.02 * t / np.sqrt(k) for k, t in ((n, 2.45 if n == 7 else 2.57 if n == 6 else 2.78), (3, 4.30))}
    assert half[n] < 0.02 < half[3]
    assert seeds_to_decide(curve, 0, 0.03) is None, "on the threshold no number of seeds decides"


def test_a_detector_by_hand() -> None:
    # 100 documents, 20 human: a detector that finds 60 of 80 and takes 4 of 20 for synthetic leaves 16 and 20
    assert share_before(16 / 36, 0.75, 0.2) == pytest.approx(0.2)
    assert share_before(1.0, 0.9, 0.1) == 1 and share_before(0.5, 1.0, 0.1) == 0 and share_before(0.0, 0.5, 0.1) == 0
    t, f = operating_point(0.5, 0.9)
    assert (t, f) == pytest.approx((0.1, 0.1))  # guessing
    assert share_before(0.3, t, f) == pytest.approx(0.3)
    assert operating_point(1.0, 0.9)[0] == 1 and operating_point(0.9, 1.0) == (0, 0)


def test_an_operating_point_has_its_auc_and_is_the_best_that_is_allowed() -> None:
    from scipy.stats import norm

    auc, keep = 0.9, 0.8
    t, f = operating_point(auc, keep)
    human, synthetic = np.random.default_rng(0).normal(0, 1, 200_000), np.random.default_rng(1).normal(0, 1, 200_000)
    synthetic += np.sqrt(2) * norm.ppf(auc)
    assert np.mean(synthetic > human) == pytest.approx(auc, abs=0.005)
    threshold = np.quantile(human, keep)
    assert np.mean(synthetic > threshold) == pytest.approx(t, abs=0.01) and f == pytest.approx(1 - keep)
    best = share_before(0.3, t, f)
    for kept in np.linspace(keep, 0.999, 20):  # every threshold that keeps at least as much
        assert best <= share_before(0.3, *operating_point(auc, float(kept))) + 1e-12
    pools = worth((0.3, 0.1, 0.5), keep)["pool"]
    assert pools.iloc[0] == pytest.approx(0.3) and pools.is_monotonic_decreasing and pools.iloc[-1] == 0


def test_the_baseline_is_the_policy_human_to_the_byte(urn: dict[str, Any], tmp_path: Path) -> None:
    mixed = run(parse({**urn, "policy": {"kind": "mix", "human_fraction": 1}}), tmp_path / "mixed")
    human = run(parse({**urn, "policy": "human"}), tmp_path / "human")
    for folder in ("train/selection.parquet", "model/model.json", "corpus/corpus.parquet"):
        for generation in range(3):
            file = f"generation_{generation:03d}/{folder}"
            assert (mixed / file).read_bytes() == (human / file).read_bytes()


def test_text_is_run_once_a_seed_and_goes_on(
    urn: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[int] = []
    fit_urn = Urn.fit

    def dying(self: Urn, *given: Any) -> Any:
        if len(fits) == 7:
            fits.append(-1)
            raise KeyboardInterrupt
        fits.append(1)
        return fit_urn(self, *given)

    monkeypatch.setattr(Urn, "fit", dying)
    question = Question(measure="perplexity", shares=(0, 0.1, 1), seeds=2, loss=0.2)
    out = tmp_path / "advice"
    with pytest.raises(KeyboardInterrupt):
        advise(parse(urn), out, question)
    left = estimate(planned_runs(parse(urn), out, question))
    assert left.generations == 14 - 7 and left.seconds is not None and left.size is not None
    found = advise(parse(urn), out, question)
    assert fits.count(1) == 2 + 6 * 2, "generation 0 once a seed, two more for each share and seed"
    assert estimate(planned_runs(parse(urn), out, question)).generations == 0
    again = advise(parse(urn), out, question)
    assert fits.count(1) == 14 and again.as_json() == found.as_json()
    assert json.loads((out / "advice.json").read_text()) == found.as_json()
    assert (out / "shares.csv").read_text().count("\n") == 4 and (out / "runs.csv").read_text().count("\n") == 7
    losses = found.shares.set_index("share")["loss"]
    assert losses[0] > losses[0.1] > losses[1] == 0
    runs = found.runs.set_index(["share", "seed"])["value"]
    by_hand = np.expm1(np.mean([np.log(runs[0.1, seed] / runs[1.0, seed]) for seed in (0, 1)]))
    assert losses[0.1] == pytest.approx(by_hand)


def test_a_run_that_diverges_counts_as_unknown(
    urn: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_urn = Urn.fit

    def diverging(self: Urn, base: Path, train: Any, *rest: Any) -> Any:
        if not (train.generation == -1).any():
            raise Diverged(3, float("nan"), 1.0)
        return fit_urn(self, base, train, *rest)

    monkeypatch.setattr(Urn, "fit", diverging)
    found = advise(parse(urn), tmp_path / "advice", Question(shares=(0, 0.5), seeds=2, loss=0.9))
    assert np.isnan(found.shares["loss"].iloc[0]) and not found.answer.shown
    assert found.as_json()["shares"][0]["loss"] is None
    assert "–" in rendered(found)
    draw(found)


def test_the_plan_says_how_much_it_is(urn: dict[str, Any], tmp_path: Path) -> None:
    planned = planned_runs(parse(urn), tmp_path / "advice", Question())
    lines = described(planned, estimate(planned))
    assert "18 runs of 3 generations" in lines[0] and "39 generations to fit, 39 of them left" in lines[1]
    assert "not measured yet" in lines[2]
    assert not (tmp_path / "advice").exists()


BAD: list[tuple[dict[str, Any], Question, str]] = [
    ({}, Question(shares=(0, 1.5)), "shares holds 1.5"),
    ({}, Question(shares=(float("nan"),)), "shares holds nan"),
    ({}, Question(shares=(1.0,)), "nothing below 1"),
    ({}, Question(seeds=1), "seeds is 1"),
    ({}, Question(keep=0), "keep is 0"),
    ({}, Question(loss=0), "loss is 0"),
    ({}, Question(measure="tail_coverage", loss=1.2), "cannot lose more than all"),
    ({"generations": 1}, Question(), "generations is 1"),
    ({}, Question(measure="perplexty"), "did you mean 'perplexity'"),
    ({}, Question(measure="mauve"), "measures.mauve: null"),
    ({}, Question(measure="tail_coverage_excess"), "unknown measure"),
    ({}, Question(policy="fresh"), "corpus.reserve_words"),
    ({"start": "base"}, Question(), "not for the urn"),
]


@pytest.mark.parametrize(("changes", "question", "words"), BAD, ids=[words for _, _, words in BAD])
def test_what_cannot_be_answered_is_refused_before_any_compute(
    urn: dict[str, Any], tmp_path: Path, changes: dict[str, Any], question: Question, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        advise(parse({**urn, **changes}), tmp_path / "advice", question)
    assert not (tmp_path / "advice").exists()


def test_measures_of_simple_models_are_known_beforehand(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="known: log_variance, mean_error, standard_deviation, variance"):
        advise(parse(GAUSSIAN), tmp_path / "advice", Question(measure="perplexity"))
    assert not (tmp_path / "advice").exists()


def test_a_baseline_that_is_not_above_zero_is_refused(tmp_path: Path) -> None:
    config = parse({**GAUSSIAN, "chains": 5, "generations": 3})
    with pytest.raises(UserError, match="log_variance of the all-human baseline is -"):
        advise(config, tmp_path / "advice", Question(measure="log_variance"))
    with pytest.raises(UserError, match="is a run"):
        advise(config, tmp_path / "advice" / "seed_0" / "share_1", Question())


def test_which_way_is_worse() -> None:
    value, baseline = np.array([110.0]), np.array([100.0])
    assert scale_of("perplexity").loss(value, baseline)[0] == pytest.approx(np.log(1.1))
    assert scale_of("perplexity").relative(np.log(1.1)) == pytest.approx(0.1)
    assert scale_of("distinct_2_human").loss(value, baseline)[0] == pytest.approx(-0.1)
    assert scale_of("mean_error").loss(value, baseline)[0] == pytest.approx(0.1)
    assert scale_of("my_own").loss(np.array([90.0]), baseline)[0] == pytest.approx(0.1)
    assert not scale_of("sequence_perplexity_below").log and scale_of("sequence_perplexity_q99").log
    owners = {own for names in NAMES.values() for own in names} - {""}
    assert owners <= {*CATALOG["measure"], *CATALOG["image measure"]}


def test_every_reading_of_a_text_can_be_asked_about(urn: dict[str, Any], tmp_path: Path) -> None:
    config = parse({**urn, "measures": {"words": 500}, "generations": 1})
    readings = json.loads((run(config, tmp_path / "run") / "metrics.jsonl").read_text())
    ends = ("_low", "_high", "_drift", "_excess", "generation")
    asked = [name for name in readings if not name.endswith(ends) and not name.startswith("human_fraction")]
    assert len(asked) > 40
    for name in asked:
        check(variant(config, generations=2), Question(measure=name))


def test_fresh_text_comes_from_the_reserve(urn: dict[str, Any], tmp_path: Path) -> None:
    urn["corpus"] |= {"train_words": 2000, "reserve_words": 3000}
    question = Question(policy="fresh", shares=(0,), seeds=2)
    found = advise(parse({**urn, "generations": 2, "measures": FEW_MEASURES}), tmp_path / "advice", question)
    assert found.shares["loss"].iloc[0] > 0 == found.shares["loss"].iloc[1]
    with pytest.raises(UserError, match="raise corpus"):
        advise(parse({**urn, "generations": 4, "measures": FEW_MEASURES}), tmp_path / "more", question)


@pytest.mark.parametrize("substrate", ["gaussian_mixture", "kde", "discrete", "linear_regression"])
def test_other_simple_models_are_advised_too(substrate: str, tmp_path: Path) -> None:
    config = parse({"substrate": substrate, "generations": 4, "chains": 10, "rows": 30, "traced": 0})
    found = advise(config, tmp_path / "advice", Question(shares=(0, 0.5), seeds=2))
    assert found.policy == "fresh" and np.isfinite(found.shares["loss"]).all()


def test_the_table_fits_a_terminal_and_the_figure_shows_the_answer(gaussian: Advice, tmp_path: Path) -> None:
    text = rendered(gaussian)
    assert max(map(len, text.splitlines())) <= 80
    assert "baseline" in text and "never wrong" in text
    figure = draw(gaussian)
    lines = [line for line in figure.axes[0].get_lines() if line.get_color() == ANSWER["color"]]
    assert lines[0].get_xdata().tolist() == [gaussian.answer.low, gaussian.answer.high]  # type: ignore[union-attr]
    assert lines[1].get_xdata().tolist() == [gaussian.answer.share]  # type: ignore[union-attr]
    assert {file.suffix for file in save(figure, tmp_path, "advise")} == {".png", ".pdf", ".svg"}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "gaussian.yaml", tmp_path / "advice"
    file.write_text(yaml.safe_dump({**GAUSSIAN, "chains": 20}))
    common = ["advise", str(file), "--shares", "0,0.3", "--generations", "5", "--out", str(out)]
    cli.main([*common, "--dry-run"])
    assert "9 runs of 5 generations" in capsys.readouterr().out and not out.exists()
    cli.main([*common, "--json"])
    answered = json.loads(capsys.readouterr().out)
    assert answered["generations"] == 5 and [row["share"] for row in answered["shares"]] == [0, 0.3, 1]
    assert (out / "figures" / "advise.pdf").is_file()
    cli.main([*common, "--dry-run"])
    assert "nothing is left to do" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main([*common, "--shares", "0,a"])
    assert "shares is '0,a'" in capsys.readouterr().err
