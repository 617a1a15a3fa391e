"""How time, memory and disk grow with the corpus, the generations, the model, and the runs of a sweep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.racing import Row, Settings, say
from benchmarks.text import texts

TOKENS = (10**5, 10**6, 10**7, 10**8)
"""Sizes of the human training part; `--size 0.1` leaves out the largest."""
TOKENS_A_WORD = 1.2
"""Of the made-up text under a tokenizer of 16,384 pieces that was trained on it, roughly; rows give the true number."""
GENERATIONS = 8
WIDTHS = {"1M": (4, 128, 4), "10M": (6, 320, 5), "45M": (8, 640, 10), "124M": (12, 768, 12)}
"""GPT-2 shapes by their parameters without embeddings: layers, width, heads."""


def corpus(settings: Settings) -> Iterator[Row]:
    """Two generations of everything but the model's arithmetic, on more and more text."""
    for tokens in TOKENS:
        if tokens <= TOKENS[-1] * settings.size:
            yield from _pipeline(f"corpus, {tokens:,} tokens", tokens, generations=2, policy="replace")


def generations(settings: Settings) -> Iterator[Row]:
    """Eight generations that accumulate: what each costs more than the one before."""
    tokens = max(10**5, round(10**6 * settings.size))
    found = _child(tokens, GENERATIONS, "accumulate")
    for generation in range(GENERATIONS):
        steps = [step for step in found["steps"] if step["step"].startswith(f"generation_{generation:03d}")]
        side = f"generation {generation}"
        yield Row("generations", side, sum(step["seconds"] for step in steps), "s of processor", None)
        yield Row("generations", side, max(step["peak"] for step in steps) / 2**20, "MiB peak", None)
        yield Row("generations", side, sum(step["bytes"] for step in steps) / 1e6, "MB", None)


def _pipeline(case: str, tokens: int, generations: int, policy: str) -> Iterator[Row]:
    found = _child(tokens, generations, policy)
    yield Row(case, "tokens, in fact", found["tokens"], "tokens", None)
    for step in found["steps"]:
        if step["step"].startswith("generation_000"):
            continue  # as the next one, without references to make
        yield Row(case, step["step"], step["seconds"], "s of processor", None)
        yield Row(case, step["step"], step["peak"] / 2**20, "MiB peak", None)
        yield Row(case, step["step"], step["bytes"] / found["tokens"], "bytes/token", None)


def _child(tokens: int, generations: int, policy: str) -> Any:
    words = round(tokens / TOKENS_A_WORD)
    with tempfile.TemporaryDirectory(prefix="lmcollapse-benchmark-") as folder:
        text = Path(folder) / "human.txt"
        with text.open("w", encoding="utf-8") as file:
            for row in texts(words + words // 10, 0, 1.1):
                file.write(row + "\n\n")
        config = {
            "substrate": "benchmarks.scaling_child:NoModel",
            "start": "base",
            "generations": generations,
            "policy": policy,
            "corpus": {"kind": "files", "path": str(text), "train_words": words},
            "model": {"name": "scratch", "layers": 1, "width": 32, "heads": 1, "vocabulary": 16384},
            "train": {"unit": "document", "block_size": 128},
        }
        began = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.scaling_child", json.dumps(config), f"{folder}/run"]
        path = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        say(f"  {tokens:,} tokens, {generations} generations, {policy}: {time.perf_counter() - began:.0f} s")
        return json.loads(done.stdout.splitlines()[-1])


def models(settings: Settings) -> Iterator[Row]:
    """A generation of real models from scratch: fit, write, score, in tokens a second."""
    for name, (layers, width, heads) in WIDTHS.items():
        words = max(1500, round(4000 * settings.size / (layers * width / 512) ** 1.5))
        with tempfile.TemporaryDirectory(prefix="lmcollapse-benchmark-") as folder:
            text = Path(folder) / "human.txt"
            text.write_text("\n\n".join(texts(words * 2, 0, 1.1)), encoding="utf-8")
            config = {
                "start": "scratch",
                "generations": 1,
                "corpus": {"kind": "files", "path": str(text), "train_words": words, "heldout_words": words // 8},
                "model": {"name": "scratch", "layers": layers, "width": width, "heads": heads, "vocabulary": 2048},
                "train": {"unit": "document", "block_size": 128, "batch_size": 8},
                "measures": {"words": max(100, words // 10)},
            }
            file = Path(folder) / "config.yaml"
            file.write_text(json.dumps(config), encoding="utf-8")
            out = Path(folder) / "run"
            command = [sys.executable, "-m", "lmcollapse", "run", str(file), "--out", str(out), "--no-figures"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr[-2000:])
            facts = json.loads((out / "rows" / "step.json").read_text(encoding="utf-8"))["facts"]
            amounts = {
                "model": facts["train"]["tokens"],
                "corpus": facts["train"]["tokens"],
                "scores": facts["train"]["tokens"] + facts["heldout"]["tokens"],
            }
            for step, tokens in amounts.items():
                folder_of_step = out / "generation_000" / step
                record = json.loads((folder_of_step / "step.json").read_text(encoding="utf-8"))
                yield Row(f"models, {name}", step, tokens / record["seconds"], "tokens/s", None)
            size = sum(path.stat().st_size for path in (out / "generation_000" / "model").iterdir())
            yield Row(f"models, {name}", "model", size / 1e6, "MB", None)


def runs(settings: Settings) -> Iterator[Row]:
    """A sweep of four policies and two seeds by one process and by two, beside eight runs on their own."""
    size = max(1500, round(20_000 * settings.size))
    base = {
        "substrate": "ngram",
        "generations": 4,
        "corpus": {"kind": "docs", "train_words": size, "heldout_words": size // 3},
    }
    policies = ["replace", "accumulate", "human", {"kind": "mix", "human_fraction": 0.1}]
    with tempfile.TemporaryDirectory(prefix="lmcollapse-benchmark-") as folder:
        file = Path(folder) / "sweep.yaml"
        file.write_text(json.dumps({**base, "sweep": {"seeds": 2, "grid": {"policy": policies}}}), encoding="utf-8")
        alone = Path(folder) / "alone.yaml"
        began = time.perf_counter()
        for seed in range(2):
            for place, policy in enumerate(policies):
                alone.write_text(json.dumps({**base, "seed": seed, "policy": policy}), encoding="utf-8")
                _run("run", alone, Path(folder) / f"alone_{seed}_{place}")
        separate = time.perf_counter() - began
        yield Row("runs", "eight runs, one after another", separate, "s", None)
        for processes in (1, 2):
            began = time.perf_counter()
            out = Path(folder) / f"sweep_{processes}"
            started = [_start("sweep", file, out) for _ in range(processes)]
            for process in started:
                if process.wait():
                    raise RuntimeError("a sweep failed")
            took = time.perf_counter() - began
            yield Row(
                "runs", f"the sweep, {processes} process{'es' if processes > 1 else ''}", took, "s", took / separate
            )


def _start(command: str, file: Path, out: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "lmcollapse", command, str(file), "--out", str(out), "--no-figures"]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _run(command: str, file: Path, out: Path) -> None:
    if _start(command, file, out).wait():
        raise RuntimeError(f"{command} {file} failed")


CASES = {"corpus": corpus, "generations": generations, "models": models, "runs": runs}
