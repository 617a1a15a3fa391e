"""The simple substrates against independent implementations; what theory says of them is in test_selfcheck.py."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats
from scipy.integrate import dblquad, quad
from sklearn.mixture import GaussianMixture as Reference

from lmcollapse.catalog import CATALOG
from lmcollapse.chains import trajectories
from lmcollapse.cli import main
from lmcollapse.config import load, parse
from lmcollapse.loop import run
from lmcollapse.substrates.chain import ChainSubstrate
from lmcollapse.substrates.discrete import Discrete
from lmcollapse.substrates.gaussian import Gaussian, root
from lmcollapse.substrates.gaussian_mixture import GaussianMixture
from lmcollapse.substrates.kde import KDE
from lmcollapse.substrates.linear_regression import LinearRegression
from lmcollapse.types import Floats, State, UserError

SIMPLE = ["gaussian", "gaussian_mixture", "kde", "discrete", "linear_regression"]
POLICIES: list[Any] = [
    "replace",
    "accumulate",
    "accumulate_subsample",
    "human",
    {"kind": "mix", "human_fraction": 0.3},
    {"kind": "mix", "human_keep": 0.3},
    {"kind": "mix", "human_fraction": 0.3, "redraw": False},
    {"kind": "fresh", "human_fraction": 0.3},
    {"kind": "filling", "end": 0.2, "over": 3},
]


def made(kind: type[ChainSubstrate], **options: Any) -> Any:
    return kind.model_validate(options)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize("name", SIMPLE)
def test_every_policy_runs_on_every_substrate(name: str, policy: Any) -> None:
    trace = trajectories(parse({"substrate": name, "policy": policy, "generations": 6, "chains": 7, "rows": 40}))
    for measure, values in trace.measures.items():
        assert values.shape == (6, 7) and np.isfinite(values).all(), measure
    if policy == "human":
        for values in trace.measures.values():  # EM goes on from where it was, and moves a little
            assert values[1:] == pytest.approx(np.repeat(values[:1], 5, axis=0), rel=0.3, abs=0.05)


def test_the_policies_of_the_catalogue_are_all_tried() -> None:
    assert {p if isinstance(p, str) else p["kind"] for p in POLICIES} == set(CATALOG["policy"])


@pytest.mark.parametrize("name", [*SIMPLE])
def test_configurations_run(name: str, tmp_path: Path) -> None:
    file = Path(__file__).parents[1] / "configs" / f"{name}.yaml"
    out = run(load(file, ["generations=3", "chains=4"]), tmp_path / "out")
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("name", SIMPLE)
def test_help_shows_the_options_of_a_configuration(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(__file__).parents[1] / "configs" / f"{name}.yaml"
    with pytest.raises(SystemExit):
        main(["run", str(file), "rows=77", "--help"])
    shown = capsys.readouterr().out
    assert "rows: 77" in shown and "chains: " in shown and "with policy.kind=fresh" in shown
    assert "with corpus.kind" not in shown, "none of them has a corpus here"


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("dimensions", [1, 3])
def test_gaussian_fits_as_numpy_does(ddof: int, dimensions: int) -> None:
    gaussian = made(Gaussian, ddof=ddof, dimensions=dimensions, rows=20)
    values = 3 + 2 * gaussian.human(rng(), 5, 20)
    parts = [gaussian.statistic(part) for part in np.split(values, [4, 11], axis=1)]
    merged = gaussian.merge(gaussian.merge(parts[0], parts[1]), parts[2])
    for statistic in (gaussian.statistic(values), merged):
        model = gaussian.fit(statistic, None, rng())
        for chain in range(5):
            covariance = np.cov(values[chain].T, ddof=ddof).reshape(dimensions, dimensions)
            np.testing.assert_allclose(model["covariance"][chain], covariance, rtol=1e-12)
            np.testing.assert_allclose(model["mean"][chain], values[chain].mean(axis=0), rtol=1e-12)


def test_gaussian_measures_are_those_of_its_covariance() -> None:
    gaussian = made(Gaussian, dimensions=3, rows=20)
    model = gaussian.fit(gaussian.statistic(gaussian.human(rng(), 4, 20)), None, rng())
    found = gaussian.measure(model)
    for chain in range(4):
        mean, covariance = model["mean"][chain], model["covariance"][chain]
        # Givens and Shortt 1984, with the square root of a matrix in place of eigenvalues
        from scipy.linalg import sqrtm

        w2 = mean @ mean + np.trace(covariance + np.eye(3) - 2 * np.real(sqrtm(covariance)))
        assert found["w2_squared"][chain] == pytest.approx(w2, rel=1e-9)
        assert found["determinant"][chain] == pytest.approx(np.linalg.det(covariance))
        assert found["log_variance"][chain] == pytest.approx(np.log(np.linalg.det(covariance)) / 3)
        assert found["variance"][chain] == pytest.approx(np.trace(covariance) / 3)
        assert found["mean_error"][chain] == pytest.approx(mean @ mean / 3)


def test_a_singular_covariance_has_a_root() -> None:
    vector = np.array([[1.0], [2.0], [3.0]])
    covariances = np.stack([vector @ vector.T, np.eye(3)])
    roots = root(covariances)
    np.testing.assert_allclose(roots @ roots.transpose(0, 2, 1), covariances, atol=1e-12)
    gaussian = made(Gaussian, dimensions=3, rows=20)
    assert gaussian.collapsed({"mean": np.zeros((2, 3)), "covariance": covariances}).tolist() == [True, False]


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("components", [1, 2, 3])
def test_mixtures_are_fitted_as_scikit_learn_does(dimensions: int, components: int) -> None:
    mixture = made(GaussianMixture, components=components, dimensions=dimensions, separation=2.5, rows=200)
    rows = mixture.human(rng(1), 4, 200)
    start = {name: np.repeat(array, 4, axis=0) for name, array in mixture.human_model().items()}
    start["means"] = start["means"] + 0.3 * rng(2).standard_normal(start["means"].shape)
    model = mixture.fit({"rows": rows}, start, rng())
    for chain in range(4):
        reference = Reference(
            components,
            weights_init=start["weights"][chain],
            means_init=start["means"][chain],
            precisions_init=np.linalg.inv(start["covariances"][chain]),
            reg_covar=1e-6,
            tol=1e-3,
        ).fit(rows[chain])
        np.testing.assert_allclose(model["means"][chain], reference.means_, atol=1e-8)
        np.testing.assert_allclose(model["covariances"][chain], reference.covariances_, atol=1e-8)
        np.testing.assert_allclose(model["weights"][chain], reference.weights_, atol=1e-8)
        alone = mixture.fit(
            {"rows": rows[chain : chain + 1]}, {k: v[chain : chain + 1] for k, v in start.items()}, rng()
        )
        np.testing.assert_allclose(alone["means"][0], model["means"][chain], atol=1e-12)


def test_a_first_mixture_finds_components_that_stand_apart() -> None:
    mixture = made(GaussianMixture, components=4, separation=8.0, rows=400)
    model = mixture.fit({"rows": mixture.human(rng(), 20, 400)}, None, rng())
    assert (mixture.measure(model)["separation"] > 6).mean() > 0.9
    assert mixture.measure(model)["weight_entropy"].max() < np.log(4)


def test_mixtures_are_sampled_from_their_components() -> None:
    mixture = made(GaussianMixture, rows=50)
    model = {
        "weights": np.array([[0.2, 0.8]]),
        "means": np.array([[[-9.0, 0.0], [9.0, 1.0]]]),
        "covariances": np.array([[[[1.0, 0.5], [0.5, 2.0]], [[0.3, 0.0], [0.0, 0.1]]]]),
    }
    rows = mixture.sample(model, 40_000, rng(), np.empty(0))[0]
    first, second = rows[rows[:, 0] < 0], rows[rows[:, 0] > 0]
    assert stats.binomtest(len(first), 40_000, 0.2).pvalue > 0.001
    np.testing.assert_allclose(np.cov(first.T), model["covariances"][0, 0], atol=0.08)
    np.testing.assert_allclose(np.cov(second.T), model["covariances"][0, 1], atol=0.01)
    np.testing.assert_allclose(second.mean(axis=0), [9, 1], atol=0.02)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_the_distance_of_mixtures_is_an_integral(dimensions: int) -> None:
    mixture = made(GaussianMixture, dimensions=dimensions, separation=2.0, rows=30)
    model = mixture.fit({"rows": mixture.human(rng(3), 1, 30)}, None, rng())
    human = mixture.human_model()

    def squared(*x: float) -> float:
        place = np.array(x)[None, None]
        return float((mixture.density(place, model) - mixture.density(place, human))[0, 0] ** 2)

    if dimensions == 1:
        expected = quad(squared, -9, 9, limit=200)[0]
    else:
        expected = dblquad(squared, -6, 6, -6, 6, epsabs=1e-5, epsrel=1e-3)[0]
    assert mixture.measure(model)["l2_squared"][0] == pytest.approx(expected, rel=5e-3)
    reference = Reference(2, weights_init=[0.5, 0.5])
    reference.weights_, reference.means_ = model["weights"][0], model["means"][0]
    reference.covariances_ = model["covariances"][0]
    reference.precisions_cholesky_ = np.linalg.inv(np.linalg.cholesky(reference.covariances_)).transpose(0, 2, 1)
    rows = mixture.human(rng(4), 1, 10)
    np.testing.assert_allclose(np.log(mixture.density(rows, model)[0]), reference.score_samples(rows[0]))


@pytest.mark.parametrize("rule", ["scott", "silverman"])
def test_bandwidths_are_those_of_scipy(rule: str) -> None:
    kde = made(KDE, bandwidth=rule, rows=30)
    rows = kde.human(rng(), 3, 30)
    model = kde.fit({"rows": rows}, None, rng())
    for chain in range(3):
        reference = stats.gaussian_kde(rows[chain, :, 0], rule)
        assert model["bandwidth"][chain, 0] ** 2 == pytest.approx(reference.covariance[0, 0])
    drawn = kde.sample(model, 20_000, rng(1), rows)
    for chain in range(3):
        reference = stats.gaussian_kde(rows[chain, :, 0], rule)
        places = drawn[chain, :2000, 0]
        ranks = np.array([reference.integrate_box_1d(-np.inf, place) for place in places])
        assert stats.kstest(ranks, "uniform").pvalue > 0.001
        assert drawn[chain].var() == pytest.approx(kde.measure(model)["variance"][chain], rel=0.05)


def test_a_bandwidth_of_several_dimensions_has_one_deviation_each() -> None:
    kde = made(KDE, dimensions=3, rows=50)
    rows = kde.human(rng(), 2, 50) * [1.0, 2.0, 5.0]
    model = kde.fit({"rows": rows}, None, rng())
    np.testing.assert_allclose(model["bandwidth"], 50 ** (-1 / 7) * rows.std(axis=1, ddof=1))


def test_symbols_are_counted_and_drawn() -> None:
    discrete = made(Discrete, distribution="given", probabilities=(0.5, 0.3, 0.2), rows=20_000)
    rows = discrete.human(rng(), 3, 20_000)
    counts = discrete.statistic(rows)["counts"]
    for chain in range(3):
        assert counts[chain].tolist() == np.bincount(rows[chain], minlength=3).tolist()
        assert stats.chisquare(counts[chain], 20_000 * np.array([0.5, 0.3, 0.2])).pvalue > 0.001
    model = discrete.fit(discrete.statistic(rows), None, rng())
    found = discrete.measure(model)
    p = counts / 20_000
    np.testing.assert_allclose(found["entropy"], [stats.entropy(each) for each in p])
    np.testing.assert_allclose(found["heterozygosity"], 1 - (p**2).sum(1))
    assert discrete.truth()["total_variation"] == 0 and discrete.truth()["support"] == 3
    assert (found["rarest"] == p[:, 2]).all()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"symbols": 4}, [0.25] * 4),
        ({"distribution": "zipf", "symbols": 3, "exponent": 2, "shift": 1}, np.array([36, 16, 9]) / 61),
        ({"distribution": "given", "probabilities": (0.9, 0.1)}, [0.9, 0.1]),
    ],
)
def test_human_symbols_have_the_probabilities_that_are_asked_for(options: dict[str, Any], expected: Any) -> None:
    np.testing.assert_allclose(made(Discrete, **options).human_probabilities, expected)


def test_symbols_may_be_the_words_of_a_corpus(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_text("the cat and the dog and the bird " * 20 + f"word{number} " * 2)
    given = parse(
        {
            "substrate": "discrete",
            "distribution": "corpus",
            "corpus": {"kind": "files", "path": str(folder)},
            "policy": "replace",
            "generations": 4,
            "chains": 5,
            "rows": 500,
        }
    )
    out = run(given, tmp_path / "out")
    assert (out / "human" / "train.parquet").exists()
    from lmcollapse.readings import load_readings

    reference = {reading.name: reading.value for reading in load_readings(out / "reference")}
    text = " ".join(pq.read_table(out / "human" / "train.parquet").column("text").to_pylist())
    counts = np.array(list(Counter(text.split()).values()))
    assert reference["support"] == len(counts) > 30
    assert reference["entropy"] == pytest.approx(stats.entropy(counts))


@pytest.mark.parametrize("inputs", ["fresh", "repeated"])
def test_regression_is_least_squares(inputs: str) -> None:
    regression = made(LinearRegression, features=4, rows=30, inputs=inputs)
    human = regression.human(rng(), 3, 30)
    model = regression.fit(regression.statistic(human), None, rng())
    written = regression.sample(model, 30, rng(1), human)
    assert (written[..., :-1] == human[..., :-1]).all() == (inputs == "repeated")
    both = np.concatenate([human, written], axis=1)
    merged = regression.merge(regression.statistic(human), regression.statistic(written))
    again = regression.fit(merged, None, rng())
    for chain in range(3):
        solved = np.linalg.lstsq(both[chain, :, :-1], both[chain, :, -1], rcond=None)[0]
        np.testing.assert_allclose(again["weights"][chain], solved)
        noise = written[chain, :, -1] - written[chain, :, :-1] @ model["weights"][chain]
        assert stats.kstest(noise, "norm").pvalue > 0.001
    singular = {"xx": merged["xx"].copy(), "xy": merged["xy"]}
    singular["xx"][1] = 0
    one_lost = regression.fit(singular, None, rng())
    assert regression.collapsed(one_lost).tolist() == [False, True, False]
    np.testing.assert_allclose(one_lost["weights"][2], again["weights"][2])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"substrate": "kde", "rows": 1}, "needs 2 rows"),
        ({"substrate": "kde", "bandwidth": 0}, "'bandwidth.*is 0"),
        ({"substrate": "gaussian_mixture", "components": 5, "rows": 10}, "need 15 rows"),
        ({"substrate": "gaussian_mixture", "floor": 0}, "'floor' is 0"),
        ({"substrate": "linear_regression", "features": 10, "rows": 11}, "exists from 12 rows"),
        ({"substrate": "discrete", "distribution": "given"}, "0 probabilities are given"),
        ({"substrate": "discrete", "probabilities": [0.5, 0.5]}, "with no other"),
        ({"substrate": "discrete", "distribution": "given", "probabilities": [0.5, 0.4]}, "add up to 0.9"),
        ({"substrate": "discrete", "distribution": "corpus"}, "there is no corpus"),
        ({"substrate": "discrete", "corpus": "docs"}, "there is a corpus that it does not read"),
        ({"substrate": "discrete", "symbols": 1}, "'symbols' is 1"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        run(parse({"policy": "replace", "generations": 2, "chains": 2, **given}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "lost"),
    [
        ({"substrate": "gaussian_mixture", "rows": 6, "generations": 30}, "variance"),
        ({"substrate": "discrete", "rows": 5, "symbols": 3, "generations": 40}, "heterozygosity"),
        ({"substrate": "gaussian", "rows": 4, "dimensions": 3, "generations": 150}, "determinant"),
    ],
)
def test_chains_that_degenerate_are_recorded_and_go_on(given: dict[str, Any], lost: str) -> None:
    trace = trajectories(parse({"policy": "replace", "chains": 40, **given}))
    ended = trace.collapsed_at >= 0
    assert ended.any()
    assert all(np.isfinite(values[~np.isinf(values)]).all() for values in trace.measures.values())
    first = trace.measures[lost][0]
    assert np.median(trace.measures[lost][-1][ended]) < 0.05 * np.median(first)


def states_equal(one: State, two: State) -> bool:
    return all((one[name] == two[name]).all() for name in one)


def test_a_mixture_that_has_converged_is_left_alone() -> None:
    mixture = made(GaussianMixture, rows=100, tolerance=1e9)
    rows: Floats = mixture.human(rng(), 3, 100)
    once = mixture.fit({"rows": rows}, {k: np.repeat(v, 3, axis=0) for k, v in mixture.human_model().items()}, rng())
    longer = made(GaussianMixture, rows=100, tolerance=1e9, iterations=5)
    twice = longer.fit({"rows": rows}, {k: np.repeat(v, 3, axis=0) for k, v in mixture.human_model().items()}, rng())
    assert states_equal(once, twice)
