"""Executors: whoever makes the runs of a sweep, and whatever becomes of them, the bytes are the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmcollapse.executors import by_workers as workers_module
from lmcollapse.executors.carry_out import carry_out
from lmcollapse.executors.where import Where, slots
from lmcollapse.records import LOCK, holder, read_manifest
from lmcollapse.sweeps import Sweep, failure, plan, work
from lmcollapse.types import Silent, UserError
from lmcollapse.verify.same import different_files
from tests.gate import DEADLY, GATE, wait_until
from tests.urn import TENTH, urn_config


class Lines(Silent):
    """Progress that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    sweep = {"seeds": 2, "grid": {"policy": ["replace", TENTH]}}
    return urn_config(tmp_path, substrate="tests.gate:GatedUrn", sweep=sweep)


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "gate"
    file.touch()
    monkeypatch.setenv(GATE, str(file))
    return file


def written(given: dict[str, Any], tmp_path: Path) -> Path:
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps(given))
    return file


def same_as_alone(given: dict[str, Any], sweep: Sweep, tmp_path: Path) -> bool:
    """Whether every run has the bytes that one process would have left."""
    alone = plan(given, tmp_path / "alone")
    work(alone)
    pairs = zip(alone.cells, sweep.cells, strict=True)
    return all(different_files(one.path, other.path) == [] for one, other in pairs)


def starts(path: Path) -> int:
    manifest = read_manifest(path)
    return len(manifest["starts"]) if manifest else 0


