"""The run directory: atomic, verified, held by one process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lmcollapse.files import below
from lmcollapse.records import Facts, holder
from lmcollapse.store import Artefact, Run, open_run, step_seed
from lmcollapse.types import Progress, Silent, UserError


class Counter:
    """A step that counts how often it is computed."""

    def __init__(self, text: str = "hello") -> None:
        self.text, self.calls = text, 0

    def __call__(self, folder: Path, progress: Progress) -> Facts:
        self.calls += 1
        (folder / "inner").mkdir()
        (folder / "inner" / "a.txt").write_text(self.text)
        progress.say("noted")
        return {"length": len(self.text)}


def make(run: Run, write: Counter, **given: object) -> Artefact[str]:
    return run.make("step", write, lambda folder: (folder / "inner" / "a.txt").read_text(), **given)  # type: ignore[arg-type]


def test_a_step_is_made_once_and_read_back(tmp_path: Path) -> None:
    step = Counter()
    for _ in range(2):
        with open_run(tmp_path / "run", Silent()) as run:
            artefact = make(run, step, seed=1)
            assert artefact.read() == "hello" and artefact.facts == {"length": 5}
    assert step.calls == 1
    record = json.loads((tmp_path / "run" / "step" / "step.json").read_text())
    assert record["notes"] == ["noted"] and record["ingredients"]["seed"] == 1


@pytest.mark.parametrize("changed", [{"seed": 2}, {"seed": 1, "options": {"a": 1}}])
def test_other_ingredients_make_it_again(tmp_path: Path, changed: dict[str, object]) -> None:
    step = Counter()
    with open_run(tmp_path, Silent()) as run:
        make(run, step, seed=1)
        make(run, step, **changed)
    assert step.calls == 2


def test_another_input_makes_it_again(tmp_path: Path) -> None:
    step = Counter()
    with open_run(tmp_path, Silent()) as run:
        for text in ("one", "two", "two"):
            first = run.make("input", Counter(text), lambda folder: folder, options=text)
            make(run, step, inputs={"first": first})
    assert step.calls == 2


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda step: _flip(step / "inner" / "a.txt"),
        lambda step: (step / "inner" / "a.txt").write_text("hell"),
        lambda step: (step / "inner" / "a.txt").unlink(),
        lambda step: (step / "extra.txt").write_text("x"),
        lambda step: (step / "step.json").unlink(),
        lambda step: (step / "step.json").write_text('{"ingredients": {'),
    ],
    ids=["bit flipped", "truncated", "missing", "added", "no record", "partial record"],
)
def test_a_damaged_step_is_made_again(tmp_path: Path, damage: object) -> None:
    step = Counter()
    with open_run(tmp_path, Silent()) as run:
        make(run, step)
        damage(tmp_path / "step")  # type: ignore[operator]
        assert make(run, step).read() == "hello"
        assert not (tmp_path / "step" / "extra.txt").exists()
    assert step.calls == 2


def test_a_step_that_fails_leaves_nothing_and_a_later_one_is_made(tmp_path: Path) -> None:
    def fail(folder: Path, progress: Progress) -> None:
        (folder / "half.txt").write_text("half")
        raise RuntimeError("stop")

    with open_run(tmp_path, Silent()) as run:
        with pytest.raises(RuntimeError):
            run.make("step", fail, lambda folder: folder)
        assert [entry.name for entry in tmp_path.iterdir()] == [".lmcollapse.lock"]
        assert make(run, Counter()).read() == "hello"


def test_a_run_in_use_is_refused_by_name_of_its_holder(tmp_path: Path) -> None:
    with open_run(tmp_path, Silent()):
        assert "process" in (holder(tmp_path) or "")
        with pytest.raises(UserError, match=r"in use by process \d+"), open_run(tmp_path, Silent()):
            pass
    assert holder(tmp_path) is None


def test_a_killed_process_leaves_no_stale_lock(tmp_path: Path) -> None:
    script = (
        "import os, pathlib; from lmcollapse.store import open_run; from lmcollapse.types import Silent\n"
        f"with open_run(pathlib.Path({str(tmp_path)!r}), Silent()): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    assert (tmp_path / ".lmcollapse.lock").read_text().startswith("process")
    assert holder(tmp_path) is None
    with open_run(tmp_path, Silent()):
        pass


def test_a_foreign_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds files but no run"), open_run(tmp_path, Silent()):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_cannot_work_leaves_no_new_directory_and_spoils_no_old_one(tmp_path: Path) -> None:
    with pytest.raises(UserError), open_run(tmp_path / "run", Silent()) as run:
        make(run, Counter())
        raise UserError("no")
    assert not (tmp_path / "run").exists()
    with open_run(tmp_path / "run", Silent()) as run:
        make(run, Counter())
    with pytest.raises(UserError), open_run(tmp_path / "run", Silent()):
        raise UserError("no")
    assert (tmp_path / "run" / "step").exists()


def test_seeds_differ_by_run_generation_and_step() -> None:
    seeds = {step_seed(s, g, name) for s in range(10) for g in range(-1, 10) for name in ("model", "corpus")}
    assert len(seeds) == 10 * 11 * 2
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_folder_that_vanishes_while_it_is_looked_through_is_passed_over(tmp_path: Path) -> None:
    for name in ("kept", "work"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "file").touch()
    found = below(tmp_path)
    assert {next(found), next(found)} == {tmp_path / "kept", tmp_path / "work"}
    shutil.rmtree(tmp_path / "work")
    assert list(found) == [tmp_path / "kept" / "inner", tmp_path / "kept" / "inner" / "file"]
