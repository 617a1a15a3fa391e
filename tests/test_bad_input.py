"""Whatever is given: a right answer, or one clear line. No traceback, no hang, nothing touched elsewhere."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmcollapse import cli, records
from lmcollapse.config import Config, load, parse
from lmcollapse.files import parse_json
from lmcollapse.loop import run
from lmcollapse.records import RECORD, is_sealed, read_manifest, read_metrics, read_record, seal_of
from lmcollapse.status import status
from lmcollapse.sweeps import plan
from lmcollapse.sweeps.plan import MOST_RUNS
from lmcollapse.texts import read_texts
from lmcollapse.types import UserError
from lmcollapse.verify import verify
from lmcollapse.verify.same import different_files
from lmcollapse.yaml_files import DEEPEST, LARGEST, MOST_NODES, lay_over, read
from tests.tamper import edit

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
cases = importlib.import_module("fuzzing.cases")

quick = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["mix", "json:dumps", "\x1b[31m", "1e3", 10**30, -(2**63), "scratch", "no.such:thing"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
GAUSSIAN = {"substrate": "gaussian", "generations": 3, "chains": 4, "rows": 10}
KEYS = ("generations", "seed", "policy", "start", "substrate", "corpus", "rows", "chains", "population", "measures")


def one_line(work: Callable[[], Any]) -> Any:
    """What comes of it; None where it is refused as it should be."""
    try:
        return work()
    except UserError as error:
        assert str(error) and "\n" not in str(error)
        return None


@quick
@given(st.one_of(st.binary(max_size=60), st.text("ab:&*[]{}-?!<>|'\"\n 01.", max_size=40).map(str.encode)))
def test_any_bytes_are_a_configuration_or_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(content)
    found = one_line(lambda: load(file))
    assert found is None or isinstance(found, Config)


@quick
@given(st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=6)), values, max_size=3))
def test_any_values_bind_or_are_refused(changed: dict[str, Any]) -> None:
    found = one_line(lambda: parse({**GAUSSIAN, **changed}))
    assert found is None or found.seed >= 0


@quick
@given(st.text(max_size=20), st.text("ab:&*[]{}-?!<>|'\"01.,", max_size=20))
def test_any_override_is_laid_over_or_refused(key: str, value: str) -> None:
    nested: dict[str, Any] = {}
    one_line(lambda: lay_over(nested, [f"{key}={value}"]))
    assert yaml.dump(nested) is not None


@quick
@given(st.dictionaries(st.sampled_from(["seeds", "grid", "conditions", "keep_models", "x"]), values, max_size=3))
def test_any_sweep_is_planned_or_refused(tmp_path: Path, section: dict[str, Any]) -> None:
    found = one_line(lambda: plan({**GAUSSIAN, "sweep": section}, tmp_path))
    if found is not None:
        assert 0 < len(found.cells) <= MOST_RUNS
        assert all(cell.path.resolve().is_relative_to(tmp_path.resolve()) for cell in found.cells)
        assert all(cell.config.seed == cell.seed for cell in found.cells)


@pytest.mark.parametrize("grid", [{"generations": list(range(1, 100)), "rows": list(range(1, 100)), "chains": [1, 2]}])
@pytest.mark.parametrize("seeds", [1, 10**6, 10**30])
def test_a_sweep_that_nobody_can_make_is_counted_and_refused(tmp_path: Path, grid: Any, seeds: int) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"stands for {99 * 99 * 2 * seeds:,} runs; at most 10,000"):
        plan({**GAUSSIAN, "sweep": {"seeds": seeds, "grid": grid}}, tmp_path)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", "contains itself"),
        ("a: &a {b: [*a]}", "contains itself"),
        ("x: &x {<<: *x}", "contains itself"),
        (
            "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)),
            "stand for",
        ),
        ("a0: &a0 x\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 80)), "levels deep"),
        ("a: " + "[" * 10_000, "levels deep"),
        ("a: " + "{a: " * 10_000, "levels deep"),
        ("a:\n  " + "- " * 10_000, "levels deep"),
        (f"seed: {2**70}", "more than 64 bits"),
        ("seed: !!timestamp x", "not valid YAML"),
        ("seed: !!bool x", "not valid YAML"),
        ('extends: "a\\0b"', "no file name and no text"),
        ('policy: "\\ud800"', "no file name and no text"),
        ("policy: os:path", "is no component"),
        ("policy: math:nan", "is no component"),
        ("? {a: b}\n: c", "not valid YAML"),
        ("#" * (LARGEST + 1), "larger than"),
    ],
    ids=lambda text: re.sub(r"\W+", " ", text[:20]),
)
def test_yaml_that_would_take_its_reader_down_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    began = time.monotonic()
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path / "c.yaml")
    assert "\n" not in str(error.value) and time.monotonic() - began < 5


@pytest.mark.parametrize("value", ["&a [*a]", "[" * 10_000, "{a: " * 10_000, str(2**70), "&a {b: *a}"])
def test_so_is_an_override(value: str) -> None:
    for override in (f"rows={value}", ".".join("a" * 100) + "=1"):
        with pytest.raises(UserError, match=r"override .*(levels deep|64 bits|contains itself)") as error:
            load(ROOT / "configs" / "gaussian.yaml", [override])
        assert "\n" not in str(error.value)


@quick
@given(st.integers(1, 6), st.integers(1, 7))
def test_aliases_are_refused_by_what_they_stand_for(tmp_path: Path, width: int, height: int) -> None:
    lines = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, height)]
    (tmp_path / "c.yaml").write_text("\n".join(lines), encoding="utf-8")
    sizes = [2]
    for _ in range(1, height):
        sizes.append(1 + width * sizes[-1])
    nodes = 1 + height + sum(sizes)  # the mapping, its keys, its values
    with pytest.raises(UserError) as error:  # its keys are unknown at best
        load(tmp_path / "c.yaml")
    assert ("stand for more than" in str(error.value)) == (nodes > MOST_NODES)


def test_what_is_deep_but_not_too_deep_is_read(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("a: " + "[" * (DEEPEST - 2) + "]" * (DEEPEST - 2), encoding="utf-8")
    assert "a" in read(tmp_path / "c.yaml")


def test_a_message_is_one_line_that_steers_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text(f'"\\x1b[2J": 1\nseed: [{"x, " * 5000}]', encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        cli.main(["run", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "out")])
    told = capsys.readouterr().err
    assert end.value.code == 2 and told.count("\n") == 1 and told.rstrip("\n").isprintable()
    assert len(told) < 2 * cli.LONGEST and not (tmp_path / "out").exists()


@quick
@given(values)
def test_any_json_in_the_place_of_a_record_is_read_or_refused(tmp_path: Path, value: Any) -> None:
    for name in (records.MANIFEST, records.METRICS, RECORD):
        (tmp_path / name).write_text(json.dumps(value), encoding="utf-8")
    one_line(lambda: read_manifest(tmp_path))
    one_line(lambda: read_metrics(tmp_path))
    assert read_record(tmp_path) is None


@pytest.mark.parametrize("text", ["NaN", '{"a": Infinity}', "[" * 100_000, "\0", "", "{"])
def test_what_is_no_json_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


@quick
@given(st.sampled_from([".txt", ".jsonl", ".parquet"]), st.one_of(st.binary(max_size=80), st.text(max_size=40)))
def test_any_file_is_text_or_is_refused(tmp_path: Path, suffix: str, content: bytes | str) -> None:
    data = content if isinstance(content, bytes) else json.dumps({"text": content}).encode()
    (tmp_path / f"f{suffix}").write_bytes(data)
    for text in one_line(lambda: list(read_texts(tmp_path / f"f{suffix}"))) or ():
        text.encode()  # it has a UTF-8 form


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run."""
    return run(parse(GAUSSIAN), tmp_path_factory.mktemp("finished") / "run")


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every key in a nested value, with what it is in."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from places(tree[key])


