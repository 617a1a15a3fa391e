"""What the figures of chains share: runs by substrate, each with a name that says what it is, and chain 0's models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from matplotlib.figure import Figure

from lmcollapse.chains import word_counts
from lmcollapse.config import Config, condition, parse
from lmcollapse.metrics.sequence_perplexity import flat_name
from lmcollapse.parquet import read_part
from lmcollapse.results import manifest_of, names, of_chains
from lmcollapse.spans import read_models
from lmcollapse.substrates.chain import ChainSubstrate
from lmcollapse.types import State


@dataclass(frozen=True)
class ChainRun:
    """One run of chains.

    label : its data policy, and the other options in which it differs from the runs beside it.
    substrate : with what it takes from the run's human text.
    """

    path: Path
    label: str
    config: Config
    substrate: ChainSubstrate


def by_substrate(
    runs: Sequence[Path], figure: str, draw: Callable[[str, list[ChainRun]], Figure | None]
) -> dict[str, Figure]:
    """A figure of the runs of each substrate; files are called after the substrate where there are several."""
    alike: dict[str, list[Path]] = {}
    for path in {run.resolve(): run for run in runs}.values():
        manifest = manifest_of(path)
        if of_chains(manifest):
            alike.setdefault(manifest["config"]["substrate"], []).append(path)
    drawn = {substrate: draw(substrate, _chain_runs(paths)) for substrate, paths in alike.items()}
    found = {substrate: one for substrate, one in drawn.items() if one}
    return {figure if len(found) == 1 else f"{figure}_{flat_name(name)}": one for name, one in found.items()}


def snapshots(runs: Sequence[ChainRun], most: int) -> dict[str, dict[int, State]]:
    """Chain 0's models in at most so many generations, by the label of the run; each array keeps its axis of chains.

    The generations are those that were kept of the longest run, thinned evenly, the first and the last included.
    Runs of which no chain was traced are left out.
    """
    stored = {run.label: read_models(run.path) for run in runs if run.substrate.traced}
    kept = {
        label: {generation: {name: array[:1] for name, array in model.items()} for generation, model in models.items()}
        for label, models in stored.items()
        if models
    }
    longest = max((list(models) for models in kept.values()), key=max, default=[])
    chosen = [longest[i] for i in np.linspace(0, len(longest) - 1, min(most, len(longest))).round().astype(int)]
    return {label: {g: models[g] for g in chosen if g in models} for label, models in kept.items()}


def _chain_runs(paths: Sequence[Path]) -> list[ChainRun]:
    configs = [manifest_of(path)["config"] for path in paths]
    parsed = [parse(config) for config in configs]
    return [
        ChainRun(path, label, config, _settled(path, config))
        for path, label, config in zip(paths, _labels(paths, configs), parsed, strict=True)
    ]


def _settled(run: Path, config: Config) -> ChainSubstrate:
    substrate = cast(ChainSubstrate, config.build_substrate())
    return substrate.settle(None if config.corpus is None else word_counts(read_part(run / "human" / "train.parquet")))


def _labels(paths: Sequence[Path], configs: Sequence[dict[str, Any]]) -> list[str]:
    """What tells runs apart, and the name of the directory of one that is like another but for its length."""
    differing = [
        key
        for key in dict.fromkeys(key for config in configs for key in config)
        if key not in ("policy", "generations") and any(config.get(key) != configs[0].get(key) for config in configs)
    ]
    labels = [
        ", ".join([condition(config["policy"]), *(f"{key}={config[key]}" for key in differing if key in config)])
        for config in configs
    ]
    named = names([path.resolve() for path in paths])
    return [
        label if labels.count(label) == 1 else f"{label} ({name})" for label, name in zip(labels, named, strict=True)
    ]
