"""Runs for tests of reports: quick ones, larger ones made up out of them, and one whose every name and text attacks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lmcollapse.config import parse
from lmcollapse.loop import run
from lmcollapse.parquet import read_corpus, write_corpus
from lmcollapse.records import read_metrics
from tests.tamper import edit, rehash, write_table
from tests.text import FEW_MEASURES
from tests.urn import urn_config

CONDITIONS: dict[str, Any] = {
    "replace": "replace",
    "accumulate": "accumulate",
    "mix": {"kind": "mix", "human_fraction": 0.1},
}

HOSTILE = (
    "<script>document.documentElement.dataset.owned = 'script'</script>",
    "</script></style></pre></table><h1 id=owned>free</h1>"
    '<img src=x onerror="document.documentElement.dataset.owned=1">',
    "<!-- <![CDATA[ {{ 7 * 7 }} {% raw %} &lt;b&gt; \\u003c",
    "bell\x07 nul\x00 escape\x1b[31mred\x1b[0m return\rback\x08 delete\x7f next\x85line",
    "\u202egnirts a\u202c \u2066isolated\u2069 \u200fmark\u200e zero\u200bwidth\u200dand\ufeff "
    "\u2028\u2029 \U000e0041tag",
    "z" + "\u0336\u0337\u0338\u0341" * 60 + "algo " + "\u0645\u0631\u062d\u0628\u0627 " + "w" * 900 + "\n" * 500,
)
"""What a corpus must not be able to do to a page."""

STEERING = "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u2069\\ufeff]"
"""A class of characters that no page may have, for regular expressions here and in a browser."""


def urn_run(folder: Path, out: Path, **given: Any) -> Path:
    """A run of the urn, of three generations with few measures unless told otherwise."""
    return run(parse(urn_config(folder, **{"measures": {**FEW_MEASURES, "words": 1500}, **given})), out)


def grid(folder: Path) -> list[Path]:
    """Three conditions with three seeds each."""
    return [
        urn_run(folder, folder / f"{name}-{seed}", policy=policy, seed=seed)
        for name, policy in CONDITIONS.items()
        for seed in range(3)
    ]


def rewrite_texts(run: Path, generation: int, texts: Callable[[int], str]) -> None:
    """Put other texts into what a generation wrote."""
    file = run / f"generation_{generation:03d}" / "corpus" / "corpus.parquet"
    corpus = read_corpus(file)
    write_corpus(replace(corpus, texts=[texts(row) for row in range(len(corpus))]), file)
    rehash(file.parent)


def stretched(run: Path, out: Path, generations: int, seed: int, policy: Mapping[str, Any]) -> Path:
    """A run made up out of another: more generations, another seed and policy, numbers that differ a little."""
    shutil.copytree(run, out)
    rows = read_metrics(run)
    rng = np.random.default_rng([seed, len(json.dumps(policy))])
    made = []
    for generation in range(generations):
        if generation >= len(rows):
            origin = f"generation_{len(rows) - 1:03d}"
            shutil.copytree(run / origin, out / f"generation_{generation:03d}")
        row = rows[min(generation, len(rows) - 1)]
        changed = {name: None if value is None else value * rng.uniform(0.8, 1.2) for name, value in row.items()}
        made.append({"generation": generation} | changed)
    write_table(out, made)

    def change(manifest: Any) -> None:
        manifest["config"] |= {"generations": generations, "seed": seed, "policy": dict(policy)}

    edit(out / "manifest.json", change)
    return out


def hostile(folder: Path) -> Path:
    """A run whose texts, names, settings, commands and measures all try to get out of the page."""
    out = urn_run(folder, folder / "<b onclick='x'>\u202e\"run\" & co", policy="replace")
    for generation in range(3):
        rewrite_texts(out, generation, lambda row, first=generation: HOSTILE[(first + row) % len(HOSTILE)])  # type: ignore[misc]

    def change(manifest: Any) -> None:
        manifest["config"]["policy"] = {"kind": HOSTILE[0], "\u202e<i>": HOSTILE[1]}
        manifest["config"]["corpus"]["path"] = HOSTILE[4]
        manifest["hardware"]["cpu"] = HOSTILE[3]
        manifest["starts"][0]["command"] = ["lmcollapse", "run", HOSTILE[2], HOSTILE[4]]

    edit(out / "manifest.json", change)
    rows = [
        json.loads(line) | {HOSTILE[1]: 1.0 + n, HOSTILE[4]: 2.0 + n}
        for n, line in enumerate((out / "metrics.jsonl").open())
    ]
    write_table(out, rows)
    return out
