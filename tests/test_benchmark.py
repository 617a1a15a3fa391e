"""The benchmark program: what it times, what it writes, and the text that it makes up."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lmcollapse.metrics.words import words

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
racing = importlib.import_module("benchmarks.racing")
made_up = importlib.import_module("benchmarks.text")
measure = importlib.import_module("benchmarks.measure")
sample = importlib.import_module("benchmarks.sample")
fit = importlib.import_module("benchmarks.fit")
generation = importlib.import_module("benchmarks.generation")
chains = importlib.import_module("benchmarks.chains")


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The program, as a person starts it."""
    command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_rows_are_printed_and_written(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    done = benchmark("measure", "--cases", "numbering", "--rounds", "1", "--size", "0.001", "--json", str(file))
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text(encoding="utf-8"))
    assert [list(row) for row in rows] == [["case", "side", "value", "unit", "ratio", "precision", "roofline"]] * 2
    assert [row["side"] for row in rows] == ["ours", "words() and a dictionary"]
    assert rows[0]["ratio"] == 1 and rows[1]["ratio"] == rows[0]["value"] / rows[1]["value"]
    assert all(row["side"] in done.stdout for row in rows) and "python 3" in done.stdout and "cores" in done.stdout
    assert "round 1 of 1" in done.stderr and "round" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["measure", "--cases", "numbering,nothing"], "unknown case nothing; known: "),
        (["measure", "--rounds", "0"], "--rounds"),
        (["measure", "--size", "-1"], "--size"),
        (["speed"], "invalid choice: 'speed'"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_timed(arguments: list[str], message: str) -> None:
    done = benchmark(*arguments)
    assert done.returncode == 2 and message in done.stderr and not done.stdout


@pytest.mark.parametrize("beams", [None, 2])
def test_writing_is_timed_beside_generate(beams: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "BATCHES", {"cpu": (2,)})
    monkeypatch.setattr(sample, "rates", lambda device: sample.Machine({"float32": 1e9}, 1e9))
    shape = sample.Shape(layers=1, width=16, heads=2, vocabulary=40, prompt=2, new=3, beams=beams, documents=2)
    rows = {row.side: row for row in sample.case_of("tiny", shape, ("float32",))(racing.Settings(rounds=1))}
    assert {"ours", "transformers", "roofline"} <= set(rows)
    ours, limit = rows["ours"], rows.pop("roofline")
    assert ours.ratio == 1 and ours.unit == "tokens/s"
    assert all(row.value > 0 and row.ratio == ours.value / row.value for row in rows.values())
    assert ours.precision == "float32" and ours.roofline == pytest.approx(ours.value / limit.value)


def test_the_roofline_is_the_lower_of_products_and_memory() -> None:
    shape = sample.Shape(layers=1, width=10, heads=2, vocabulary=100, prompt=1, new=1, beams=None, documents=1)
    weights = 12 * 100 + 1000
    products = 2 * (weights + 12 * 100) + 4 * 10 * 1.5
    moved = weights * 4 / 8 + 2 * 100 * 4 + 2 * 10 * 4 * 1.5
    for rates, expected in (
        (sample.Machine({"float32": 1e6}, 1e12), 1e6 / products),
        (sample.Machine({"float32": 1e12}, 1e6), 1e6 / moved),
    ):
        assert sample.roofline(shape, rates, "float32", 8) == pytest.approx(expected)


def test_fits_are_timed_on_both_sides_and_learn() -> None:
    shape = sample.Shape(layers=1, width=16, heads=2, vocabulary=40, prompt=1, new=1, beams=None, documents=1)
    heldout = fit.text(40, 20, 8, seed=1)
    untrained = fit.perplexity(fit.model_of(shape, 8, 0), heldout)
    for side in (fit.ours(shape, "float32", 60, 0, 8, 8), fit.trainer(shape, 60, 0, 8, 8)):
        speed, module = side
        assert speed > 0
        assert fit.perplexity(module, heldout) < 0.95 * untrained


def test_the_generation_by_other_packages_scores_as_the_project_does() -> None:
    config = generation.configuration(2000)
    assert config.generations == 1 and config.section("corpus")[1]["train_words"] == 2000
    shape = sample.Shape(layers=1, width=16, heads=2, vocabulary=40, prompt=1, new=1, beams=None, documents=1)
    module, tokens = fit.model_of(shape, 8, 0).eval(), fit.text(40, 20, 7, seed=1)
    rows = [[0, *row] for row in tokens.tolist()]
    expected = fit.perplexity(module, np.array(rows))
    assert generation.perplexity(module, tokens.tolist(), 0, 6) == pytest.approx(expected, rel=1e-5)


def test_the_usual_loop_over_chains_does_the_same() -> None:
    ours, loop = (side(400, 5, 20) for side in (chains.ours, chains.one_by_one))
    assert ours == pytest.approx((1 - 1 / 20) ** 5, abs=0.09)
    assert loop == pytest.approx((1 - 1 / 20) ** 5, abs=0.09)


def test_sides_take_turns_and_missing_ones_are_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []
    sides = [
        racing.Side("ours", lambda: order.append("ours")),
        racing.Side("half", lambda: order.append("half"), needs="json", share=0.5),
        racing.Side("absent", lambda: order.append("absent"), needs="no_such_module"),
    ]
    rows = list(racing.race("case", sides, 3))
    assert order == ["ours", "half"] * 3
    assert [row.side for row in rows] == ["ours", "half"]
    assert "absent: skipped (No module named 'no_such_module')" in capsys.readouterr().err


def test_medians_and_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    seconds = iter([1, 8, 5, 2, 3, 4])  # ours and theirs in turn, three rounds

    def work() -> None:
        nonlocal clock
        clock += next(seconds)

    monkeypatch.setattr("time.perf_counter", lambda: clock)
    sides = [racing.Side("ours", work), racing.Side("theirs", work, share=0.25)]
    ours, theirs = racing.race("case", sides, 3)
    assert (ours.value, theirs.value) == (3, 16)
    assert (ours.ratio, theirs.ratio) == (1, 3 / 16)
    seconds = iter([1, 8])
    ours, theirs = racing.race("case", sides, 1, amount=64, unit="words/s")
    assert (ours.value, theirs.value, theirs.ratio) == (64, 2, 32)


def test_text_is_made_up_alike_each_time_with_exactly_so_many_words(tmp_path: Path) -> None:
    rows = list(made_up.texts(30_000, 0))
    found = [word for row in rows for word in words(row)]
    assert len(found) == 30_000
    assert rows == pq.read_table(made_up.write_texts(tmp_path / "x.parquet", 30_000, 0)).column("text").to_pylist()
    assert rows != list(made_up.texts(30_000, 1))
    assert 0.02 < sum(not row.isascii() for row in rows) / len(rows) < 0.1
    counts = sorted(Counter(found).values(), reverse=True)
    assert counts[1] / counts[10] == pytest.approx((10 + 3.7) / (1 + 3.7), rel=0.3)
    assert len(set(made_up._vocabulary())) == made_up.TYPES


def test_all_measures_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    rows = {row.side: row for row in measure.whole(racing.Settings(rounds=1, size=0.0005))}
    assert {"ours", "peak memory", "reading human text", "reading the corpus", "distinct_n", "tail_mass"} <= set(rows)
    assert not {"mauve", "frechet", "semantic_diversity", "perplexity"} & set(rows)
    parts = ("reading human text", "reading the corpus", "measures of the corpus", "measures of human text")
    assert 0 < sum(rows[part].value for part in parts) <= rows["ours"].value
    assert rows["peak memory"].value > 50
