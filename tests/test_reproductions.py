"""Reproductions: what counts as evidence, that every sweep binds, that documented results follow from tables."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lmcollapse.cli import main
from lmcollapse.reproductions.evidence import (
    Evidence,
    above,
    against,
    average,
    below,
    change,
    factor,
    finding,
    rises_every_generation,
    within,
)
from lmcollapse.reproductions.panels import Panel
from lmcollapse.reproductions.reproduce import NAMES, find
from lmcollapse.reproductions.results import ABOUT, FINDINGS, TABLE, computing, findings_table, interval, load
from lmcollapse.theory import survival
from lmcollapse.trajectories import Estimate
from lmcollapse.types import UserError

ROOT = Path(__file__).parent.parent
DOCUMENTED = sorted(folder for folder in (ROOT / "docs" / "tables" / "reproductions").glob("*") if folder.is_dir())


def tidy(values: dict[str, np.ndarray], measure: str = "perplexity") -> pd.DataFrame:
    """A tidy table from `(seeds, generations)` by condition."""
    rows = [
        (f"{name}/{seed}", name, seed, generation, measure, float(value), np.nan, np.nan)
        for name, seeds in values.items()
        for seed, row in enumerate(seeds)
        for generation, value in enumerate(row)
    ]
    columns = ["run", "condition", "seed", "generation", "measure", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture
def found() -> Evidence:
    rng = np.random.default_rng(0)
    common = rng.normal(0, 5, (4, 1))  # what a seed does to all of its runs
    steps = np.arange(5.0)
    rising = 100 + common + 10 * steps + rng.normal(0, 0.5, (4, 5))
    flat = 100 + common + rng.normal(0, 0.5, (4, 5))
    return Evidence(tidy({"rising": rising, "flat": flat}))


def test_a_difference_between_conditions_is_that_of_pairs(found: Evidence) -> None:
    one, other = found["rising"]["perplexity"], found["flat"]["perplexity"]
    a, b = one.values(5)[:, 4], other.values(5)[:, 4]
    paired = stats.ttest_rel(a, b).confidence_interval(0.95)
    estimate = against(one, other, 4)
    assert estimate == pytest.approx((np.mean(a - b), paired.low, paired.high))
    unpaired = stats.ttest_ind(a, b).confidence_interval(0.95)
    assert estimate.high - estimate.low < 0.5 * (unpaired.high - unpaired.low)


def test_changes_and_factors_are_taken_seed_by_seed(found: Evidence) -> None:
    trajectory = found["rising"]["perplexity"]
    values = trajectory.values(5)
    expected = stats.ttest_1samp(values[:, 4] - values[:, 1], 0).confidence_interval(0.95)
    assert change(trajectory, 4, 1)[1:] == pytest.approx((expected.low, expected.high))
    logs = stats.ttest_1samp(np.log(values[:, 4] / values[:, 0]), 0).confidence_interval(0.95)
    assert factor(trajectory, 4) == pytest.approx(
        (stats.gmean(values[:, 4] / values[:, 0]), np.exp(logs.low), np.exp(logs.high))
    )
    gaps = values - np.arange(5)
    assert average(trajectory, np.arange(5.0), range(5)).value == pytest.approx(gaps.mean())


def test_a_verdict_needs_the_whole_interval() -> None:
    sure, unsure = Estimate(1.0, 0.5, 1.5), Estimate(1.0, -0.5, 2.5)
    assert (above(sure, 0), above(sure, 2), above(unsure, 0)) == ("holds", "does not hold", "undecided")
    assert (below(sure, 2), below(sure, 0), below(unsure, 2)) == ("holds", "does not hold", "undecided")
    assert (within(sure, 2), within(sure, 0.4), within(unsure, 2)) == ("holds", "does not hold", "undecided")
    assert within(Estimate(-3, -4, -2), 1) == "does not hold"
    none = Estimate(1.0)
    assert {test(none, limit) for test in (above, below, within) for limit in (-9.0, 0.0, 9.0)} == {"undecided"}
    held = finding("it is so", sure, within, 2.0, "a number", "1")
    assert (held.verdict, held.statistic) == ("holds", "a number (holds within ±2)")
    assert interval(held) == "1.000 [0.500, 1.500]"


def test_every_step_must_rise() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.1, (4, 5))
    rising, falls = np.arange(5.0) + noise, np.array([0, 1, 2, 1, 4.0]) + noise
    flat = np.array([0, 1, 1, 2, 3.0]) + noise
    verdicts = {
        name: rises_every_generation("", Evidence(tidy({"x": values}))["x"]["perplexity"], 4, "").verdict
        for name, values in {"rising": rising, "falls": falls, "flat": flat}.items()
    }
    assert verdicts == {"rising": "holds", "falls": "does not hold", "flat": "undecided"}


def test_seeds_are_paired_by_number_and_not_by_place() -> None:
    table = tidy({"a": np.array([[1.0], [2.0], [4.0]]), "b": np.array([[0.0], [1.0], [3.0]])})
    evidence = Evidence(pd.concat([table[table["condition"] == "a"], table[table["condition"] == "b"].iloc[::-1]]))
    assert against(evidence["a"]["perplexity"], evidence["b"]["perplexity"], 0) == (1.0, 1.0, 1.0)
    fewer = Evidence(table[(table["condition"] == "a") | (table["seed"] != 1)])
    assert fewer.seeds == [0, 2]
    assert against(fewer["a"]["perplexity"], fewer["b"]["perplexity"], 0) == (1.0, 1.0, 1.0)


def test_what_is_missing_is_named(found: Evidence) -> None:
    with pytest.raises(UserError, match=r"no runs of 'accumulate' yet \(there are: rising, flat"):
        found["accumulate"]
    with pytest.raises(UserError, match="have no measure 'mauve'"):
        found["flat"]["mauve"]
    with pytest.raises(UserError, match="did you mean 'detector'"):
        find("detektor")


@pytest.mark.parametrize("name", NAMES)
def test_every_reproduction_binds_at_both_scales(name: str, tmp_path: Path) -> None:
    reproduction = find(name)
    for scale in ("small", "paper"):
        sweep = reproduction.sweep(tmp_path, scale)
        seeds = {cell.seed for cell in sweep.cells}
        assert len(seeds) >= 3 and len(sweep.cells) == len(seeds) * len(sweep.conditions)
        assert {cell.part.keep_models for cell in sweep.cells} <= {"all", "first_last"}
    assert any(name in script.read_text() for script in (ROOT / "scripts").glob("*20*.py"))


def test_a_reproduction_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rate"
    main(["reproduce", "rate", "generations=8", "sweep.seeds=3", "--out", str(out)])
    said = capsys.readouterr().out
    assert "Suresh et al. 2024" in said and "holds" in said
    results = out / "results"
    found = pd.read_csv(results / FINDINGS)
    assert set(found["verdict"]) <= {"holds", "undecided"}, "exact theory was denied"
    exact = found[found["published"] == "exact"]
    assert len(exact) == 2 and (exact["value"].abs() < 0.05).all()
    about = json.loads((results / ABOUT).read_text())
    assert about["command"] == "lmcollapse reproduce rate generations=8 sweep.seeds=3" and about["runs"] == 18
    assert about["seconds"] == round(computing(find("rate").sweep(out, overrides=["sweep.seeds=3"]).runs))

    # a table alone gives the same verdicts and the same figure, to the byte
    again = tmp_path / "again"
    main(["reproduce", "rate", "--tables", str(results), "--out", str(again)])
    for name in (TABLE, FINDINGS, ABOUT, "../results/rate.png"):
        assert (again / "results" / name).read_bytes() == (results / name).read_bytes(), name
    rows = pd.read_csv(results / TABLE)
    survived = rows[(rows["condition"] == "p = 0.01, n = 100") & (rows["measure"] == "rarest_survives")]
    last = survived[survived["generation"] == 7]["value"]
    assert last.mean() == pytest.approx(float(survival(0.01, 100, 8)), abs=0.03)


def test_a_reproduction_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no reproduction"):
        load(find("rate"), tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["reproduce", "all", "--out", str(tmp_path / "x")])
    assert end.value.code == 2


@pytest.mark.parametrize("folder", DOCUMENTED, ids=lambda folder: folder.name)
def test_documented_verdicts_follow_from_their_tables(folder: Path) -> None:
    judged = load(find(folder.name), folder)
    written = pd.read_csv(folder / FINDINGS, keep_default_na=False)
    assert [f.claim for f in judged.findings] == written["claim"].tolist()
    assert [f.verdict for f in judged.findings] == written["verdict"].tolist()
    assert [f.value for f in judged.findings] == pytest.approx(written["value"].tolist(), rel=1e-3, abs=1e-4)
    assert judged.about["scale"] == "small" and judged.about["seeds"] >= 3
    for panel in judged.reproduction.panels(judged.evidence):
        if isinstance(panel, Panel):
            names = panel.conditions or tuple(judged.evidence.table["condition"].unique())
            assert all(panel.measure in judged.evidence[name].measures for name in names)
    assert findings_table(judged.findings).row_count == len(judged.findings)


def test_the_page_of_results_is_what_the_script_writes() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "results.py"))
    documented = [load(find(name), script["TABLES"] / name) for name in NAMES]
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == script["page"](documented)
    for name in NAMES:
        assert (script["FIGURES"] / f"{name}.png").is_file()