def test_workers_make_what_one_process_makes(given: dict[str, Any], tmp_path: Path) -> None:
    sweep, lines = plan(given, tmp_path / "out"), Lines()
    outcome = carry_out(sweep, Where("workers", workers=2), lines)
    assert sorted(outcome.made) == sorted(cell.name for cell in sweep.cells)
    assert not outcome.failed and not outcome.elsewhere
    assert any("(4 of 4 runs)" in line for line in lines.said)
    manifests = [read_manifest(cell.path) for cell in sweep.cells]
    hardware = [manifest["hardware"] for manifest in manifests if manifest]
    mine = len(os.sched_getaffinity(0))
    assert {about["usable_cores"] for about in hardware} == {max(1, mine // 2)}
    assert same_as_alone(given, sweep, tmp_path)
    again = Lines()
    assert carry_out(sweep, Where("workers", workers=1), again).made == [] and again.said == []


def test_a_worker_that_is_killed_is_replaced_and_its_run_gone_on_with(
    given: dict[str, Any], tmp_path: Path, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given["sweep"]["seeds"] = 1
    sweep, lines = plan(given, tmp_path / "out"), Lines()
    first = sweep.cells[0].path
    killed: list[int] = []

    def kill_once(working: Any, here: Any, *rest: Any) -> None:
        wait_until(lambda: (first / "generation_001" / "train").is_dir() and holder(first) is not None)
        words = (first / LOCK).read_text().split()
        killed.append(int(words[1]))
        os.kill(killed[0], signal.SIGKILL)
        wait_until(lambda: not alive(killed[0]))
        gate.unlink()
        supervise(working, here, *rest)

    supervise = workers_module._supervise
    monkeypatch.setattr(workers_module, "_supervise", kill_once)
    outcome = carry_out(sweep, Where("workers", workers=1), lines)
    assert not outcome.failed and len(outcome.made) == 2
    assert any("was killed by SIGKILL" in line and sweep.cells[0].name in line for line in lines.said), lines.said
    assert starts(first) == 2 and starts(sweep.cells[1].path) == 1
    assert same_as_alone(given, sweep, tmp_path)


def test_a_run_that_is_the_death_of_its_workers_is_given_up_and_the_others_are_made(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEADLY, "yes")
    given["sweep"]["seeds"] = 1
    sweep = plan(given, tmp_path / "out")
    replace, mixed = sweep.cells
    outcome = carry_out(sweep, Where("workers", workers=1))
    assert outcome.made == [replace.name] and list(outcome.failed) == [mixed.name]
    assert "died 3 times at the same place" in outcome.failed[mixed.name]
    assert failure(sweep.out, mixed.path) == outcome.failed[mixed.name]
    assert starts(mixed.path) == 3
    # what had failed is left where it is asked to be, and else made
    assert carry_out(sweep, Where("workers", workers=1, retry=False)).failed == outcome.failed
    monkeypatch.delenv(DEADLY)
    assert carry_out(sweep, Where("workers", workers=1)).made == [mixed.name]
    assert failure(sweep.out, mixed.path) is None


def test_a_run_that_fails_is_tried_by_one_worker_alone(given: dict[str, Any], tmp_path: Path) -> None:
    sweep = plan(given, tmp_path / "out")
    broken = sweep.cells[1]
    broken.path.mkdir(parents=True)
    (broken.path / "mine.txt").write_text("no run")
    outcome = carry_out(sweep, Where("workers", workers=2))
    assert len(outcome.made) == 3 and "holds files but no run" in outcome.failed[broken.name]
    said = "".join(file.read_text() for file in (sweep.out / "logs").glob("*.log"))
    assert said.count("failed: ") == 1


def test_terminated_it_takes_all_workers_with_it(given: dict[str, Any], tmp_path: Path, gate: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "lmcollapse", "sweep", str(written(given, tmp_path)), "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--executor", "workers", "--workers", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    cells = plan(given, out).cells
    wait_until(lambda: sum((cell.path / "generation_001" / "train").is_dir() for cell in cells) == 2)
    pids = [int(who.split()[1]) for cell in cells if (who := holder(cell.path))]
    assert len(pids) == 2
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and "the same command goes on" in said
    assert not any(alive(pid) for pid in pids)
    assert not list(out.rglob("*.partial")), "they ended in good order"
    assert [holder(cell.path) for cell in cells] == [None] * 4


def test_workers_do_not_outlive_who_started_them(given: dict[str, Any], tmp_path: Path, gate: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "lmcollapse", "sweep", str(written(given, tmp_path)), "--out", str(out)]
    process = subprocess.Popen([*command, "--executor", "workers", "--workers", "1"], stdout=subprocess.DEVNULL)
    first = plan(given, out).cells[0].path
    wait_until(lambda: (first / "generation_001" / "train").is_dir())
    worker = int((first / LOCK).read_text().split()[1])
    process.kill()
    process.wait()
    wait_until(lambda: not alive(worker))


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_a_sweep_under_torchrun_is_made_by_its_processes_together(given: dict[str, Any], tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    command = ["-m", "lmcollapse", "sweep", str(written(given, tmp_path)), "--out", str(tmp_path / "out")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, "--nproc-per-node=2", *command, "--no-figures"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("sweep: ") == 1, "only the first process speaks"
    sweep = plan(given, tmp_path / "out")
    manifests = [read_manifest(cell.path) for cell in sweep.cells]
    assert [manifest["hardware"]["processes"] for manifest in manifests if manifest] == [2] * 4
    assert same_as_alone(given, sweep, tmp_path)


def test_several_gpus_a_run_are_several_processes(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU it is as many processes on the CPU, by the same way."""
    monkeypatch.setattr("lmcollapse.processes.gpus", lambda: ["", ""])
    given["sweep"]["seeds"] = 1
    sweep = plan(given, tmp_path / "out")
    outcome = carry_out(sweep, Where("workers", gpus_per_run=2))
    assert not outcome.failed and len(outcome.made) == 2
    manifests = [read_manifest(cell.path) for cell in sweep.cells]
    assert [manifest["hardware"]["processes"] for manifest in manifests if manifest] == [2] * 2
    assert same_as_alone(given, sweep, tmp_path)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr("lmcollapse.processes.gpus", lambda: [])
    yield monkeypatch


@pytest.mark.parametrize(
    ("where", "gpus", "expected"),
    [
        (Where("workers"), 0, [1] * 8),
        (Where("workers", cores_per_worker=3), 0, [3] * 2),
        (Where("workers", workers=3), 0, [2] * 3),
        (Where("workers"), 4, [2] * 4),
        (Where("workers", gpus_per_run=2), 4, [4] * 2),
        (Where("workers", gpus_per_run=0), 4, [1] * 8),
    ],
)
def test_a_machine_is_divided(machine: pytest.MonkeyPatch, where: Where, gpus: int, expected: list[int]) -> None:
    machine.setattr("lmcollapse.processes.gpus", lambda: [f"GPU-{n}" for n in range(gpus)])
    found = slots(where)
    assert [len(slot.cores) for slot in found] == expected
    for kind in ("cores", "gpus"):
        given_out = [one for slot in found for one in getattr(slot, kind)]
        assert len(given_out) == len(set(given_out)), f"no two workers share {kind}"
    each = (1 if gpus else 0) if where.gpus_per_run is None else where.gpus_per_run
    assert [len(slot.gpus) for slot in found] == [each] * len(expected)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (Where(workers=2), "--workers has no effect with --executor here"),
        (Where("workers", address="auto"), "--address has no effect"),
        (Where("workers", workers=0), "--workers is 0"),
        (Where("workers", workers=5, cores_per_worker=2), "5 workers with 2 cores each need 10, and 8 can be used"),
        (Where("workers", workers=9), "9 workers with 1 cores each"),
        (Where("workers", gpus_per_run=1), "--gpus-per-run is 1, and 0 GPUs"),
    ],
)
def test_what_cannot_work_is_refused(
    given: dict[str, Any], tmp_path: Path, machine: pytest.MonkeyPatch, where: Where, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        carry_out(plan(given, tmp_path / "out"), where)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def cluster(gate: Path) -> Iterator[Any]:
    """Two nodes of one core each, as two machines would be; `gate` is set in their environment."""
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    cluster.second = cluster.add_node(**small)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_a_node_is_lost_and_its_run_goes_on_elsewhere(
    given: dict[str, Any], tmp_path: Path, gate: Path, cluster: Any
) -> None:
    given["sweep"]["seeds"] = 1
    sweep, lines = plan(given, tmp_path / "out"), Lines()
    lost: list[Path] = []

    class Losing(Lines):
        """Looks on, and takes a node away while both have a run that has got as far as generation 1."""

        def say(self, line: str) -> None:
            lines.say(line)
            if not line.startswith("Ray: "):
                return
            threading.Thread(target=self.lose).start()

        def lose(self) -> None:
            def at_gate() -> list[Path]:
                return [cell.path for cell in sweep.cells if (cell.path / "generation_001" / "train").is_dir()]

            wait_until(lambda: len(at_gate()) == 2)
            before = {path: int((path / LOCK).read_text().split()[1]) for path in at_gate()}
            cluster.remove_node(cluster.second, allow_graceful=False)
            wait_until(lambda: any(not alive(pid) for pid in before.values()))
            lost.extend(path for path, pid in before.items() if not alive(pid))
            gate.unlink()

    outcome = carry_out(sweep, Where("ray"), Losing())
    assert not outcome.failed and sorted(outcome.made) == sorted(cell.name for cell in sweep.cells)
    assert len(lost) == 1, "one node was lost, and with it one run"
    assert {cell.path: starts(cell.path) for cell in sweep.cells} == {
        cell.path: 2 if cell.path == lost[0] else 1 for cell in sweep.cells
    }
    assert any("on 2 nodes" in line for line in lines.said) and any("(2 of 2 runs)" in line for line in lines.said)
    assert same_as_alone(given, sweep, tmp_path)


def test_without_the_package_ray_is_refused_with_what_to_install(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'lmcollapse\[ray\]'"):
        carry_out(plan(given, tmp_path / "out"), Where("ray"))
    assert not (tmp_path / "out").exists()
