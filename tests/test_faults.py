"""Storage that fails, and several processes at one run directory: every file of a run is spoilt in every way."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmcollapse import cli
from lmcollapse.config import load
from lmcollapse.files import files_in
from lmcollapse.loop import run
from lmcollapse.records import LOCK, MANIFEST, METRICS, holder, read_metrics
from lmcollapse.report import report
from lmcollapse.status import status_of
from lmcollapse.store import open_run
from lmcollapse.summaries import summaries
from lmcollapse.tidy import tidy
from lmcollapse.types import Silent, UserError
from lmcollapse.verify import verify
from lmcollapse.verify.same import contents, different_files
from tests.text import FEW_MEASURES, text_file

ROOT = Path(__file__).parent.parent
KINDS: dict[str, dict[str, Any]] = {
    "urn": {
        "substrate": "tests.urn:Urn",
        "start": "scratch",
        "generations": 2,
        "policy": "accumulate",
        "measures": {**FEW_MEASURES, "words": 1500},
    },
    "n-grams": {
        "substrate": "ngram",
        "order": 2,
        "vocabulary": 300,
        "generations": 2,
        "policy": {"kind": "mix", "human_fraction": 0.5},
        "measures": {**FEW_MEASURES, "words": 1500},
    },
    "language model": {
        "start": "previous",
        "generations": 2,
        "model": {"name": "scratch", "layers": 1, "width": 16, "heads": 2, "vocabulary": 280},
        "train": {"block_size": 32, "epochs": 1, "batch_size": 16},
        "sampling": {"tokens": 1000, "new_tokens": 20},
        "compute": {"device": "cpu", "threads": 1},
        "measures": {**FEW_MEASURES, "words": 1500},
    },
    "Gaussians": {"substrate": "gaussian", "generations": 4, "chains": 5, "rows": 20},
}
"""A small run of each kind."""
QUICK = ("urn", "Gaussians")
"""Those of which every file is spoilt in every way; of the others each in one."""
ADVISORY = {LOCK, "fit.jsonl"}
"""Files that nothing depends on: who holds the run, and how a fit went."""


def truncated(file: Path, draw: random.Random) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: draw.randrange(len(content))])


def emptied(file: Path, draw: random.Random) -> None:
    file.write_bytes(b"")


def flipped(file: Path, draw: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


def removed(file: Path, draw: random.Random) -> None:
    file.unlink()


FAULTS: tuple[Callable[[Path, random.Random], None], ...] = (truncated, emptied, flipped, removed)


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("configs")
    corpus = {"kind": "files", "path": str(text_file(folder / "human.txt")), "heldout_fraction": 0.3}
    found = {}
    for name, given in KINDS.items():
        found[name] = folder / f"{name}.yaml"
        text = given if given.get("substrate") == "gaussian" else given | {"corpus": corpus}
        found[name].write_text(json.dumps(text))  # JSON is YAML
    return found


@pytest.fixture(scope="module")
def whole(configs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("whole")
    return {name: run(load(file), folder / name) for name, file in configs.items()}


def spoilt(kind: str, whole: Path, folder: Path) -> list[tuple[str, Path]]:
    """Copies of a run with one file spoilt in each, and the name of that file."""
    made = []
    files = [str(file.relative_to(whole)) for file in files_in(whole) if file.stat().st_size]
    for place, name in enumerate(files):
        for number, fault in enumerate(FAULTS if kind in QUICK else [FAULTS[place % len(FAULTS)]]):
            out = Path(shutil.copytree(whole, folder / f"{place}-{fault.__name__}"))
            fault(out / name, random.Random(100 * place + number))
            made.append((name, out))
    return made


def one_line(error: UserError, *names: str) -> bool:
    """Whether an error is one line that says what is wrong."""
    return "\n" not in str(error) and all(name in str(error) for name in names)


@pytest.mark.parametrize("kind", KINDS)
def test_a_spoilt_file_is_made_again_or_refused_by_its_name(
    kind: str, configs: dict[str, Path], whole: dict[str, Path], tmp_path: Path
) -> None:
    refused = []
    for name, out in spoilt(kind, whole[kind], tmp_path):
        try:
            run(load(configs[kind]), out)
        except UserError as error:
            assert one_line(error, name), (out.name, str(error))
            refused.append(name)
        else:
            different = [each for each in different_files(whole[kind], out) if Path(each).name not in ADVISORY]
            assert not different, (name, out.name, different)
            assert verify(out).lines() == verify(whole[kind]).lines(), out.name
        shutil.rmtree(out)
    assert set(refused) == {MANIFEST}, "only what cannot be made again from the configuration is refused"


@pytest.mark.parametrize("kind", KINDS)
def test_a_spoilt_file_is_never_read_as_if_it_were_whole(kind: str, whole: dict[str, Path], tmp_path: Path) -> None:
    """Each reader tells what it tells of the whole run, or says what is damaged; what is missing may be left out."""
    readers: dict[str, Callable[[Path], Any]] = {
        "metrics": read_metrics,
        "table": lambda path: tidy([path]).to_csv(),
        "verdicts": lambda path: summaries([path]).to_csv(),
        "status": lambda path: status_of(path, "run"),
    }
    if kind not in QUICK:
        readers["report"] = lambda path: report([path], tmp_path / "report.html").read_bytes()
    place = tmp_path / "run"  # the same for all, since they tell it
    shutil.copytree(whole[kind], place)
    told = {name: reader(place) for name, reader in readers.items()}
    shutil.rmtree(place)
    for file, out in spoilt(kind, whole[kind], tmp_path / "spoilt"):
        out.rename(place)
        for name, reader in readers.items():
            try:
                found = reader(place)
            except UserError as error:
                assert one_line(error), (out.name, name)
            else:
                refused = name == "status" and str(place) in found.state
                less = out.name.endswith("removed") or Path(file).name in ADVISORY or shorter(place, whole[kind])
                assert found == told[name] or refused or less or alike(place, whole[kind]), (file, out.name, name)
        shutil.rmtree(place)


def shorter(run: Path, whole: Path) -> bool:
    """Whether the table of measures ends early, as that of a run that is going on does."""
    return (whole / METRICS).read_bytes().startswith((run / METRICS).read_bytes()) and not len(
        (run / METRICS).read_bytes().rpartition(b"\n")[2]
    )


def alike(run: Path, whole: Path) -> bool:
    """Whether nothing was changed but the seconds that a step took."""
    try:
        return contents(run) == contents(whole)
    except ValueError:
        return False


# disks


def in_namespace(tmp_path: Path, options: str, *commands: str) -> subprocess.CompletedProcess[str]:
    """Commands in a place of its own kind at `$PLACE`, which goes with them; skipped where nobody may mount one."""
    place = tmp_path / "place"
    place.mkdir()
    for flags in ("-m", "-rm"):
        if (
            shutil.which("unshare")
            and not subprocess.run(
                ["unshare", flags, "mount", "-t", "tmpfs", "none", str(place)], capture_output=True
            ).returncode
        ):
            break
    else:
        pytest.skip("this user may not mount a file system")
    mount = f"mount -t tmpfs -o {options} none {place}"
    return subprocess.run(
        ["unshare", flags, "bash", "-c", "\n".join([mount, *commands])],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PLACE": str(place), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize(("kind", "size"), [("Gaussians", 24), ("n-grams", 150), ("language model", 300)])
def test_a_full_disk_is_said_and_room_is_enough_to_go_on(
    kind: str, size: int, configs: dict[str, Path], whole: dict[str, Path], tmp_path: Path
) -> None:
    command = f"{sys.executable} -m lmcollapse run '{configs[kind]}' --out $PLACE/run --no-figures"
    done = in_namespace(
        tmp_path,
        f"size={size}k",
        f"{command} > /dev/null; echo status $?; {sys.executable} -m lmcollapse status $PLACE/run > /dev/null; echo $?",
        f"mount -o remount,size=100m $PLACE && {command} > /dev/null && cp -r $PLACE/run {tmp_path}/run",
    )
    assert done.stdout.split() in (["status", "2", "0"], ["status", "2", "2"]), done.stdout + done.stderr
    assert "there is no space left for it" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not different_files(whole[kind], tmp_path / "run")


def test_a_run_that_cannot_be_written_can_be_read(
    configs: dict[str, Path], whole: dict[str, Path], tmp_path: Path
) -> None:
    python = f"{sys.executable} -m lmcollapse"
    commands = [
        f"{python} status $PLACE/run",
        f"{python} verify $PLACE/run",
        f"{python} verdicts $PLACE/run",
        f"{python} plot $PLACE/run --out {tmp_path}/figures",
        f"{python} report $PLACE/run --out {tmp_path}/report.html",
        f"{python} run '{configs['n-grams']}' --out $PLACE/run",
        f"{python} run '{configs['n-grams']}' --out $PLACE/new",
        f"{python} plot $PLACE/run --out $PLACE/figures",
    ]
    fill = f"cp -r '{whole['n-grams']}' $PLACE/run && mount -o remount,ro $PLACE"
    done = in_namespace(tmp_path, "size=100m", fill, *(f"{each} > /dev/null; echo $?" for each in commands))
    assert done.stdout.split() == ["0"] * 5 + ["2"] * 3, done.stdout + done.stderr
    assert done.stderr.count("lmcollapse: ") == 3 and "Traceback" not in done.stderr, done.stderr
    assert (tmp_path / "report.html").is_file() and any((tmp_path / "figures").iterdir())


def test_clocks_that_jump_change_nothing(
    configs: dict[str, Path], whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(0)
    monkeypatch.setattr(time, "time", lambda: draw.uniform(0, 4e9))
    for kind in KINDS:
        out = run(load(configs[kind]), tmp_path / kind)
        for file in out.rglob("*"):
            os.utime(file, (draw.uniform(0, 4e9), draw.uniform(0, 4e9)))
        made = {file: file.stat().st_mtime_ns for file in out.rglob("step.json")}
        shutil.rmtree(out / ("generations_000001_000003" if kind == "Gaussians" else "generation_001"), True)
        run(load(configs[kind]), out)
        assert not different_files(whole[kind], out)
        same = [file for file, when in made.items() if file.stat().st_mtime_ns == when]
        assert len(same) >= len(made) // 2, "what is whole is not made again"


def test_a_directory_is_moved_between_two_starts(
    configs: dict[str, Path], whole: dict[str, Path], tmp_path: Path
) -> None:
    for kind, file in configs.items():
        place = tmp_path / kind
        for kill in (1, 2):
            process = subprocess.Popen([*RUN, str(file), "--out", str(place)], stdout=subprocess.DEVNULL, cwd=tmp_path)
            wait_for(lambda place=place: (place / MANIFEST).exists(), process)  # type: ignore[misc]
            process.kill()
            process.wait()
            place = place.rename(tmp_path / f"{kind} moved {kill}")
        assert not different_files(whole[kind], run(load(file), place)) and not verify(place).mismatches


# several processes

RUN = [sys.executable, "-m", "lmcollapse", "run", "--no-figures"]


def wait_for(what: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    """Until something holds, or a process has ended."""
    while not what() and process.poll() is None:
        time.sleep(0.005)


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A configuration that takes some seconds, and one step after the other."""
    config = KINDS["urn"] | {"generations": 40, "corpus": {"kind": "files", "path": str(text_file(tmp_path / "text"))}}
    (tmp_path / "slow.yaml").write_text(json.dumps(config))
    return tmp_path / "slow.yaml"


