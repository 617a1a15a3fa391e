"""Forecasts: a sweep becomes what was said of it; what runs share counts once, and what is there not at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lmcollapse.config import parse
from lmcollapse.costs import size_of
from lmcollapse.executors.where import Where
from lmcollapse.forecast import Forecast, described, forecast
from lmcollapse.forecast.ledger import Sizes, entries, tokens_in
from lmcollapse.forecast.rates import line
from lmcollapse.loop import run
from lmcollapse.records import RECORD
from lmcollapse.sweeps import Sweep, plan, work
from lmcollapse.types import Corpus, UserError
from tests.small import SMALL, lmcollapse
from tests.text import FEW_MEASURES, text_file
from tests.urn import TENTH, Urn, urn_config


class Picky(Urn):
    """An urn that cannot be fitted to a few rows."""

    def fit(self, base: Path, train: Corpus, *rest: Any) -> Any:
        if len(train) < 200:
            raise UserError(f"{len(train)} rows are too few for the picky urn; give 200")
        return super().fit(base, train, *rest)


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    return urn_config(tmp_path, sweep={"seeds": 2, "grid": {"policy": ["replace", TENTH, "accumulate"]}})


def tree(folder: Path) -> dict[str, int]:
    """Every file below a folder, and when it was last written."""
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def steps_on_disk(sweep: Sweep) -> Counter[str]:
    """How many different steps there are of each kind, hard links counted once."""
    records = {file.stat().st_ino: file for cell in sweep.cells for file in cell.path.rglob(RECORD)}
    return Counter(file.parent.name for file in records.values())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"population": {"members": 2, "exchange": "ring"}},
        {"population": {"members": 2, "exchange": "shared"}},
        {"detector": {"kind": "oracle", "action": "drop"}},
        {"curation": {"kind": "length", "candidates": 3}},
        {"corpus": {"reserve_words": 3000, "train_words": 2000}, "policy": {"kind": "fresh", "human_fraction": 0.3}},
    ],
    ids=lambda changes: ", ".join(changes) or "plain",
)
def test_the_steps_that_are_foretold_are_those_that_are_made(
    given: dict[str, Any], tmp_path: Path, changes: Mapping[str, Any]
) -> None:
    given["corpus"] |= {"train_words": 4000, "heldout_words": 300}  # less than there is: each seed has another part
    if changes:
        given["sweep"] = {"seeds": 1, "grid": {"policy": ["replace", "accumulate"]}}
    for key, value in changes.items():
        given[key] = {**given.get(key, {}), **value} if isinstance(value, Mapping) else value
    if "policy" in changes:
        given["sweep"]["grid"] = {"generations": [2, 3]}  # the shorter run is the beginning of the longer one
    sweep = plan(given, tmp_path / "out")
    work(sweep)
    sizes = tokens_in(sweep.cells[0].runs[0])
    assert sizes is not None
    found = [entry for cell in sweep.cells for entry in entries(cell, sizes)]
    assert {entry.name for entry in found if not entry.done} == set()
    kinds = {entry.key: entry.kind for entry in found}
    assert Counter(kinds.values()) == steps_on_disk(sweep)


@pytest.mark.parametrize("keep_models", ["all", "first_last", "none"])
def test_the_size_is_that_of_the_directory_in_the_end(given: dict[str, Any], tmp_path: Path, keep_models: str) -> None:
    given["sweep"] |= {"keep_models": keep_models, "seeds": 1}
    given["measures"] = FEW_MEASURES
    sweep = plan(given, tmp_path / "out")
    before = forecast(sweep)
    assert (before.runs, before.finished, before.left) == (3, 0, before.generations)
    assert not before.measured and before.unknown is None and before.elapsed() > 0
    assert not sweep.out.exists(), "it leaves nothing behind"
    work(sweep)
    models = {file.stat().st_ino for file in sweep.out.rglob("model.json")}
    assert len(models) == {"all": 1 + 3 * 2, "first_last": 1 + 3, "none": 0}[keep_models]
    actual = size_of(sweep.out)
    assert before.size == pytest.approx(actual, rel=0.25)
    after = forecast(sweep)
    assert (after.finished, after.left, after.size, after.elapsed()) == (3, 0, actual, 0)
    assert "nothing is left to do" in described(sweep, after)[-1]


def test_what_is_there_is_taken_off_and_tells_what_the_rest_costs(given: dict[str, Any], tmp_path: Path) -> None:
    given["sweep"] = {"seeds": 1, "grid": {"policy": ["replace", "accumulate"]}}
    sweep = plan(given, tmp_path / "out")
    replace, _ = sweep.cells
    run(replace.config, replace.path, part=replace.part)
    for file in replace.path.rglob(RECORD):  # a hundred seconds for each fit to as many rows as the human part has
        record = json.loads(file.read_text())
        file.write_text(json.dumps(record | {"seconds": 100.0 if file.parent.name == "model" else 0.0}))
    before = tree(sweep.out)
    found = forecast(sweep)
    assert tree(sweep.out) == before
    assert (found.finished, found.generations, found.left, found.measured) == (1, 5, 2, True)
    # generation 0 is there; the next ones read two and three times as many rows
    assert found.elapsed() == pytest.approx(200 + 300, rel=0.02)
    assert found.elapsed(8) == found.elapsed()
    work(sweep)
    assert size_of(sweep.out) == pytest.approx(found.size, rel=0.25)


def test_workers_wait_for_what_another_makes_and_cannot_divide_a_run() -> None:
    def left(*runs: dict[str, float]) -> Forecast:
        steps = [list(run.items()) for run in runs]
        return Forecast(["a"], [0], len(runs), 0, 1, 1, steps, size=0, factor=1, measured=True, took=0)

    shared = left({"0": 10, "a": 5}, {"0": 10, "b": 7})
    assert [shared.elapsed(workers) for workers in (1, 2, 3)] == [22, 17, 17]
    apart = left({"a": 50}, {"b": 50}, {"c": 50})
    assert [apart.elapsed(workers) for workers in (1, 2, 3, 9)] == [150, 100, 50, 50]
    assert left().elapsed(2) == 0


def test_a_fixed_part_is_told_from_one_for_each_token() -> None:
    import numpy as np

    known, values = np.array([[10.0], [20.0], [40.0]]), np.array([25.0, 45.0, 85.0])  # 5 + 2 a token
    assert line(known, values, np.array([100.0]), proportional=True) == pytest.approx(205)
    assert line(known[:1], values[:1], np.array([20.0]), proportional=True) == 50
    assert line(known[:1], values[:1], np.array([20.0]), proportional=False) == 25
    assert line(known, values[::-1].copy(), np.array([1e6]), proportional=True) > 0, "no token has a negative cost"


def test_chains_are_foretold_from_short_runs_and_then_from_their_own(tmp_path: Path) -> None:
    given = {
        "substrate": "gaussian",
        "generations": 300,
        "chains": 20,
        "rows": 50,
        "sweep": {"seeds": 2, "grid": {"policy": ["replace", "accumulate"]}},
    }
    sweep = plan(given, tmp_path / "out")
    found = forecast(sweep)
    assert (found.generations, found.left, found.measured) == (1200, 1200, False) and found.elapsed() > 0
    cell = sweep.cells[0]
    run(cell.config, cell.path, part=cell.part)
    then = forecast(sweep)
    assert (then.generations, then.left, then.finished) == (1200, 900, 1)
    work(sweep)
    actual = size_of(sweep.out)
    assert found.size == pytest.approx(actual, rel=0.3) and then.size == pytest.approx(actual, rel=0.1)


def test_what_small_runs_cannot_tell_is_said_in_one_line(given: dict[str, Any], tmp_path: Path) -> None:
    sweep = plan({**given, "substrate": "tests.test_forecast:Picky"}, tmp_path / "out")
    found = forecast(sweep)
    lines = described(sweep, found)
    assert lines[2] == "14 generations to fit, what runs share counted once; 14 of them left"
    assert "small runs cannot tell (replace: 75 rows" in lines[-1] and "too few for the picky urn" in lines[-1]
    assert len(lines) == 4 and not any("\n" in line for line in lines)


def test_what_cannot_work_is_refused_and_not_foretold(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="start: previous is not for the urn"):
        forecast(plan({**given, "start": "previous"}, tmp_path / "out"))


def test_a_language_model_and_the_command(tmp_path: Path) -> None:
    """The two-layer model, pruned; human text of which the small runs use a part."""
    human = text_file(tmp_path / "human.txt", count=100)
    given = {**SMALL, "corpus": {"kind": "files", "path": str(human)}, "measures": FEW_MEASURES}
    given |= {"policy": "replace", "start": "scratch"}
    given["sweep"] = {"seeds": 1, "grid": {"policy": ["replace", "accumulate"]}, "keep_models": "first_last"}
    file, out = tmp_path / "sweep.yaml", tmp_path / "out"
    file.write_text(json.dumps(given))
    done = lmcollapse("sweep", file, "--out", out, "--dry-run", "--executor", "workers", "--workers", 1)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "2 conditions: replace; accumulate" and "calibrating" in done.stderr
    assert said[2] == "3 generations to fit, what runs share counted once; 3 of them left"
    assert "left one run after the other" in said[3] and " on disk in the end" in said[3]
    assert not out.exists()
    sweep = plan(given, out)
    work(sweep)
    size, unit = said[3].partition(", about ")[2].split()[:2]
    foretold = float(size) * {"kB": 1e3, "MB": 1e6}[unit]
    assert foretold == pytest.approx(size_of(out), rel=0.3)


def test_sizes_are_of_the_real_run(given: dict[str, Any], tmp_path: Path) -> None:
    run(parse({key: value for key, value in given.items() if key != "sweep"}), tmp_path / "run")
    sizes = tokens_in(tmp_path / "run")
    assert sizes is not None and sizes.written == sizes.human and sizes.reserve == 0
    assert tokens_in(tmp_path / "none") is None
    assert isinstance(sizes, Sizes) and Where().executor == "here"
