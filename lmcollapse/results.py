"""Run directories as tidy tables: what the figures are drawn from, and what a notebook works with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmcollapse.catalog import only_own
from lmcollapse.config import condition
from lmcollapse.metrics.sequence_perplexity import nats_per_token
from lmcollapse.parquet import read_scores
from lmcollapse.readings import flat, load_readings
from lmcollapse.records import ending, read_manifest, read_metrics, sound
from lmcollapse.spans import PERCENTILES
from lmcollapse.steps import REFERENCE, folder_of, judged_file
from lmcollapse.types import HUMAN, Floats, UserError

COLUMNS = ("run", "condition", "seed", "generation", "measure", "value", "low", "high")
OVER_CHAINS = tuple(f"p{percent}" for percent in PERCENTILES)


def table(runs: Sequence[Path]) -> pd.DataFrame:
    """Every measure of every finished generation, one a row.

    Columns: `run` (the name of its directory), `condition` (its data policy), `seed`, `generation`, `measure`, `value`
    (NaN where the measure is not defined), `low` and `high` (its 95 % interval, NaN where it has none). Generation -1
    is held-out human text, a sample as large as those of the generations. Runs stand in the order given, each once.

    In a run of chains the value is the mean over the chains, `collapsed` is the share of them that are degenerate, and
    generation -1 is the distribution that human data come from, which is known exactly.

    Raises UserError for a directory that holds no run, a run without a finished generation, and damaged files.
    """
    return _tidy(runs, COLUMNS)


def over_chains(runs: Sequence[Path]) -> pd.DataFrame:
    """The runs of chains among these as in `table`, with percentiles over the chains: columns `p5`, `p50` and `p95`."""
    found = _tidy(runs, COLUMNS + OVER_CHAINS)
    chosen = [run["run"] for path, run in _described(runs) if of_chains(manifest_of(path))]
    return found[found["run"].isin(chosen)].reset_index(drop=True)


def _tidy(runs: Sequence[Path], columns: Sequence[str]) -> pd.DataFrame:
    rows = [
        {**run, "generation": generation, **reading}
        for path, run in _described(runs)
        for generation, readings in [(HUMAN, _reference(path)), *enumerate(_readings(path))]
        for reading in _with_intervals(readings)
    ]
    numbers = columns[COLUMNS.index("value") :]
    return pd.DataFrame(rows, columns=list(columns)).astype(dict.fromkeys(numbers, np.float64))


def judges(runs: Sequence[Path]) -> list[str]:
    """The models that judge what all of these runs wrote; the first one is generation 0's of each."""
    manifests = [manifest for run in runs if (manifest := read_manifest(run)) and not of_chains(manifest)]
    named = [manifest["config"].get("scoring", {}).get("judges", []) for manifest in manifests]
    return ["generation_0", *(named[0] if named and all(names == named[0] for names in named) else [])]


def sequences(runs: Sequence[Path], judge: int = 0) -> pd.DataFrame:
    """Every sequence that a finished generation wrote, one a row, with its perplexity under a judge.

    Columns: `run`, `condition`, `seed` and `generation` as in `table`, and `perplexity` (infinite where it overflows).
    Chains and models of images write none. Raises UserError as `table` does.

    judge : its place in `judges`; 0 for generation 0's model.
    """
    parts = [
        pd.DataFrame({**run, "generation": generation, "perplexity": sequence_perplexities(path, generation, judge)})
        for path, run in _described(runs)
        if not of_chains(manifest_of(path)) and not of_images(manifest_of(path))
        for generation in range(len(_readings(path)))
    ]
    nothing = pd.DataFrame(columns=["run", "condition", "seed", "generation", "perplexity"])
    return pd.concat(parts, ignore_index=True) if parts else nothing


def manifest_of(run: Path) -> dict[str, Any]:
    """The manifest of a run; UserError where the directory holds none."""
    manifest = read_manifest(run)
    if manifest is None:
        raise UserError(f"{run} holds no run; give a directory that `lmcollapse run` has written")
    return manifest


def finished(run: Path) -> int:
    """How many generations of a run are finished."""
    return len(read_metrics(run))


def of_chains(manifest: Mapping[str, Any]) -> bool:
    """Whether a run is one of many chains of a simple model, in arrays."""
    return "chains" in manifest["config"]


def of_images(manifest: Mapping[str, Any]) -> bool:
    """Whether a run reads and writes images."""
    return "images" in manifest.get("human", {}).get("train", {})


def _described(runs: Sequence[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each run directory with what tells it from the others."""
    given = {run.resolve(): run for run in runs}
    for path, name in zip(given.values(), names(list(given)), strict=True):
        manifest = manifest_of(path)
        yield path, {"run": name, "condition": condition_of(manifest), "seed": manifest["config"]["seed"]}


def condition_of(manifest: Mapping[str, Any]) -> str:
    """What tells a run from others, beside its seed: the name that a sweep gave it, else its data policy in words."""
    with only_own():
        return manifest.get("condition") or condition(manifest["config"]["policy"])


def names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, with as many parts before it as it takes to tell it from all others."""

    def tail(path: Path, parts: int) -> str:
        return "/".join(path.parts[-parts:])

    def name(path: Path) -> str:
        others = [other for other in paths if other != path]
        lengths = range(1, len(path.parts) + 1)
        return next(tail(path, n) for n in lengths if all(tail(other, n) != tail(path, n) for other in others))

    return [name(path) for path in paths]


def _readings(run: Path) -> list[dict[str, float | None]]:
    """The measures of each finished generation."""
    rows = read_metrics(run)
    if not rows:
        ended = ending(manifest_of(run))
        if ended is not None:
            raise UserError(f"{run} has no finished generation: {ended[0]} in generation 0, {ended[2]}; leave it out")
        raise UserError(f"{run} has no finished generation yet; go on with the run, or leave it out")
    return rows


def _reference(run: Path) -> dict[str, float | None]:
    """The measures of held-out human text, or of the distribution that human data come from."""
    try:
        readings = load_readings(sound(run / REFERENCE))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{run / REFERENCE}: cannot be read ({error}); the same `lmcollapse run` makes it again"
        ) from None
    if of_chains(manifest_of(run)):
        readings = [replace(reading, low=reading.value, high=reading.value) for reading in readings]
    return flat(readings)


def _with_intervals(readings: Mapping[str, float | None]) -> Iterator[dict[str, Any]]:
    """Flat readings as one row a measure; its interval and its percentiles stand beside it."""
    beside: dict[str, dict[str, str]] = {}
    for ends in (("low", "high"), OVER_CHAINS):
        for name in readings:
            parts = {end: f"{name}_{end}" for end in ends}
            if readings.keys() >= set(parts.values()):
                beside[name] = beside.get(name, {}) | parts
    parts_of_others = {part for parts in beside.values() for part in parts.values()}
    for name, value in readings.items():
        if name not in parts_of_others:
            yield {"measure": name, "value": value} | {
                end: readings[part] for end, part in beside.get(name, {}).items()
            }


def sequence_perplexities(run: Path, generation: int, judge: int) -> Floats:
    """`(sequences,)` of what a generation wrote, under a judge, by its place in `judges`."""
    file = run / folder_of(generation) / "scores" / judged_file(judge)
    try:
        scores = read_scores(sound(file))
    except (OSError, KeyError, ValueError) as error:  # Arrow's errors are among them
        raise UserError(f"{file}: cannot be read ({error}); the same `lmcollapse run` makes it again") from None
    with np.errstate(over="ignore"):
        perplexities: Floats = np.exp(nats_per_token(scores))
    return perplexities
