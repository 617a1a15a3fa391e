"""Sweeps: which runs a file stands for, what they share, that several processes and kills change nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from lmcollapse.cli import main
from lmcollapse.config import parse
from lmcollapse.executors.carry_out import carry_out
from lmcollapse.executors.where import Where
from lmcollapse.loop import run
from lmcollapse.records import RECORD, is_pruned, read_manifest, read_metrics, read_record
from lmcollapse.sharing import Peers
from lmcollapse.store import Part, open_run
from lmcollapse.sweeps import load_sweep, plan, runs_in, work
from lmcollapse.types import Silent, UserError
from lmcollapse.verify import verify
from lmcollapse.verify.same import different_files
from tests.small import SMALL
from tests.text import FEW_MEASURES, text_file
from tests.urn import TENTH, Urn, urn_config


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    return urn_config(tmp_path, sweep={"seeds": 2, "grid": {"policy": ["replace", TENTH]}})


def inodes(run: Path, name: str) -> set[int]:
    return {file.stat().st_ino for file in (run / name).rglob("*") if file.is_file()}


def test_a_grid_is_every_combination_with_every_seed(given: dict[str, Any], tmp_path: Path) -> None:
    given["sweep"] = {"seeds": [3, 7], "grid": {"policy": ["replace", TENTH], "urn.smoothing": [0.0, 1e-05]}}
    sweep = plan(given, tmp_path / "out")
    assert sweep.conditions == [
        "replace, smoothing=0.0",
        "replace, smoothing=1e-05",
        "mix human_fraction=0.1, smoothing=0.0",
        "mix human_fraction=0.1, smoothing=1e-05",
    ]
    assert len(sweep.cells) == 8 and [cell.seed for cell in sweep.cells] == [3] * 4 + [7] * 4
    last = sweep.cells[-1].config.model_dump()
    assert (last["seed"], last["policy"]["human_fraction"], last["urn"]["smoothing"]) == (7, 0.1, 1e-05)
    assert len({cell.path for cell in sweep.cells}) == 8


def test_conditions_have_names_and_combine_with_the_grid(given: dict[str, Any], tmp_path: Path) -> None:
    conditions = {"nothing kept": {"policy": "replace"}, "a tenth": {"policy": TENTH}}
    given["sweep"] = {"seeds": 1, "conditions": conditions, "grid": {"urn.row_words": [10, 20]}}
    sweep = plan(given, tmp_path / "out")
    assert sweep.conditions == [f"{name}, row_words={n}" for name in conditions for n in (10, 20)]
    assert work(sweep).failed == {}
    manifest = read_manifest(sweep.cells[2].path)
    assert manifest is not None and manifest["condition"] == "a tenth, row_words=10"


def test_what_runs_have_in_common_is_made_once(given: dict[str, Any], tmp_path: Path) -> None:
    sweep = plan(given, tmp_path / "out")
    outcome = work(sweep)
    assert len(outcome.made) == 4 and not outcome.failed and not outcome.elsewhere
    replace, mixed = sweep.cells[0].path, sweep.cells[1].path
    for name in (
        "human",
        "base",
        "rows",
        "reference",
        *(f"generation_000/{n}" for n in ("model", "corpus", "measures")),
    ):
        assert inodes(replace, name) == inodes(mixed, name), name
    assert not inodes(replace, "generation_001/model") & inodes(mixed, "generation_001/model")
    for cell in sweep.cells:
        alone = run(cell.config, tmp_path / "alone" / cell.path.parent.name / cell.path.name)
        assert different_files(alone, cell.path) == []
        assert not verify(cell.path).mismatches
    assert work(plan(given, tmp_path / "out")).made == [], "it was finished"
    assert [path.name for path in runs_in(sweep.out)] == ["seed_0", "seed_1"] * 2


def test_policies_that_choose_alike_share_later_generations(given: dict[str, Any], tmp_path: Path) -> None:
    same = {"kind": "mix", "human_fraction": 0}
    given["sweep"] = {"seeds": 1, "grid": {"policy": ["replace", same]}}
    sweep = plan(given, tmp_path / "out")
    work(sweep)
    a, b = (cell.path for cell in sweep.cells)
    assert inodes(a, "generation_002/model") == inodes(b, "generation_002/model")


def test_the_same_rows_for_another_number_of_steps_are_another_fit(tmp_path: Path) -> None:
    human = text_file(tmp_path / "human.txt", count=60)
    policies = ["accumulate", {"kind": "accumulate", "same_steps": True}]
    given = {**SMALL, "corpus": {"kind": "files", "path": str(human)}, "measures": FEW_MEASURES, "policy": "replace"}
    sweep = plan({**given, "sweep": {"seeds": 1, "grid": {"policy": policies}}}, tmp_path / "out")
    work(sweep)
    plain, same = (read_record(cell.path / "generation_001" / "model") for cell in sweep.cells)
    assert plain is not None and same is not None
    assert "passes" not in plain["facts"] and same["facts"]["passes"] < 1
    assert plain["files"] != same["files"]


def test_a_damaged_step_of_a_peer_is_not_taken(given: dict[str, Any], tmp_path: Path) -> None:
    config = parse({key: value for key, value in given.items() if key != "sweep"})
    first = run(config, tmp_path / "first")
    model = first / "generation_000" / "model" / "model.json"
    model.write_text(model.read_text().replace("0.0", "0.1", 1))
    second = tmp_path / "second"
    run(config, second, part=Part(peers=Peers((first, second), tmp_path / "locks")))
    run(config, first)
    assert different_files(first, second) == []
    assert inodes(first, "rows") == inodes(second, "rows")
    assert inodes(first, "generation_000/model") != inodes(second, "generation_000/model")


def test_one_run_that_fails_leaves_the_others(given: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    sweep = plan(given, out)
    broken = sweep.cells[1]
    broken.path.mkdir(parents=True)
    (broken.path / "mine.txt").write_text("no run")
    outcome = work(sweep)
    assert list(outcome.failed) == [broken.name] and "holds files but no run" in outcome.failed[broken.name]
    assert len(outcome.made) == 3
    (broken.path / "mine.txt").unlink()
    assert work(plan(given, out)).made == [broken.name]


def test_a_bug_leaves_its_traceback(given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = Urn.fit

    def failing(self: Urn, base: Path, train: Any, *rest: Any) -> Any:
        if set(train.generation.tolist()) == {-1, 0}:
            raise RuntimeError("out of luck")
        return fit(self, base, train, *rest)

    monkeypatch.setattr(Urn, "fit", failing)
    outcome = work(plan(given, tmp_path / "out"))
    assert len(outcome.made) == 2 and len(outcome.failed) == 2
    (first, _) = sorted((tmp_path / "out" / "errors").iterdir())
    assert "out of luck" in first.read_text() and "in failing" in first.read_text()


def test_a_run_that_another_process_holds_is_passed_over(given: dict[str, Any], tmp_path: Path) -> None:
    sweep = plan(given, tmp_path / "out")
    with open_run(sweep.cells[0].path, Silent()):
        outcome = work(sweep)
    assert outcome.elsewhere == [sweep.cells[0].name] and len(outcome.made) == 3
    assert work(sweep).made == [sweep.cells[0].name]


def test_two_processes_share_the_work_and_no_step_is_made_twice(given: dict[str, Any], tmp_path: Path) -> None:
    given["sweep"]["seeds"] = 4
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps(given))
    command = [sys.executable, "-m", "lmcollapse", "sweep", str(file), "--out", str(tmp_path / "out"), "--no-figures"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    said = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    sweep = plan(given, tmp_path / "out")
    assert all(cell.complete for cell in sweep.cells)
    starts = [len(manifest["starts"]) for cell in sweep.cells if (manifest := read_manifest(cell.path))]
    assert starts == [1] * 8, "a run was begun twice"
    for replace, mixed in zip(sweep.cells[::2], sweep.cells[1::2], strict=True):
        assert inodes(replace.path, "generation_000/model") == inodes(mixed.path, "generation_000/model")


@pytest.mark.parametrize(("keep", "kept"), [("all", [0, 1, 2, 3]), ("first_last", [0, 3]), ("none", [])])
def test_models_are_pruned_and_the_run_is_as_good_as_before(
    given: dict[str, Any], tmp_path: Path, keep: str, kept: list[int]
) -> None:
    given |= {"generations": 4, "sweep": {**given["sweep"], "keep_models": keep}}
    sweep = plan(given, tmp_path / "out")
    work(sweep)
    for cell in sweep.cells:
        folders = [cell.path / f"generation_{g:03d}" / "model" for g in range(4)]
        assert [g for g, folder in enumerate(folders) if (folder / "model.json").is_file()] == kept
        assert [g for g, folder in enumerate(folders) if not is_pruned(folder)] == kept
        alone = run(cell.config, tmp_path / "alone" / cell.path.parent.name / cell.path.name)
        left = {f"generation_{g:03d}/model" for g in range(4) if g not in kept}
        assert {str(Path(name).parent) for name in different_files(alone, cell.path)} == left
        found = verify(cell.path)
        assert not found.mismatches and sum("pruned" in note for note in found.notes) == len(left)
        table = (cell.path / "metrics.jsonl").read_bytes()
        run(cell.config, cell.path, part=cell.part)  # nothing that is there is needed
        assert (cell.path / "metrics.jsonl").read_bytes() == table


def test_a_pruned_model_that_is_needed_again_is_named(given: dict[str, Any], tmp_path: Path) -> None:
    given["sweep"] |= {"seeds": 1, "keep_models": "none"}
    sweep = plan(given, tmp_path / "out")
    work(sweep)
    cell = sweep.cells[0]
    (cell.path / "generation_001" / "corpus" / "corpus.parquet").unlink()
    with pytest.raises(UserError, match=r"generation_001/model was pruned \(keep_models\)"):
        run(cell.config, cell.path)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"sedes": 3}, "did you mean 'seeds'"),
        ({"seeds": 0}, "sweep.seeds is 0"),
        ({"seeds": [1, 1]}, r"sweep.seeds is \[1, 1\]"),
        ({"grid": {"policy": []}}, "sweep.grid.policy has no values"),
        ({"grid": {"polici": ["replace"]}}, "did you mean 'policy'"),
        ({"grid": {"policy": ["replace", "replace"]}}, "two conditions are called 'replace'"),
        ({"conditions": {"a b": {}, "a?b": {}}}, "too much alike"),
        ({"conditions": {"x": {"generations": 0}}}, r"\(x\): 'generations' is 0"),
        ({"keep_models": "some"}, "keep_models"),
        ("replace", "is a section"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(
    given: dict[str, Any], tmp_path: Path, section: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        plan({**given, "sweep": section}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_sweep_is_no_run_and_a_run_no_sweep(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="take `lmcollapse sweep`"):
        parse(given)
    sweep = plan(given, tmp_path / "out")
    with open_run(tmp_path / "out", Silent()), pytest.raises(UserError, match="is a run"):
        work(sweep)


def test_names_cannot_leave_the_directory(given: dict[str, Any], tmp_path: Path) -> None:
    given["sweep"] = {"seeds": 1, "conditions": {"../../up": {}, "/root": {}}}
    for cell in plan(given, tmp_path / "out").cells:
        assert cell.path.resolve().is_relative_to((tmp_path / "out").resolve())
    work(plan(given, tmp_path / "out"))
    known = json.loads((tmp_path / "out" / "sweep.json").read_text())
    known["runs"][0]["path"] = "../elsewhere"
    (tmp_path / "out" / "sweep.json").write_text(json.dumps(known))
    with pytest.raises(UserError, match="damaged"):
        runs_in(tmp_path / "out")


def test_killed_anywhere_it_ends_with_the_same_bytes(given: dict[str, Any], tmp_path: Path) -> None:
    """SIGKILL at times spread over the sweep, while models are pruned and steps shared."""
    given["sweep"] |= {"seeds": 1, "keep_models": "first_last"}
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps(given))
    whole = plan(given, tmp_path / "whole")
    work(whole)
    code = (
        "import os, sys, pathlib; from lmcollapse import files; from lmcollapse.sweeps import load_sweep, work\n"
        "left, flush = int(sys.argv[3]), files.flush\n"
        "def counting(path):\n"
        "    global left; left -= 1; flush(path)\n"
        "    if left == 0: os.kill(os.getpid(), 9)\n"
        "files.flush = counting\n"
        "work(load_sweep(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])))\n"
    )
    out = tmp_path / "killed"
    killed = 0
    for flushes in range(11, 200, 23):
        done = subprocess.run(
            [sys.executable, "-c", code, str(file), str(out), str(flushes)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode in (0, -9), done.stderr
        killed += done.returncode == -9
        if done.returncode == 0:
            break
    else:
        pytest.fail("it never ended")
    assert killed >= 3
    for one, other in zip(whole.cells, plan(given, out).cells, strict=True):
        assert different_files(one.path, other.path) == []
        assert len(read_metrics(other.path)) == 3


FAULTS: dict[str, Callable[[Path], object]] = {
    "a bit is flipped": lambda step: flip(next(file for file in sorted(step.iterdir()) if file.name != RECORD)),
    "a file is gone": lambda step: next(file for file in sorted(step.iterdir()) if file.name != RECORD).unlink(),
    "the record is damaged": lambda step: flip(step / RECORD),
    "the folder is gone": shutil.rmtree,
}


def flip(file: Path) -> None:
    """One bit of a file, with its time as it was."""
    content, about = bytearray(file.read_bytes()), file.stat()
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.mark.parametrize(
    ("fault", "executor"), [*((fault, "here") for fault in FAULTS), ("a bit is flipped", "workers")]
)
def test_a_damaged_step_of_a_finished_run_is_made_again(
    fault: str, executor: Literal["here", "workers"], given: dict[str, Any], tmp_path: Path
) -> None:
    """Also in the other runs that have it, since the file is one for all of them."""
    given |= {"generations": 2, "sweep": {"seeds": 1, "grid": {"policy": ["replace", TENTH]}}}
    sweep = plan(given, tmp_path / "out")
    work(sweep)
    whole = Path(shutil.copytree(tmp_path / "out", tmp_path / "whole"))
    for name in ("generation_000/corpus", "generation_001/scores", "human"):
        FAULTS[fault](sweep.cells[0].path / name)
        where = Where(executor, workers=1 if executor == "workers" else None)
        outcome = carry_out(plan(given, tmp_path / "out"), where)
        assert sweep.cells[0].name in outcome.made and not outcome.failed
        for cell in sweep.cells:
            assert not different_files(whole / cell.path.relative_to(tmp_path / "out"), cell.path)
            assert not verify(cell.path).mismatches
        if executor == "workers":
            break
    assert work(plan(given, tmp_path / "out")).made == []


def test_a_damaged_table_or_manifest_leaves_the_other_runs(given: dict[str, Any], tmp_path: Path) -> None:
    given |= {"generations": 1, "sweep": {"seeds": 2}}
    sweep = plan(given, tmp_path / "out")
    work(sweep)
    first, second = sweep.cells
    (first.path / "metrics.jsonl").write_text("{")
    (second.path / "manifest.json").write_text("{")
    outcome = work(plan(given, tmp_path / "out"))
    assert outcome.made == [first.name] and "manifest.json: damaged" in outcome.failed[second.name]
    assert not verify(first.path).mismatches


@pytest.mark.parametrize("name", [".locks", "errors", "logs", "replace", "replace/seed_0", "logs/worker_0.log"])
def test_links_do_not_lead_out_of_a_sweep(name: str, given: dict[str, Any], tmp_path: Path) -> None:
    given |= {"generations": 1, "sweep": {"seeds": 1, "conditions": {"replace": {"policy": "replace"}}}}
    place, outside = tmp_path / "out" / name, tmp_path / "outside"
    place.parent.mkdir(parents=True)
    if name.endswith(".log"):
        outside.write_text("mine")
    else:
        outside.mkdir()
    place.symlink_to(outside)
    with pytest.raises((UserError, OSError), match=name):
        carry_out(plan(given, tmp_path / "out"), Where("workers", workers=1))
    assert outside.read_text() == "mine" if outside.is_file() else not list(outside.iterdir())


def test_a_link_in_the_place_of_a_member_or_of_the_figures_is_refused(given: dict[str, Any], tmp_path: Path) -> None:
    del given["sweep"]
    (tmp_path / "outside").mkdir()
    for name, more in (("member_01", {"population": {"members": 2}}), ("figures", {})):
        out = tmp_path / name / "out"
        out.parent.mkdir()
        if name == "figures":
            run(parse({**given, **more}), out)
        else:
            out.mkdir()
        (out / name).symlink_to(tmp_path / "outside")
        (tmp_path / "c.yaml").write_text(json.dumps({**given, **more}))
        with pytest.raises(SystemExit) as end:
            main(["run", str(tmp_path / "c.yaml"), "--out", str(out)])
        assert end.value.code == 2 and not list((tmp_path / "outside").iterdir())


def test_a_sweep_is_verified_run_by_run_and_not_exported(
    given: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = plan(given | {"generations": 1}, tmp_path / "out")
    work(sweep)
    main(["verify", str(sweep.out)])
    told = capsys.readouterr().out
    assert all(f"{cell.path}:" in told for cell in sweep.cells) and told.count("all as recorded") == 4
    spoilt = sweep.cells[2].path / "generation_000" / "corpus" / "corpus.parquet"
    spoilt.write_bytes(spoilt.read_bytes()[:-1])
    with pytest.raises(SystemExit, match="1"):
        main(["verify", str(sweep.out), "--json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    damaged = {each["run"] for each in found if not each["matches"]}
    assert len(found) == 4 and str(sweep.cells[2].path) in damaged  # and the one that shares the file
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(sweep.out)])
    assert "is the directory of a sweep" in capsys.readouterr().err


def test_a_file_without_the_section_is_no_sweep(given: dict[str, Any], tmp_path: Path) -> None:
    del given["sweep"]
    (tmp_path / "run.yaml").write_text(json.dumps(given))
    with pytest.raises(UserError, match="has no section 'sweep'"):
        load_sweep(tmp_path / "run.yaml", tmp_path / "out")
    assert len(load_sweep(tmp_path / "run.yaml", tmp_path / "out", ["sweep.seeds=2"]).cells) == 2
