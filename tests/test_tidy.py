"""The tidy table: what is in it, that it loses nothing on disk, and that figures come out of it alone."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lmcollapse.cli import main
from lmcollapse.config import parse
from lmcollapse.figures import draw, plot, table_of
from lmcollapse.figures.differences import differences
from lmcollapse.loop import run
from lmcollapse.pairs import paired
from lmcollapse.results import table
from lmcollapse.theory import expected
from lmcollapse.tidy import COLUMNS, read_table, tidy, write_table
from lmcollapse.trajectories import over_seeds
from lmcollapse.types import HUMAN, UserError

GAUSSIAN: dict[str, Any] = {"substrate": "gaussian", "generations": 12, "chains": 5, "rows": 20}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two policies with three seeds each, of single normals."""
    folder = tmp_path_factory.mktemp("tidy")
    return [
        run(parse(GAUSSIAN | {"policy": policy, "seed": seed}), folder / f"{policy}_{seed}")
        for policy in ("replace", "accumulate")
        for seed in range(3)
    ]


@pytest.fixture(scope="module")
def found(runs: list[Path]) -> pd.DataFrame:
    return tidy(runs)


def of(found: pd.DataFrame, measure: str, **where: Any) -> pd.DataFrame:
    chosen = found[found["measure"] == measure]
    for name, value in where.items():
        chosen = chosen[chosen[name] == value]
    return chosen


def test_every_measure_is_a_row_as_results_have_it(runs: list[Path], found: pd.DataFrame) -> None:
    assert tuple(found.columns) == COLUMNS
    wanted = table(runs)
    scalars = found[found["at"].isna()].merge(wanted, on=["run", "generation", "measure"], suffixes=("", "_wanted"))
    assert len(scalars) == len(wanted)
    for name in ("value", "low", "high"):
        np.testing.assert_array_equal(scalars[name], scalars[f"{name}_wanted"])
    assert set(found["condition"]) == {"replace", "accumulate"} and set(found["seed"]) == {0, 1, 2}


def test_theory_and_percentiles_stand_beside_their_measures(runs: list[Path], found: pd.DataFrame) -> None:
    theory = of(found, "variance_theory", run="replace_1")
    np.testing.assert_array_equal(theory["value"], expected(parse(GAUSSIAN), "variance"))
    rows = [json.loads(line) for line in (runs[1] / "metrics.jsonl").read_text().splitlines()]
    assert of(found, "variance_p95", run="replace_1")["value"].tolist() == [row["variance_p95"] for row in rows]


