"""Pipes and links where files are meant, names that mean something to a library, file systems without locks."""

from __future__ import annotations

import ast
import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmcollapse import cli, files
from lmcollapse.config import parse
from lmcollapse.files import expanded, kept, write_atomically, write_json
from lmcollapse.loop import run
from lmcollapse.records import LOCK, MANIFEST, METRICS, RECORD, damaged, is_pruned, read_record
from lmcollapse.sharing import Peers
from lmcollapse.status import status
from lmcollapse.store import Part, open_run
from lmcollapse.substrates.causal_lm.sample import _read_shard, _write_shard
from lmcollapse.types import Silent, UserError
from lmcollapse.verify import verify
from lmcollapse.verify.same import different_files
from tests.text import FEW_MEASURES, text_file

ROOT = Path(__file__).parent.parent
GAUSSIAN = {"substrate": "gaussian", "generations": 3, "chains": 4, "rows": 10}


def ngram(text: Path) -> dict[str, Any]:
    """A small run on a text."""
    return {
        "substrate": "ngram",
        "order": 2,
        "vocabulary": 300,
        "generations": 2,
        "corpus": {"kind": "files", "path": str(text), "heldout_fraction": 0.3},
        "measures": {**FEW_MEASURES, "words": 1500},
    }


@pytest.fixture
def in_time() -> Iterator[None]:
    """What hangs fails."""

    def late(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def said(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line in which a command refuses something."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    told = capsys.readouterr().err
    lines = [line for line in told.splitlines() if line.startswith("lmcollapse: ")]
    assert end.value.code == 2 and len(lines) == 1 and "Traceback" not in told, told
    return lines[0]


# pipes and devices


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("name", [LOCK, MANIFEST, METRICS, "reference/step.json", "generations_000000/step.json"])
def test_a_pipe_in_a_run_makes_nobody_wait(name: str, tmp_path: Path) -> None:
    whole = run(parse(GAUSSIAN), tmp_path / "whole")
    out = Path(shutil.copytree(whole, tmp_path / "run"))
    (out / name).unlink()
    os.mkfifo(out / name)
    status(out)
    try:
        verify(out)
        run(parse(GAUSSIAN), out)
    except UserError as error:
        assert name == LOCK and "a pipe or a device" in str(error)
    else:
        assert (out / name).is_file() and not different_files(whole, out)


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".parquet"])
def test_a_pipe_is_no_text(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, pipe = text_file(tmp_path / "human.txt"), tmp_path / f"pipe{kind}"
    os.mkfifo(pipe)
    for words in (
        ("measure", pipe, "--reference", text),
        ("measure", text, "--reference", pipe),
        ("filter", pipe, "--human", text, "--out", tmp_path / "out.jsonl"),
        ("evaluate", "nowhere", "--text", pipe),
    ):
        assert "a pipe or a device" in said(capsys, *words), words
    with pytest.raises(UserError, match="a pipe or a device"):
        run(parse(ngram(pipe)), tmp_path / "run")
    with pytest.raises(UserError, match="a pipe or a device"):
        run(parse(ngram(Path("/dev/zero"))), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_read_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, other = text_file(tmp_path / "human.txt"), tmp_path / "synthetic.jsonl"
    other.write_text(json.dumps({"text": "a text"}) + "\n")
    (tmp_path / "generation_000" / "corpus").mkdir(parents=True)
    inside = tmp_path / "generation_000" / "corpus" / "corpus.parquet"
    inside.write_bytes(b"mine")
    for out, words in ((other, ("--synthetic", other)), (inside, ("--synthetic", tmp_path / "generation_000"))):
        before = out.read_bytes()
        assert "one of the files that are read" in said(
            capsys, "filter", text, "--human", text, *words, "--out", out, "--detector", "classifier"
        )
        assert out.read_bytes() == before


# names


@pytest.mark.parametrize("name", ["s3:mine", "file:mine", "a b?#%41"])
def test_a_directory_is_no_address(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow takes a relative path that is not there yet for an address, and goes to the network."""
    text_file(tmp_path / "human.txt")
    monkeypatch.chdir(tmp_path)
    for given in (GAUSSIAN, ngram(Path("human.txt"))):
        out = run(parse(given), Path(name))
        assert not verify(out).mismatches
        shutil.rmtree(out)


def test_arrow_is_given_no_path_that_could_be_an_address() -> None:
    for file in sorted((ROOT / "lmcollapse").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Call) and re.fullmatch(r"pq\.\w+", called):
                where = ast.unparse(node.args[1 if called == "pq.write_table" else 0])
                assert where.startswith("local(") or "content" in where, (file, node.lineno)


def test_a_name_that_is_no_utf_8_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text(json.dumps(GAUSSIAN))
    line = said(capsys, "run", tmp_path / "c.yaml", "--out", f"{tmp_path}/r\udcffn", "--no-figures")
    assert "no UTF-8" in line and "r\\udcffn" in line and not list(tmp_path.glob("r*"))


def test_json_says_names_that_are_no_utf_8(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "r\udcffn"})
    assert json.loads((tmp_path / "a.json").read_bytes().decode()) == {"name": "r\udcffn"}


def test_a_home_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no such home directory"):
        expanded("~nobody-of-this-name/x")
    for where in ("corpus.path", "corpus.heldout"):
        given = ngram(text_file(tmp_path / "human.txt"))
        given["corpus"][where.partition(".")[2]] = "~nobody-of-this-name/x"
        with pytest.raises(UserError, match="no such home directory"):
            run(parse(given), tmp_path / "run")

    def nobody(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("LMCOLLAPSE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    from lmcollapse.cache import cache_folder

    with pytest.raises(UserError, match="set LMCOLLAPSE_CACHE"):
        cache_folder("docs")
    monkeypatch.setenv("LMCOLLAPSE_CACHE", str(tmp_path / "cache"))
    assert cache_folder("docs") == tmp_path / "cache" / "docs"


def test_a_bug_is_told_where_a_word_is_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("lmcollapse.config.load", bug)
    with pytest.raises(KeyError, match="a bug"):
        cli.main(["run", "c.yaml", f"corpus.path={'x' * 5000}"])


# writing


def test_what_is_written_goes_through_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do two machines, on which a process may have the same number, write through one name."""
    (tmp_path / f".a.{os.getpid()}.partial").symlink_to(tmp_path / "outside")
    write_atomically(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x" and not (tmp_path / "outside").exists()
    monkeypatch.setattr("secrets.token_hex", lambda _: "known")
    (tmp_path / ".a.known.partial").symlink_to(tmp_path / "outside")
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "a", b"x")
    assert not (tmp_path / "outside").exists()


def test_an_error_names_the_file_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for place in (tmp_path / "a", tmp_path / "no" / "a"):
        with pytest.raises(OSError, match=r".") as error:
            write_atomically(place, b"x")
        assert error.value.filename == str(place)
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_what_is_kept_is_whole_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "a"
    assert kept(file) is None
    files.keep(file, b"content")
    assert kept(file) == b"content"
    whole = file.read_bytes()
    for place in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        file.write_bytes(changed)
        assert kept(file) is None
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert kept(file) is None


# locks


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks_is_said(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not taken for a directory that is in use, for which one would wait for ever."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match=f"cannot be locked .*{os.strerror(number)}.*local disk"):
        run(parse(GAUSSIAN), tmp_path / "run")
    with (
        pytest.raises(UserError, match="cannot be locked"),
        Peers((), tmp_path / "locks").alone({"a": 1}, lambda: pytest.fail("it waits")),
    ):
        pass


# steps that are pruned or made again by another run at this moment


def test_a_kill_while_a_step_is_pruned_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = run(parse(ngram(text_file(tmp_path / "human.txt"))), tmp_path / "run")
    step = out / "generation_000" / "model"

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(Path, "replace", killed)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # nobody removes what a killed process leaves
    with pytest.raises(Killed), open_run(out, Silent()) as opened:
        opened.prune("generation_000/model")
    monkeypatch.undo()
    record = read_record(step)
    assert list(out.rglob(f"*{files.PARTIAL}"))
    assert record is not None and not is_pruned(step) and not damaged(step, record) and not verify(out).mismatches
    with open_run(out, Silent()):
        assert not list(out.rglob(f"*{files.PARTIAL}"))


def test_a_step_that_goes_while_it_is_taken_over_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = parse(ngram(text_file(tmp_path / "human.txt")))
    runs = (tmp_path / "a", tmp_path / "b")
    part = Part("x", Peers(runs, tmp_path / "locks"))
    run(given, runs[0], part=part)
    link, gone = os.link, list[str]()

    def pruned_meanwhile(source: str, target: str) -> None:
        if "generation_000/model" in source and not gone and not source.endswith(RECORD):
            gone.append(source)
            with open_run(runs[0], Silent()) as opened:
                opened.prune("generation_000/model")
        link(source, target)

    monkeypatch.setattr(os, "link", pruned_meanwhile)
    run(given, runs[1], part=part)
    assert gone and not verify(runs[1]).mismatches and not is_pruned(runs[1] / "generation_000" / "model")


# streams


def ended(shell: str, **environment: str) -> tuple[int, str]:
    """Exit status and last words of a command, in a shell where `lm` stands for lmcollapse."""
    lm = f'lm() {{ {sys.executable} -m lmcollapse "$@"; }}; '
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(["bash", "-c", lm + shell], capture_output=True, text=True, check=False, env=given)
    return done.returncode, done.stderr


def test_streams_that_are_full_closed_or_of_few_letters(tmp_path: Path) -> None:
    out = run(parse(GAUSSIAN), tmp_path / "run")
    status, told = ended(f"lm status {out} > /dev/full")
    assert status == 2 and told.count("\n") == 1 and "No space left on device" in told
    assert ended("lm list | (exec <&-; sleep 3); exit ${PIPESTATUS[0]}") == (0, "")
    assert ended(f"lm status {out} | (exec <&-; sleep 3)") == (0, "")
    assert ended(f"lm status {out} >&-") == (0, "")
    assert ended(f"lm list; lm verdicts {out}", PYTHONIOENCODING="ascii") == (0, "")


def test_a_damaged_shard_is_written_again(tmp_path: Path) -> None:
    """Checksums of its pages alone would not see a change in what describes them."""
    file = tmp_path / "documents_000000000.parquet"
    documents = [np.array([3, 1, 4], np.int32), np.array([], np.int32), np.array([1, 5], np.int32)]
    _write_shard(file, documents)
    assert [list(document) for document in _read_shard(file) or ()] == [[3, 1, 4], [], [1, 5]]
    content = file.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        file.write_bytes(changed)
        assert _read_shard(file) is None