@quick
@given(st.data())
def test_a_step_whose_record_was_edited_is_made_again(
    finished: Path, tmp_path_factory: Any, data: st.DataObject
) -> None:
    """As often as not it ends with the same bytes only because the edit was seen."""
    from shutil import copytree

    out = tmp_path_factory.mktemp("edited") / "run"
    copytree(finished, out)
    file = data.draw(st.sampled_from(sorted(out.rglob(RECORD))))
    record = json.loads(file.read_text())
    place, key = data.draw(st.sampled_from(list(places(record))))
    place[key] = data.draw(scalars.filter(lambda value: value == value))
    if place is record and key in ("seconds", "pruned"):
        return
    file.write_text(json.dumps(record))
    run(parse(GAUSSIAN), out)
    assert not different_files(finished, out) and not verify(out).mismatches


def test_a_record_is_sealed(finished: Path) -> None:
    record = read_record(finished / "reference")
    assert record is not None and record["seal"] == seal_of(record) and is_sealed(record)
    assert is_sealed({**record, "seconds": 3.0, "pruned": True})
    assert not is_sealed({**record, "facts": {"x": 1}})
    assert not is_sealed({key: value for key, value in record.items() if key != "seal"})


def test_a_record_names_no_file_outside_of_its_folder(finished: Path, tmp_path: Path) -> None:
    record = json.loads((finished / "reference" / RECORD).read_text())
    for name in ("../../precious", "/etc/passwd", "a/../../b", ""):
        (tmp_path / RECORD).write_text(json.dumps({**record, "files": {name: "0" * 64}}))
        assert read_record(tmp_path) is None
    (tmp_path / RECORD).write_text(json.dumps({**record, "files": {"a/b": "0" * 64}}))
    assert read_record(tmp_path) is not None


