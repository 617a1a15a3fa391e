"""Equal bytes on one machine: what docs/reliability.md promises, through fresh processes that differ in all else."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lmcollapse.records import MANIFEST
from lmcollapse.verify.same import different_files
from tests.text import text_file

ROOT = Path(__file__).parent.parent
TEXT = {"generations": 2, "measures": {"words": 1500}}
KINDS: dict[str, dict[str, Any]] = {
    "language model": TEXT
    | {
        "start": "previous",
        "policy": {"kind": "mix", "human_fraction": 0.5},
        "model": {"name": "scratch", "layers": 2, "width": 64, "heads": 2, "vocabulary": 600},
        "train": {"block_size": 64, "epochs": 1, "batch_size": 32},
        "sampling": {"tokens": 4000, "new_tokens": 40, "temperature": 0.9},
        "compute": {"device": "cpu"},
    },
    "unlabelled pool": TEXT | {"substrate": "ngram", "policy": "accumulate", "detector": {"kind": "ngrams"}},
    "Gaussians": {"substrate": "gaussian", "generations": 30, "chains": 40, "rows": 50},
    "images": {"substrate": "vae", "generations": 2, "corpus": "digits", "epochs": 1, "latent": 4},
}


def command(config: Path, out: Path, place: Path, threads: int, hashes: int) -> subprocess.Popen[bytes]:
    """The ordinary command, in an environment of its own."""
    place.mkdir()
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": str(hashes),  # the order of sets
        "OMP_NUM_THREADS": str(threads),
        "TMPDIR": str(place),
        "TZ": f"Etc/GMT{hashes % 12:+d}",
    }
    words = [sys.executable, "-m", "lmcollapse", "run", str(config), "--out", str(out), "--no-figures"]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, cwd=place, env=environment)


@pytest.fixture(scope="module", params=KINDS)
def twice(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A configuration, and a run of it with two threads."""
    folder = tmp_path_factory.mktemp("run")
    given = KINDS[request.param]
    if "corpus" not in given and given.get("substrate") != "gaussian":
        text = text_file(folder / "human.txt", count=200)
        given = given | {"corpus": {"kind": "files", "path": str(text), "heldout_fraction": 0.3}}
    (folder / "config.yaml").write_text(json.dumps(given))
    assert command(folder / "config.yaml", folder / "run", folder / "one", 2, 1).wait() == 0
    return folder / "config.yaml", folder / "run"


def test_the_same_configuration_leaves_the_same_bytes(twice: tuple[Path, Path], tmp_path: Path) -> None:
    config, first = twice
    assert command(config, tmp_path / "run", tmp_path / "two", 2, 2).wait() == 0
    assert not different_files(first, tmp_path / "run")


def test_a_run_goes_on_with_the_threads_that_it_began_with(twice: tuple[Path, Path], tmp_path: Path) -> None:
    """However many the machine would choose now."""
    config, first = twice
    out = tmp_path / "run"
    process = command(config, out, tmp_path / "killed", 2, 3)
    while not (out / MANIFEST).exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(random.random())
    process.kill()
    process.wait()
    assert command(config, out, tmp_path / "two", 1, 4).wait() == 0
    assert not different_files(first, out)
