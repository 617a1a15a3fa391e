"""Runs of chains in tables, in status and verdicts, and drawn: the numbers that are shown are those of the run."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from rich.console import Console
from scipy import stats

from lmcollapse.catalog import find
from lmcollapse.config import parse
from lmcollapse.figures import plot
from lmcollapse.figures.chains import LABELS, PANELS, POINTS, TRUTH, chains
from lmcollapse.figures.densities import densities
from lmcollapse.figures.mixtures import MASSES, mixtures
from lmcollapse.figures.mixtures import _levels as levels
from lmcollapse.loop import run
from lmcollapse.metrics.words import words
from lmcollapse.normals import Normals
from lmcollapse.parquet import read_part, write_scores
from lmcollapse.readings import write_readings
from lmcollapse.records import FORMAT, read_metrics, sealed
from lmcollapse.results import judges, over_chains, sequences, table
from lmcollapse.spans import read_models
from lmcollapse.status import status, status_table
from lmcollapse.summaries import summaries
from lmcollapse.theory import expected
from lmcollapse.tidy import tidy
from lmcollapse.types import HUMAN, Floats, Scores
from lmcollapse.verdicts import verdicts
from tests.text import documents

CONFIG = {"substrate": "gaussian", "generations": 30, "chains": 20, "rows": 10}
OTHERS: dict[str, dict[str, Any]] = {
    "accumulate": {"policy": "accumulate", "generations": 12},
    "more_rows": {"rows": 40},
    "stable": {"policy": "accumulate", "generations": 12, "rows": 200, "chains": 100},
    "plane": {"dimensions": 2},
    "far": {"dimensions": 2, "ddof": 1, "rows": 3, "generations": 2000, "chains": 3},
    "one_chain": {"chains": 1},
    "untraced": {"traced": 0, "generations": 5},
    "short": {"generations": 1},
    "long": {"generations": 1500, "chains": 2},
    "kde": {"substrate": "kde", "bandwidth": 0.3},
    "zipf": {"substrate": "discrete", "distribution": "zipf", "symbols": 30, "generations": 200},
    "words": {"substrate": "discrete", "distribution": "corpus", "rows": 50, "generations": 3},
    "mixture": {"substrate": "gaussian_mixture", "components": 3, "rows": 60},
    "line": {"substrate": "gaussian_mixture", "dimensions": 1, "rows": 60},
    "one_component": {"substrate": "gaussian_mixture", "components": 1, "rows": 30},
    "regression": {"substrate": "linear_regression", "rows": 40},
    "tickets": {"substrate": "tests.test_chains:Tickets", "generations": 4},
}
SHOWN = (0, 1, 2, 10, 20, 29)
"""Generations of which models are drawn, out of 30."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs of chains, and one of text with nothing in it but its measures."""
    folder = tmp_path_factory.mktemp("chains")
    (folder / "human.txt").write_text("\n\n".join(documents(40, 50)))
    corpus = {"kind": "files", "path": str(folder / "human.txt"), "document": "paragraph"}
    found = {}
    for name, given in {"run": {}, **OTHERS}.items():
        config = CONFIG | given | ({"corpus": corpus} if name == "words" else {})
        found[name] = run(parse(config), folder / name)
    text = found["text"] = folder / "text"
    text.mkdir()
    manifest = {"format": FORMAT, "config": {"policy": {"kind": "replace"}, "seed": 0, "generations": 1}}
    (text / "manifest.json").write_text(json.dumps(sealed(manifest)))
    (text / "metrics.jsonl").write_text('{"generation": 0, "perplexity": 20.0}\n')
    (text / ".lmcollapse.lock").touch()
    (text / "reference").mkdir()
    write_readings([], text / "reference")
    (text / "generation_000" / "scores").mkdir(parents=True)
    write_scores(Scores(np.ones(2), np.ones(2, np.int64)), text / "generation_000" / "scores" / "judge_00.parquet")
    return found


