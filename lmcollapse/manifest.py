"""The manifest of a run: all that a reader needs to judge its numbers and to make them again."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lmcollapse
from lmcollapse import processes
from lmcollapse.config import Config
from lmcollapse.records import ENDINGS, FORMAT
from lmcollapse.store import Run
from lmcollapse.substrates.chain import ChainSubstrate
from lmcollapse.types import Ended, Substrate

PACKAGES = (
    *("torch", "transformers", "tokenizers", "safetensors", "accelerate", "datasets", "evaluate"),
    *("numpy", "scipy", "pandas", "pyarrow", "pydantic", "ctranslate2", "vllm"),
)


def begin(
    run: Run,
    config: Config,
    substrate: Substrate | ChainSubstrate,
    human: Mapping[str, Any],
    rows: Mapping[str, Any],
) -> None:
    """Write the manifest of a run whose human text and base model are ready, or note that it was started once more."""
    manifest = run.manifest() or {
        "format": FORMAT,
        "config": config.model_dump(mode="json"),
        "decided": substrate.model_dump(mode="json"),
        "human": {**human, "rows": rows},
        "seeds": {
            "run": config.seed,
            "rule": "first 63 bits of SHA-256 of 'seed/generation/artefact'; each in its step.json",
        },
        "versions": versions(),
        "hardware": hardware(),
        "starts": [],
    }
    if run.part.condition is not None:
        manifest["condition"] = run.part.condition
    for state in ENDINGS:
        manifest.pop(state, None)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    manifest["starts"].append({"time": now, "command": command, "versions": versions(), "hardware": hardware()})
    run.write_manifest(manifest)


def note_ending(run: Run, generation: int, error: Ended) -> None:
    """Record where and why a run ended before its last generation."""
    manifest = run.manifest()
    assert manifest is not None
    found = {"generation": generation, "where": error.where, **error.figures, "why": str(error)}
    run.write_manifest(manifest | {error.state: found})


def changed_since(manifest: Mapping[str, Any]) -> Iterator[str]:
    """One line for each thing that is not as it was when the run began, and may change the last bits of its numbers."""
    for name, now in (("versions", versions()), ("hardware", hardware())):
        for key in sorted({*manifest[name], *now}):
            before, after = manifest[name].get(key), now.get(key)
            if before != after:
                yield f"{key} was {before} when this run began and is {after} now: equal bytes are not promised"


def versions() -> dict[str, str | None]:
    """Versions of Python, of this project (with a hash of its code) and of the packages that numbers depend on."""
    found: dict[str, str | None] = {"python": platform.python_version(), "lmcollapse": lmcollapse.__version__}
    found["code"] = code_digest()
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def code_digest() -> str:
    """SHA-256 over the project's own modules: tells a modified checkout from the release of that version."""
    root = Path(lmcollapse.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def hardware() -> dict[str, Any]:
    """The machine as far as it bears on the numbers; accelerators where torch is in use."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    found: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": model or platform.processor() or "unknown",
        "cores": os.cpu_count(),
        "usable_cores": processes.cores(),
        "processes": processes.count(),
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["accelerators"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return found