def test_a_second_process_is_refused_and_a_lock_goes_with_its_holder(slow: Path, tmp_path: Path) -> None:
    out, reference = tmp_path / "run", run(load(slow), tmp_path / "whole")
    first = subprocess.Popen([*RUN, str(slow), "--out", str(out)], stdout=subprocess.DEVNULL, cwd=ROOT)
    wait_for(lambda: (out / METRICS).exists(), first)
    second = subprocess.run([*RUN, str(slow), "--out", str(out)], capture_output=True, text=True, cwd=ROOT)
    assert first.poll() is None, "the first one ended too early for this test"
    assert second.returncode == 2 and second.stderr.count("\n") == 1 and f"process {first.pid}" in second.stderr
    assert holder(out) is not None
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert holder(out) is None and status_of(out, "run").state.startswith("stopped")
    assert not different_files(reference, run(load(slow), out))


def test_a_lock_from_before_a_reboot_is_known(whole: dict[str, Path], configs: dict[str, Path], tmp_path: Path) -> None:
    """Its number belongs to another process by now, which is alive and is no run."""
    out = Path(shutil.copytree(whole["urn"], tmp_path / "run"))
    with open_run(out, Silent()):
        mine = (out / LOCK).read_text()
    number = str(os.getpid())
    assert f"process {number} " in mine
    (out / LOCK).write_text(mine)
    assert holder(out) is not None
    other = subprocess.Popen(["sleep", "60"])
    try:
        (out / LOCK).write_text(mine.replace(number, str(other.pid)))
        assert holder(out) is None
        run(load(configs["urn"]), out)
    finally:
        other.kill()
        other.wait()


def test_readers_see_whole_states_and_disturb_nobody(slow: Path, tmp_path: Path) -> None:
    reference, out = run(load(slow), tmp_path / "whole"), tmp_path / "run"
    lines = read_metrics(reference)
    process = subprocess.Popen([*RUN, str(slow), "--out", str(out)], stdout=subprocess.DEVNULL, cwd=ROOT)
    seen, looked = [0], 0
    while process.poll() is None:
        if not (out / MANIFEST).exists():
            continue
        found = read_metrics(out)
        assert found == lines[: len(found)] and len(found) >= seen[-1]
        state = status_of(out, "run")
        assert "damaged" not in state.state and state.done >= len(found), state
        assert not [line for line in verify(out).lines() if "SHA" in line]
        if len(found) > seen[-1] and len(found) % 8 == 0:
            assert len(tidy([out])) and report([out], tmp_path / "report.html").is_file()
            assert cli_status("watch", str(out), "--once") == 0
        seen.append(len(found))
        looked += 1
    assert process.returncode == 0 and looked > 10 and len(set(seen)) > 5, (looked, set(seen))
    assert not different_files(reference, out)


def cli_status(*words: str) -> int:
    """The exit status of a command."""
    try:
        cli.main(words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0