def column(path: Path, name: str) -> list[float | None]:
    return [row[name] for row in read_metrics(path)]


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_ylabel(): axes for axes in figure.axes}


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def ydata(axes: Axes, line: int = 0) -> Floats:
    return np.asarray(axes.lines[line].get_ydata(), float)


# tables


def test_a_table_of_chains_has_their_means_and_the_exact_truth(runs: dict[str, Path]) -> None:
    found = table([runs["run"]])
    assert set(found["measure"]) == {
        *("mean_error", "variance", "standard_deviation", "log_variance", "w2_squared", "human_fraction", "collapsed")
    }
    variance = found[found["measure"] == "variance"].set_index("generation")
    for part, name in [("value", "variance"), ("low", "variance_low"), ("high", "variance_high")]:
        assert variance[part].drop(HUMAN).tolist() == column(runs["run"], name)
    assert variance.loc[[HUMAN], ["value", "low", "high"]].to_numpy().tolist() == [[1, 1, 1]]


def test_percentiles_over_chains_stand_beside_their_measure(runs: dict[str, Path]) -> None:
    found = over_chains([runs["text"], runs["run"]])
    assert set(found["run"]) == {"run"}
    assert found.drop(columns=["p5", "p50", "p95"]).equals(table([runs["run"]]))
    error = found[(found["measure"] == "mean_error") & (found["generation"] != HUMAN)]
    for part in ("p5", "p50", "p95"):
        assert error[part].tolist() == column(runs["run"], f"mean_error_{part}")
    one = over_chains([runs["one_chain"]])
    assert np.isnan(one.loc[one["generation"] != HUMAN, ["low", "p5", "p95"]].to_numpy()).all()


def test_chains_write_no_sequences_and_have_no_judges(runs: dict[str, Path]) -> None:
    assert sequences([runs["run"], runs["accumulate"]]).empty
    assert judges([runs["run"]]) == ["generation_0"]


def test_summaries_of_chains_are_of_measures_alone(runs: dict[str, Path]) -> None:
    found = summaries([runs["run"]]).set_index("measure")
    assert {"variance", "collapsed"} < set(found.index) and not found.index.str.contains("_p5|_p95|_low").any()
    assert found["warning"].to_dict()["variance"] == "yes"
    assert 2 < float(found["half_life"].to_dict()["variance"]) < 30


def test_verdicts_on_chains_decide_what_their_measures_tell(runs: dict[str, Path]) -> None:
    found = verdicts([runs["run"], runs["stable"], runs["tickets"]]).set_index(["run", "definition"])["verdict"]
    assert found["run", "collapsing variance"] == "holds"
    assert found["stable", "collapsing variance"] == "does not hold"
    rest = found.drop([("run", "collapsing variance"), ("stable", "collapsing variance")])
    assert set(rest) == {"undecidable from this run"}


# status


def shown(folder: Path) -> str:
    console = Console(width=80, record=True)
    console.print(status_table(status(folder)))
    return console.export_text()


def test_status_shows_measures_of_chains_beside_those_of_text(runs: dict[str, Path]) -> None:
    states = {found.name: found for found in status(runs["run"].parent)}
    assert states["run"].state == "finished" and states["run"].done == 30
    lines = shown(runs["run"].parent).splitlines()
    headings = [line.split()[4:] for line in lines if line.startswith("run ") and "state" in line]
    assert ["mean", "error", "variance", "collapsed"] in headings
    assert ["perplexity", "distinct-2", "tail", "coverage"] in headings
    assert max(map(len, lines)) <= 80


