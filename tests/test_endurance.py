"""The programs that wear the testbed out: what they count, and that they can find something."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lmcollapse.verify.same import different_files

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
soak = importlib.import_module("soak")
memory = importlib.import_module("memory")


def python(*words: str) -> subprocess.CompletedProcess[str]:
    """An interpreter that sees the scripts."""
    places = os.pathsep.join([str(ROOT), str(ROOT / "scripts")])
    environment = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, env=environment)


def test_killed_runs_end_with_the_bytes_of_one_that_was_not(tmp_path: Path) -> None:
    file = tmp_path / "counts.json"
    for seed in ("1", "2"):
        done = python(str(ROOT / "scripts" / "torture.py"), "--minutes", "0", "--seed", seed, "--record", str(file))
        assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(file.read_text())
    assert set(found) == {"language model", "n-grams", "Gaussians"}
    assert sum(case["kills"] for case in found.values()) > 0
    assert all(case["runs"] == 2 for case in found.values())
    assert all(case["different"] == 0 and sum(case["at"].values()) == case["kills"] for case in found.values())


def test_torture_says_what_differs() -> None:
    planted = "import torture; torture.different_files = lambda one, two: ['metrics.jsonl']; torture.main()"
    done = python("-c", planted, "--minutes", "0", "--cases", "Gaussians", "--seed", "0")
    assert done.returncode == 1 and "1 differences" in done.stdout and "metrics.jsonl" in done.stdout


def test_runs_are_different_where_a_file_is(tmp_path: Path) -> None:
    for name, weights in (("one", b"weights"), ("two", b"weightS")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model").write_bytes(weights)
        (tmp_path / name / "same").write_bytes(b"same")
        (tmp_path / name / "step.json").write_text(json.dumps({"seconds": len(name) + weights[-1], "files": {}}))
        (tmp_path / name / f"only_{name}").touch()
    assert different_files(tmp_path / "one", tmp_path / "two") == ["model", "only_one", "only_two"]


@pytest.mark.parametrize("gain", [0.0, 0.5])
def test_growth_is_measured_from_end_to_end(gain: float) -> None:
    rows = [100 * (1 + gain * (i - 10) / 190) + (-1) ** i for i in range(201)]
    found = soak.growth([1e6] * soak.FIRST + rows[soak.FIRST :])
    assert found["gain"] * found["middle"] / 100 == pytest.approx(gain, abs=0.01)
    assert found["low"] < found["gain"] < found["high"] and (found["low"] > 0.1) == (gain > 0.1)
    assert soak.growth([3.0] * 20) == {"middle": 3, "gain": 0, "low": 0, "high": 0}


def test_soak_looks_at_every_generation(tmp_path: Path) -> None:
    file = tmp_path / "soak.json"
    done = python(str(ROOT / "scripts" / "soak.py"), "--generations", "14", "--cases", "n-grams", "--record", str(file))
    assert done.returncode in (0, 1) and not done.stderr.count("Traceback"), done.stderr
    rows = json.loads(file.read_text())["cases"]["n-grams"]["rows"]
    assert [row["generation"] for row in rows] == [*range(14)]
    assert all(row["seconds"] > 0 and row["disk"] > 1 and row["descriptors"] > 2 for row in rows)


def test_memory_wants_a_limit_that_shows_something() -> None:
    script = str(ROOT / "scripts" / "memory.py")
    if memory.limit_in_force() < float("inf"):
        pytest.skip("this process is under a limit of memory")
    done = python(script, "--megabytes", "3000")
    assert done.returncode == 2 and "there is no limit on memory: give --limit" in done.stderr


def test_the_document_says_what_the_records_say() -> None:
    document = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    records = {file.stem: json.loads(file.read_text()) for file in (ROOT / "docs/tables/reliability").glob("*.json")}
    for name, of in records["torture"].items():
        row = f"| {name} | {of['kills']:,} | {of['through_the_command']:,} | {of['runs']:,} | {of['different']} |"
        assert row in document, row
    kills = sum(of["kills"] for of in records["torture"].values())
    assert f"| kills survived | {kills:,} |" in document and kills >= 1000
    assert sum(of["through_the_command"] for of in records["torture"].values()) >= 100
    for name, of in records["fuzz"].items():
        row = f"| {name} | {sum(of.values()):,} | {of['right']:,} | {of['error']:,} | {of['defect']} |"
        assert row in document, row
    cases = sum(sum(of.values()) for of in records["fuzz"].values())
    assert f"| cases of bad input | {cases:,} |" in document and cases >= 10_000
    for test in re.findall(r"`(test_\w+\.py)`|`tests/(test_\w+\.py)`", document):
        assert (ROOT / "tests" / "".join(test)).is_file(), test
