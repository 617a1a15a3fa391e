"""A run by two processes, as torchrun starts them on a machine without a GPU (gloo): the same run as by one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from lmcollapse.verify.same import different_files
from tests.small import write_config

STRICT = {
    "compute": {"device": "cpu", "precision": "float32", "threads": 1},
    "train": {"block_size": 32, "epochs": 1, "batch_size": 16, "checkpoint_steps": 2},
}


def command_line(*arguments: object, processes: int, code: str = "") -> subprocess.CompletedProcess[str]:
    """The command line in so many processes; `code` runs first in each."""
    script = [sys.executable, "-c", f"{code}\nfrom lmcollapse.cli import main\nmain()", *map(str, arguments)]
    # on a port that is free, so that tests may run side by side
    launcher = [sys.executable, "-m", "torch.distributed.run", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    several = [*launcher, f"--nproc-per-node={processes}", "--no-python"] if processes > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*several, *script], capture_output=True, text=True, env=environment, timeout=300)


def losses(run: Path) -> list[float]:
    lines = [(run / f"generation_{g:03d}/model/fit.jsonl").read_text().splitlines() for g in (0, 1)]
    return [json.loads(line)["loss"] for generation in lines for line in generation]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_config(tmp_path_factory.mktemp("processes"), **STRICT)


@pytest.fixture(scope="module")
def alone(config: Path) -> Path:
    result = command_line("run", config, "--out", config.parent / "alone", "--no-figures", processes=1)
    assert result.returncode == 0, result.stderr
    return config.parent / "alone"


@pytest.fixture(scope="module")
def together(config: Path) -> Path:
    result = command_line("run", config, "--out", config.parent / "together", processes=2)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("run: ") == 1, "only the first process speaks"
    return config.parent / "together"


def test_two_processes_fit_what_one_fits(alone: Path, together: Path) -> None:
    assert losses(together) == pytest.approx(losses(alone), rel=1e-5)
    manifest = json.loads((together / "manifest.json").read_text())
    assert manifest["hardware"]["processes"] == 2
    # only one of them has written
    assert len(manifest["starts"]) == 1
    assert not list(together.rglob(".*.bench")) and not list(together.rglob(".*.partial"))
    assert (together / "figures").is_dir()


def test_two_processes_with_a_part_of_the_model_each_fit_the_same(alone: Path, config: Path) -> None:
    out = config.parent / "sharded"
    result = command_line("run", config, "compute.sharding=fsdp", "--out", out, "--no-figures", processes=2)
    assert result.returncode == 0, result.stderr
    assert losses(out) == pytest.approx(losses(alone), rel=1e-4)
    # what they leave is a model like any other
    kept = [load_file(run / "generation_001/model/model.safetensors") for run in (alone, out)]
    assert kept[0].keys() == kept[1].keys()
    assert (out / "generation_001/model/config.json").read_bytes() == (
        alone / "generation_001/model/config.json"
    ).read_bytes()


def test_two_processes_write_what_one_writes(alone: Path, config: Path, tmp_path: Path) -> None:
    """A corpus is made anew by two; all that was made from it by one still fits it, byte for byte."""
    shutil.copytree(alone, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "generation_000" / "corpus")
    result = command_line("run", config, "--out", tmp_path / "run", "--no-figures", processes=2)
    assert result.returncode == 0, result.stderr
    assert "sample: 4," in result.stdout and "fit:" not in result.stdout
    assert different_files(alone, tmp_path / "run") == []


def test_one_of_two_is_killed_and_the_run_goes_on(together: Path, config: Path, tmp_path: Path) -> None:
    bomb = (
        "import os, signal\n"
        "from lmcollapse.substrates.causal_lm import {module}\n"
        "real, calls = {module}.{name}, []\n"
        "def planted(*arguments):\n"
        "    calls.append(1)\n"
        "    if os.environ['RANK'] == '{rank}' and len(calls) == {call}:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*arguments)\n"
        "{module}.{name} = planted\n"
    )
    command = ("run", config, "--out", tmp_path / "run")
    for rank, module, name, call in (
        (1, "fit", "_gradients", 3),
        (0, "fit", "_gradients", 5),
        (1, "sample", "_shard", 1),
    ):
        code = bomb.format(module=module, name=name, call=call, rank=rank)
        killed = command_line(*command, processes=2, code=code)
        assert killed.returncode != 0 and "SIGKILL" in killed.stderr
    assert command_line(*command, processes=2).returncode == 0
    assert different_files(together, tmp_path / "run") == []


def test_what_cannot_work_is_said_once(config: Path, tmp_path: Path) -> None:
    result = command_line("run", config, "generations=0", "--out", tmp_path / "run", processes=2)
    assert result.returncode != 0 and not (tmp_path / "run").exists()
    assert result.stderr.count("lmcollapse: ") == 1