def test_a_run_of_chains_that_was_stopped_says_where(runs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(runs["run"], tmp_path / "run")
    file = tmp_path / "run" / "metrics.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:7]))
    assert [(found.state, found.done) for found in status(tmp_path)] == [("stopped: generation 7", 7)]
    shutil.copytree(tmp_path / "run", tmp_path / "unmeasured")
    (tmp_path / "unmeasured" / "metrics.jsonl").unlink()
    assert shown(tmp_path).count("variance") == 1 and "0/30" in shown(tmp_path)


# the figure `chains`


def test_lines_and_bands_are_those_of_the_run(runs: dict[str, Path]) -> None:
    drawn = panels(chains(tidy([runs["run"]]))["chains"])
    assert list(drawn) == [LABELS[measure] for measure in PANELS["gaussian"]]
    for measure in PANELS["gaussian"]:
        axes = drawn[LABELS[measure]]
        assert axes.get_xscale() == "log"
        assert axes.get_yscale() == ("linear" if measure == "log_variance" else "log")
        assert np.asarray(axes.lines[0].get_xdata()).tolist() == list(range(1, 31))
        assert ydata(axes).tolist() == column(runs["run"], measure)
        for band, ends in zip(axes.collections, [("p5", "p95"), ("low", "high")], strict=True):
            assert isinstance(band, PolyCollection)
            corners = {(x, y) for x, y in np.asarray(band.get_paths()[0].vertices).tolist()}
            for end in ends:
                values = column(runs["run"], f"{measure}_{end}")
                assert {(t + 1, value) for t, value in enumerate(values)} <= corners


def test_the_dashed_black_line_is_theory(runs: dict[str, Path]) -> None:
    config = parse(json.loads((runs["run"] / "manifest.json").read_text())["config"])
    drawn = panels(chains(tidy([runs["run"]]))["chains"])
    dashed = {
        label: [line for line in axes.lines if line.get_linestyle() == "--" and line.get_color() == "black"]
        for label, axes in drawn.items()
    }
    for measure in PANELS["gaussian"]:
        theory = expected(config, measure)
        assert len(dashed[LABELS[measure]]) == (theory is not None)
        for line in dashed[LABELS[measure]]:
            np.testing.assert_array_equal(np.asarray(line.get_ydata(), float), theory)
    (variance,) = dashed[LABELS["variance"]]
    np.testing.assert_allclose(np.asarray(variance.get_ydata(), float), 0.9 ** np.arange(1, 31))


def test_runs_are_laid_over_each_other_and_named_by_what_differs(runs: dict[str, Path]) -> None:
    figure = chains(tidy([runs["run"], runs["accumulate"]]))["chains"]
    extra = ["95 % interval of the mean over chains", "5 % to 95 % of the chains", "theory", "human data"]
    assert labels(figure) == ["replace", "accumulate", *extra]
    assert all(len(axes.collections) == 4 for axes in figure.axes)
    figure = chains(tidy([runs["run"], runs["more_rows"], runs["run"]]))["chains"]
    assert labels(figure)[:3] == ["replace, rows=10", "replace, rows=40", extra[0]]
    assert len({line.get_color() for line in figure.axes[0].lines if line.get_linestyle() == "-"} - {"0.6"}) == 2


def test_runs_that_differ_in_nothing_are_named_by_their_directory(runs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(runs["run"], tmp_path / "again")
    assert labels(chains(tidy([runs["run"], tmp_path / "again"]))["chains"])[:2] == ["replace (run)", "replace (again)"]


def test_the_truth_is_a_grey_line_where_it_can_be_drawn(runs: dict[str, Path]) -> None:
    drawn = panels(chains(tidy([runs["run"]]))["chains"])
    grey = {label for label, axes in drawn.items() if any(line.get_color() == TRUTH["color"] for line in axes.lines)}
    assert grey == {LABELS["variance"], LABELS["log_variance"]}  # an error of 0 has no place on a logarithmic axis


def test_one_chain_has_no_bands(runs: dict[str, Path]) -> None:
    figure = chains(tidy([runs["one_chain"]]))["chains"]
    assert not any(axes.collections for axes in figure.axes)
    assert labels(figure) == ["replace", "theory", "human data"]


def test_of_a_long_run_some_generations_are_drawn(runs: dict[str, Path]) -> None:
    figure = chains(tidy([runs["long"]]))["chains"]
    x = np.asarray(figure.axes[0].lines[0].get_xdata()).tolist()
    assert x[:30] == list(range(1, 31)) and x[-1] == 1500 and len(x) < POINTS
    values = column(runs["long"], "variance")
    assert ydata(figure.axes[0]).tolist() == [values[t - 1] for t in x]


def test_each_substrate_has_a_figure_of_its_own(runs: dict[str, Path]) -> None:
    figures = chains(tidy([runs["run"], runs["tickets"], runs["text"]]))
    assert set(figures) == {"chains_gaussian", "chains_rows"}
    assert list(panels(figures["chains_rows"])) == ["rows", "human", "newest", "different"]


# the figures `densities` and `mixtures`


def test_densities_are_those_of_the_first_chain(runs: dict[str, Path]) -> None:
    figure = densities(tidy([runs["run"]]))["densities"]
    assert labels(figure) == [f"generation {g}" for g in SHOWN] + ["human data"]
    models = read_models(runs["run"])
    for line, generation in zip(figure.axes[0].lines, SHOWN, strict=True):
        x, y = (np.asarray(part, float) for part in (line.get_xdata(), line.get_ydata()))
        mean, variance = models[generation]["mean"][0, 0], models[generation]["covariance"][0, 0, 0]
        np.testing.assert_allclose(y, stats.norm(mean, np.sqrt(variance)).pdf(x), rtol=1e-6, atol=1e-12)
        assert np.trapezoid(y, x) == pytest.approx(1, abs=1e-3)
    (truth,) = figure.axes[0].collections
    assert np.asarray(truth.get_paths()[0].vertices)[:, 1].max() == pytest.approx(stats.norm.pdf(0), rel=1e-4)


def test_densities_of_kernels(runs: dict[str, Path]) -> None:
    axes = densities(tidy([runs["kde"]]))["densities"].axes[0]
    model = read_models(runs["kde"])[29]
    x, y = np.asarray(axes.lines[-1].get_xydata()).T
    parts = stats.norm(model["rows"][0], model["bandwidth"][0]).pdf(x)
    np.testing.assert_allclose(y, parts.mean(axis=0), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", ["zipf", "words"])
def test_probabilities_by_rank(runs: dict[str, Path], name: str) -> None:
    axes = densities(tidy([runs[name]]))["densities"].axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    truth, first = ydata(axes), ydata(axes, 1)
    weights = 1 / (np.arange(1, 31) + 2.7)
    if name == "words":
        train = read_part(runs[name] / "human" / "train.parquet").texts
        counts = Counter(word for text in train for word in words(text))
        weights = np.array(sorted(counts.values(), reverse=True), float)
    np.testing.assert_allclose(truth, (weights / weights.sum())[np.asarray(axes.lines[0].get_xdata(), int) - 1])
    found = read_models(runs[name])[0]["probabilities"][0]
    ranks = np.asarray(axes.lines[1].get_xdata(), int)
    assert ranks[0] == 1 and ranks[-1] == (found > 0).sum()
    assert first.tolist() == np.sort(found)[::-1][ranks - 1].tolist()


def test_runs_have_densities_in_panels_of_one_scale(runs: dict[str, Path]) -> None:
    assert len(densities(tidy([runs["run"], runs["plane"], runs["untraced"]]))["densities"].axes) == 1
    figure = densities(tidy([runs["run"], runs["accumulate"]]))["densities"]
    assert [axes.get_title() for axes in figure.axes] == ["replace", "accumulate"]
    assert len({axes.get_ylim() for axes in figure.axes}) == 1


def test_regions_of_mixtures_hold_their_mass() -> None:
    x = np.linspace(-6, 6, 400)
    places = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2)
    found = levels(Normals.standard(2).density(places))
    np.testing.assert_allclose(found, [(1 - mass) / (2 * np.pi) for mass in MASSES], rtol=0.01)


def test_mixtures_are_small_multiples(runs: dict[str, Path]) -> None:
    figure = mixtures(tidy([runs["plane"], runs["run"]]))["mixtures"]
    assert [axes.get_title() for axes in figure.axes] == [f"generation {g}" for g in SHOWN]
    models = read_models(runs["plane"])
    for axes, generation in zip(figure.axes, SHOWN, strict=True):
        assert len(axes.collections) == 2  # filled regions, and the truth
        assert np.asarray(axes.lines[0].get_xydata()).tolist() == [models[generation]["mean"][0].tolist()]
    assert labels(figure) == ["95 % of the mass", "50 % of the mass", "means", "human data"]


def test_mixtures_on_the_line_are_curves(runs: dict[str, Path]) -> None:
    figure = mixtures(tidy([runs["line"]]))["mixtures"]
    assert labels(figure) == ["model", "human data"] and len(figure.axes) == 6
    x, truth = np.asarray(figure.axes[0].lines[1].get_xydata()).T
    np.testing.assert_allclose(truth, (stats.norm(-2).pdf(x) + stats.norm(2).pdf(x)) / 2, rtol=1e-6)


def test_mixtures_of_several_runs_are_rows(runs: dict[str, Path]) -> None:
    figure = mixtures(tidy([runs["mixture"], runs["one_component"]]))["mixtures"]
    assert len(figure.axes) == 12 and len({axes.get_xlim() for axes in figure.axes}) == 1
    assert figure.axes[0].get_ylabel().split() == ["replace,", "rows=60,", "components=3"]
    assert len(np.asarray(figure.axes[0].lines[0].get_xydata())) == 3


def test_the_density_of_a_mixture() -> None:
    rng = np.random.default_rng(0)
    weights, means = np.array([0.3, 0.7]), rng.normal(size=(2, 2))
    covariances = np.array([[[2.0, 0.5], [0.5, 1.0]], [[0.3, -0.1], [-0.1, 0.2]]])
    places = rng.normal(size=(50, 2))
    parts = [stats.multivariate_normal(m, c).pdf(places) for m, c in zip(means, covariances, strict=True)]
    found = Normals(weights, means, covariances)
    np.testing.assert_allclose(found.density(places), weights @ np.array(parts))
    blurred = found.blurred(0.5)
    np.testing.assert_allclose(blurred.covariances, covariances + 0.25 * np.eye(2))


# all of them


@pytest.mark.parametrize("name", ["chains", "densities", "mixtures"])
def test_runs_of_text_have_no_such_figure(runs: dict[str, Path], name: str) -> None:
    assert find("figure", name)(tidy([runs["text"]])) == {}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["run", *OTHERS])
def test_any_run_of_chains_is_drawn(runs: dict[str, Path], name: str) -> None:
    pictures = {"mixtures"} if name in ("plane", "far", "mixture", "line", "one_component") else {"densities"}
    if name in ("untraced", "tickets", "regression"):
        pictures = set()
    drawn = {
        stem: figure for draw in (chains, densities, mixtures) for stem, figure in draw(tidy([runs[name]])).items()
    }
    assert set(drawn) == {"chains"} | pictures
    for figure in drawn.values():
        figure.draw_without_rendering()


def test_chains_are_plotted_without_the_figures_of_text(runs: dict[str, Path], tmp_path: Path) -> None:
    assert {file.stem for file in plot([runs["run"], runs["kde"]], tmp_path)} == {
        *("chains_gaussian", "chains_kde", "densities_gaussian", "densities_kde", "results")
    }


def test_a_measure_that_a_run_does_not_take_has_no_panel(runs: dict[str, Path]) -> None:
    labels = [LABELS[measure] for measure in PANELS["gaussian_mixture"] if measure != "separation"]
    assert list(panels(chains(tidy([runs["one_component"]]))["chains"])) == labels