def test_damage_is_told_from_a_bug(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from shutil import copytree

    def bug(*_: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("lmcollapse.summaries.summaries", bug)
    with pytest.raises(KeyError, match="a bug"):
        cli.main(["verdicts", str(finished)])
    damaged = copytree(finished, tmp_path / "run")
    edit(damaged / "manifest.json", lambda manifest: manifest.update(seeds={"run": [3]}))
    with pytest.raises(SystemExit) as end:
        cli.main(["verdicts", str(damaged)])
    told = capsys.readouterr().err
    assert end.value.code == 2 and told.count("\n") == 1 and "is damaged: manifest.json" in told


def test_status_shows_the_other_runs_beside_a_damaged_one(finished: Path, tmp_path: Path) -> None:
    from shutil import copytree

    for name in ("a", "b"):
        copytree(finished, tmp_path / name)
    edit(tmp_path / "a" / "manifest.json", lambda manifest: manifest["config"].pop("generations"))
    damaged, whole = status(tmp_path)
    assert damaged.state.startswith("damaged") and whole.state == "finished"


def planted(folder: Path, work: Callable[[], object], **more: Any) -> tuple[str, str]:
    """What the driver thinks of a case that does this."""
    case = cases.Case(cases.new_folder(folder / "case"), [], work=work, **more)
    outcome, why = cases.judged(case, cases.carried_out(case))
    return outcome, why


def ends(message: str, status: int) -> None:
    """As a command does."""
    print(message, file=sys.stderr)
    sys.exit(status)


def test_the_driver_finds_what_is_planted(tmp_path: Path) -> None:
    folder = (tmp_path / str(number) for number in range(100))
    assert planted(next(folder), lambda: None) == ("right", "")
    assert planted(next(folder), lambda: ends("lmcollapse: x is 3; give 4", 2))[0] == "error"
    defects: list[tuple[Callable[[], Any], str]] = [
        (lambda: 1 / 0, "traceback: ZeroDivisionError"),
        (lambda: time.sleep(60), "hang"),
        (lambda: (tmp_path / "elsewhere").write_text("x"), "file outside: open"),
        (lambda: Path("../sentinel/precious.txt").write_text("x"), "file outside: open"),
        (lambda: Path("../home/.cache").mkdir(), "file outside: os.mkdir"),
        (lambda: (tmp_path / "0").rename(tmp_path / "renamed"), "file outside: os.rename"),
        (lambda: subprocess.run(["touch", "../cwd/x"], check=True), "file outside"),
        (lambda: ends("no idea", 2), "error: 0 lines"),
        (lambda: ends("lmcollapse: one\nlmcollapse: two", 2), "error: 2 lines"),
        (lambda: ends("lmcollapse: \x1b[31mred", 2), "error: control characters"),
        (lambda: ends("lmcollapse: failed", 1), "wrong answer: exit status 1"),
        (lambda: ends("lmcollapse: failed", 3), "exit status 3"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "crash: SIGSEGV"),
        (lambda: bytearray(1 << 40), "traceback: MemoryError"),
    ]
    for work, why in defects:
        outcome, said = planted(next(folder), work, seconds=2.0)
        assert outcome == "defect" and said.startswith(why), (said, why)
    outcome, said = planted(next(folder), lambda: print("NaN"), right=cases.strict_json)
    assert outcome == "defect" and "no strict JSON" in said
    assert planted(next(folder), lambda: Path("../out/x").write_text("x"))[0] == "right"


def test_sixty_cases_without_a_defect(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "fuzz.py"), "--cases", "60", "--seed", "5"]
    command += ["--kinds", "configuration,table", "--folder", str(tmp_path / "f"), "--record", str(tmp_path / "r.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "r.json").read_text())
    assert sum(sum(of.values()) for of in record.values()) == 60
    assert all(of["error"] > 0 for of in record.values()) and not any(of["defect"] for of in record.values())
