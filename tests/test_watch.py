"""The live view: what it says of runs that wait, run, fail, stop and end, and that it disturbs nothing."""

from __future__ import annotations

import io
import os
import shutil
import threading
from pathlib import Path

import pytest
from rich.console import Console

from lmcollapse.cli import main
from lmcollapse.loop import run
from lmcollapse.progress import rate_of, span
from lmcollapse.records import METRICS
from lmcollapse.status import RunStatus, status_of
from lmcollapse.store import open_run
from lmcollapse.sweeps import Sweep, note_failure, plan, work
from lmcollapse.types import Silent, UserError
from lmcollapse.watch import BARS, Watch, curve, drawn, watch
from tests.urn import urn_config


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of four runs, three of them finished, the last one never begun."""
    folder = tmp_path_factory.mktemp("watch")
    sweep = planned(folder)
    work(sweep, cells=sweep.cells[:3])
    return folder


def planned(folder: Path) -> Sweep:
    given = urn_config(folder, sweep={"seeds": 2, "grid": {"policy": ["replace", "accumulate"]}})
    return plan(given, folder / "sweep")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it to work on."""
    return shutil.copytree(made, tmp_path / "copy") / "sweep"


def text_of(directory: Path, width: int = 80, height: int | None = None) -> str:
    console = Console(width=width, file=io.StringIO(), record=True, highlight=False)
    console.print(drawn(Watch(directory).look(), width, height))
    return console.export_text()


def test_a_sweep_tells_what_is_finished_and_what_waits(folder: Path) -> None:
    view = Watch(folder).look()
    assert [run.state for run in view.runs] == ["finished"] * 3
    assert (view.waiting, view.done, view.at_work, view.over, view.left) == (1, (9, 12), 0, False, None)
    text = text_of(folder)
    assert "4 runs · 3 finished · 1 waiting" in text and "9/12 generations" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_a_run_that_is_held_is_running_and_by_whom(folder: Path) -> None:
    path = folder / "accumulate" / "seed_1"
    with open_run(path, Silent()):
        view = Watch(folder).look()
        assert [run.state for run in view.runs] == ["running", "finished", "finished", "finished"]
        assert (view.waiting, view.at_work) == (0, 1)
        assert f"process {os.getpid()}" in text_of(folder, 150)
        assert view.left is not None and f"about {span(view.left)} left" in text_of(folder, 150).replace("\n", " ")
    assert Watch(folder).look().runs[0].state == "stopped"


def test_what_failed_stands_first_with_its_reason(folder: Path) -> None:
    sweep = planned(folder.parent)
    assert sweep.cells[3].path == folder / "accumulate" / "seed_1"
    note_failure(folder, sweep.cells[3], "no space left on device")
    note_failure(folder, sweep.cells[0], "[red]odd\x1b[2J")
    view = Watch(folder).look()
    assert [run.state for run in view.runs[:2]] == ["failed", "failed"] and view.waiting == 0 and not view.over
    text = text_of(folder)
    assert "2 failed" in text and "no space left on" in text
    assert "[red]odd" in text and "\x1b" not in text


def test_a_damaged_run_does_not_hide_the_others(folder: Path) -> None:
    (folder / "replace" / "seed_0" / METRICS).write_text("{")
    view = Watch(folder).look()
    assert view.runs[0].state == "failed" and [run.state for run in view.runs[1:]] == ["finished"] * 2
    assert "damaged" in " ".join(text_of(folder, 200).split())


def test_one_run_is_shown_generation_by_generation(folder: Path) -> None:
    text = text_of(folder / "replace" / "seed_0")
    assert [line.split()[0] for line in text.splitlines() if line.strip()][-3:] == ["0", "1", "2"]
    assert "replace · finished" in text and "3/3 generations" in text
    short = text_of(folder / "replace" / "seed_0", 80, 9).splitlines()
    assert [line.split()[0] for line in short if line.strip()][-3:] == ["generation", "1", "2"]


def test_what_does_not_fit_is_counted(folder: Path) -> None:
    text = text_of(folder, 80, 9)
    assert "… and 1 more: 1 finished" in text and len(text.splitlines()) <= 9


def test_nothing_is_read_again_that_has_not_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def noting(path: Path, name: str) -> RunStatus:
        read.append(path)
        return status_of(path, name)

    monkeypatch.setattr("lmcollapse.watch.status_of", noting)
    watching = Watch(folder)
    first = watching.look()
    assert len(read) == 3
    assert watching.look() == first and len(read) == 3
    path = folder / "replace" / "seed_0"
    rows = (path / METRICS).read_text().splitlines(keepends=True)
    (path / METRICS).write_text("".join(rows[:2]))
    assert watching.look().done == (8, 12) and read[3:] == [path]


def test_the_live_view_follows_a_run_to_its_end(folder: Path) -> None:
    sweep = planned(folder.parent)
    console = Console(file=(out := io.StringIO()), force_terminal=True, highlight=False, width=100, height=30)
    work_on = threading.Thread(target=run, args=(sweep.cells[3].config, sweep.cells[3].path))
    with open_run(folder / "held", Silent()):  # so that there is somebody at work from the first look on
        work_on.start()
        looking = threading.Thread(target=watch, args=(folder, console), kwargs={"every": 0.02})
        looking.start()
        work_on.join()
    shutil.rmtree(folder / "held")
    looking.join(timeout=60)
    assert not looking.is_alive()
    assert "4 finished" in out.getvalue() and "Nobody" not in out.getvalue()


def test_the_live_view_ends_where_nobody_is_at_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmcollapse.watch.PATIENCE", 0.0)
    console = Console(file=(out := io.StringIO()), force_terminal=True, highlight=False, width=100, height=30)
    watch(folder, console, every=0.01)
    assert "Nobody is at work here any more" in out.getvalue()


def test_the_live_view_ends_where_its_directory_goes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmcollapse.watch.time.sleep", lambda _: shutil.rmtree(folder))
    console = Console(file=(out := io.StringIO()), force_terminal=True, highlight=False, width=300, height=30)
    watch(folder, console)
    assert "3 finished" in out.getvalue() and f"{folder} is no directory" in out.getvalue()


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["watch", str(folder), "--once"])
    assert "9/12 generations" in capsys.readouterr().out
    with pytest.raises(UserError, match="no directory"):
        Watch(tmp_path / "nowhere").look()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no run"):
        Watch(tmp_path / "empty").look()
    with pytest.raises(SystemExit) as ended:
        main(["watch", str(folder), "--every", "0"])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([], ""),
        ([None, None], ""),
        ([3.0], BARS[0]),
        ([0.0, 7.0], BARS[0] + BARS[-1]),
        ([0.0, 3.9, None, 8.0], BARS[0] + BARS[3] + " " + BARS[-1]),
        ([1.0, 10.0**3.5, 1e7], BARS[0] + BARS[4] + BARS[-1]),  # logarithmic
        ([1.0, float("nan"), 2.0], BARS[0] + " " + BARS[-1]),
        ([float(n) for n in range(100)], "".join(2 * bar for bar in BARS)),  # all of the run, not its end
    ],
)
def test_curves(values: list[float | None], wanted: str) -> None:
    assert curve([{"m": value} for value in values], "m") == wanted


def test_slow_work_has_a_rate_that_is_not_nothing() -> None:
    assert [rate_of(*given) for given in [(0, 5.0), (1, 38.0), (5, 2.0), (3000, 2.0)]] == ["0", "0.026", "2.5", "1,500"]
