"""A language model of two layers, and the real command line in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

from tests.text import text_file

SMALL = {
    "generations": 2,
    "start": "previous",
    "policy": {"kind": "mix", "human_fraction": 0.5},
    "model": {"name": "scratch", "layers": 2, "width": 32, "heads": 2, "vocabulary": 300},
    "train": {"block_size": 32, "epochs": 1, "batch_size": 16},
    "sampling": {"temperature": 0.9, "tokens": 4000},
    "compute": {"device": "cpu"},
}


def write_config(folder: Path, **changes: object) -> Path:
    """The small configuration and its human text, as files in a folder."""
    text = text_file(folder / "human.txt", count=60)
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "corpus": {"kind": "files", "path": str(text)}, **changes}))
    return file


def lmcollapse(*arguments: object, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own; `code` runs first, to plant a bomb in the library."""
    script = f"{code}\nfrom lmcollapse.cli import main\nmain()"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