def test_a_density_integrates_to_one_and_is_that_of_the_first_seed(found: pd.DataFrame) -> None:
    densities = of(found, "density")
    assert set(densities["run"]) == {"replace_0", "accumulate_0"}
    assert HUMAN in set(densities["generation"])
    for _, curve in densities.groupby(["run", "generation"]):
        assert all(a < b for a, b in pairwise(curve["at"]))
        assert np.trapezoid(curve["value"], curve["at"]) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_nothing_is_lost_on_disk(found: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    odd = found.copy()
    odd.loc[0, ["run", "condition"]] = ['N/A "quoted",\nover two lines', "NA"]
    odd.loc[1, ["value", "low", "high"]] = [np.inf, -np.inf, 0.1 + 0.2]
    write_table(odd, tmp_path)
    pd.testing.assert_frame_equal(read_table(tmp_path / f"results{suffix}"), odd, check_exact=True)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_figures_come_out_of_the_table_alone(runs: list[Path], tmp_path: Path, suffix: str) -> None:
    held = [shutil.copytree(path, tmp_path / "runs" / path.name) for path in runs]
    first = plot(held, tmp_path / "first")
    shutil.rmtree(tmp_path / "runs")
    again = plot([tmp_path / "first" / f"results{suffix}"], tmp_path / "again")
    assert [file.name for file in again] == [file.name for file in first]
    assert {"chains.svg", "differences.svg", "densities.svg"} <= {file.name for file in first}
    for one, two in zip(first, again, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no table of results"),
        (b"PAR1 and no more", "no table of results"),
        (b"run,seed,value\na,0,1\n", "its columns are run, seed, value"),
        (",".join(COLUMNS).encode() + b"\n", "it has no rows"),
        (",".join(COLUMNS).encode() + b"\na,zero,c,0,m,,1,,\n", "no table of results"),
        (",".join(COLUMNS).encode() + b"\n\xff,0,c,0,m,,1,,\n", "no table of results"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    for suffix in (".csv", ".parquet"):
        (tmp_path / f"t{suffix}").write_bytes(content)
        with pytest.raises(UserError, match=message if suffix == ".csv" else "no table of results"):
            read_table(tmp_path / f"t{suffix}")


def test_a_table_that_is_not_there_and_one_beside_others_are_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such table"):
        table_of([tmp_path / "results.csv"])
    (file, _) = write_table(tidy(runs[:1]), tmp_path)
    with pytest.raises(UserError, match="there are others beside it"):
        table_of([runs[0], file])


def test_runs_in_one_condition_differ_in_seed_alone(runs: list[Path], tmp_path: Path) -> None:
    more = run(parse(GAUSSIAN | {"rows": 30, "generations": 2}), tmp_path / "more")
    copy = shutil.copytree(runs[0], tmp_path / "copy")
    named = tidy([*runs[:3], more]).drop_duplicates("run").set_index("run")["condition"].to_dict()
    assert named == {**{f"replace_{seed}": "replace, rows=20" for seed in range(3)}, "more": "replace, rows=30"}
    twins = tidy([runs[0], copy]).drop_duplicates("run").set_index("run")["condition"].to_dict()
    assert twins == {"replace_0": "replace (replace_0)", "copy": "replace (copy)"}


def test_three_seeds_are_one_line_unless_runs_are_asked_for(found: pd.DataFrame) -> None:
    means = over_seeds(of(found, "variance", condition="replace").query("generation >= 0"))
    axes = next(axes for axes in draw(found)["chains"].axes if axes.get_ylabel() == "variance")
    lines = [np.asarray(line.get_ydata(), float).tolist() for line in axes.lines]
    assert means.sort_values("generation")["value"].tolist() in lines
    labels = [text.get_text() for text in draw(found, by="run")["chains"].legends[0].get_texts()]
    assert labels[:6] == [f"{policy}_{seed}" for policy in ("replace", "accumulate") for seed in range(3)]


def test_differences_are_drawn_with_their_intervals(found: pd.DataFrame) -> None:
    figure = differences(found)["differences"]
    pairs = paired(found[found["at"].isna()])
    axes = next(axes for axes in figure.axes if axes.get_ylabel() == "variance")
    wanted = pairs[pairs["measure"] == "variance"].sort_values("generation")
    (line,) = [line for line in axes.lines if len(np.asarray(line.get_xdata())) == len(wanted)]
    assert np.asarray(line.get_ydata()).tolist() == wanted["value"].tolist()
    corners = np.asarray(axes.collections[0].get_paths()[0].vertices)[:, 1]
    assert {*wanted["low"], *wanted["high"]} <= set(corners.tolist())
    assert "3 pairs with the same seed" in figure.legends[0].get_texts()[-1].get_text()
    assert differences(found[found["seed"] < 2]) == {} == differences(found[found["condition"] == "replace"])


def test_means_and_differences_stand_in_a_table(runs: list[Path], found: pd.DataFrame, tmp_path: Path) -> None:
    plot([*runs[:5]], tmp_path)  # the last seed of the second condition is missing
    written = pd.read_csv(tmp_path / "conditions.csv", keep_default_na=False, na_values={"value": "", "low": ""})
    means = written[(written["against"] == "") & (written["condition"] == "replace")]
    wanted = over_seeds(found[found["at"].isna() & (found["condition"] == "replace")])
    np.testing.assert_allclose(means["value"].astype(float), wanted["value"])
    differences_of = written[(written["against"] == "replace") & (written["measure"] == "variance")]
    values = found[(found["measure"] == "variance") & (found["generation"] == 11)].set_index("run")["value"]
    gaps = [values[f"accumulate_{seed}"] - values[f"replace_{seed}"] for seed in (0, 1)]
    last = differences_of[differences_of["generation"] == 11].iloc[0]
    assert last["seeds"] == 2 and last["value"] == pytest.approx(np.mean(gaps))
    plot(runs[:1], tmp_path / "one")
    assert not (tmp_path / "one" / "conditions.csv").exists()


def test_plot_takes_a_table_on_the_command_line(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["plot", str(runs[0]), "--out", str(tmp_path / "one")])
    main(["plot", str(tmp_path / "one" / "results.csv"), "--out", str(tmp_path / "two"), "--by", "run"])
    printed = capsys.readouterr().out.splitlines()
    assert str(tmp_path / "two" / "chains.svg") in printed
