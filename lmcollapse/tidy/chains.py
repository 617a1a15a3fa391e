"""What figures show of runs of chains: percentiles over the chains, theory, and chain 0's models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import numpy as np
import pandas as pd

from lmcollapse.chains import word_counts
from lmcollapse.config import Config, recorded
from lmcollapse.normals import REACH, Normals, window
from lmcollapse.parquet import read_part
from lmcollapse.records import sound
from lmcollapse.results import OVER_CHAINS, finished, over_chains
from lmcollapse.results import of_chains as is_of_chains
from lmcollapse.spans import read_models
from lmcollapse.substrates.chain import ChainSubstrate
from lmcollapse.substrates.discrete import Discrete
from lmcollapse.substrates.gaussian_mixture import GaussianMixture
from lmcollapse.theory import expected
from lmcollapse.tidy.conditions import Described, curve, first_of_each
from lmcollapse.types import HUMAN, Floats, Ints, State, UserError

GENERATIONS = 500
"""Generations of which percentiles and theory are kept."""
SNAPSHOTS = 6
"""Generations of which models are kept."""
PLACES, NEAR_PLACES, RANKS = 401, 101, 300
"""Where a density is computed: along its axis, and near a narrow one; how many ranks are kept."""
NARROW = 1e-9
"""Deviation that a model which has collapsed to a point is drawn with."""


def of_chains(runs: Sequence[Described]) -> Iterator[pd.DataFrame]:
    """Parts of the table; models of the first run of each condition."""
    every = [run.path for run in runs]  # names depend on all of them
    runs = [run for run in runs if is_of_chains(run.manifest)]
    if not runs:
        return
    by_name = {run.name: run for run in runs}
    for name, found in over_chains(every).groupby("run", sort=False):
        run = by_name[str(name)]
        yield from _percentiles(run, found)
        yield from _theory(run, found)
    by_substrate: dict[str, list[Described]] = {}
    for run in first_of_each(runs):
        by_substrate.setdefault(run.substrate, []).append(run)
    for alike in by_substrate.values():
        yield from _models(alike)


def spaced(count: int, most: int) -> Ints:
    """At most so many of the numbers below `count`, evenly on a logarithmic axis, the first and the last included."""
    if count <= most:
        return np.arange(count)
    found: Ints = np.unique(np.geomspace(1, count, most).round().astype(np.int64)) - 1
    return found


def _percentiles(run: Described, found: pd.DataFrame) -> Iterator[pd.DataFrame]:
    kept = found[found["generation"].isin(spaced(finished(run.path), GENERATIONS))]
    for percentile in OVER_CHAINS:
        part = kept[kept[percentile].notna()]
        names = part["measure"] + f"_{percentile}"
        yield part[["run", "generation"]].assign(measure=names, value=part[percentile])


def _theory(run: Described, found: pd.DataFrame) -> Iterator[pd.DataFrame]:
    if (config := _config(run)) is None:
        return
    kept = spaced(finished(run.path), GENERATIONS)
    for measure in found["measure"].unique():
        theory = expected(config, str(measure))
        if theory is not None:
            yield pd.DataFrame(
                {"run": run.name, "generation": kept, "measure": f"{measure}_theory", "value": theory[kept]}
            )


def _models(runs: Sequence[Described]) -> Iterator[pd.DataFrame]:
    """Chain 0's models in some generations, and the truth, of runs of one substrate."""
    settled = {run.name: substrate for run in runs if (substrate := _settled(run)) is not None}
    stored = {run.name: read_models(run.path) for run in runs if run.name in settled and settled[run.name].traced}
    chosen = _snapshots(stored)
    for run in (run for run in runs if run.name in settled):
        found = {generation: stored[run.name][generation] for generation in chosen.get(run.name, ())}
        substrate = settled[run.name]
        if found and isinstance(substrate, Discrete):
            yield _ranks(run, HUMAN, substrate.human_probabilities)
            for generation, model in found.items():
                yield _ranks(run, generation, model["probabilities"][0])
        elif found and run.substrate in ("gaussian", "kde", "gaussian_mixture"):
            models = {generation: Normals.of(run.substrate, model) for generation, model in found.items()}
            truth = _truth(substrate)
            if substrate.width == 1:
                yield from _densities(run, truth, models)
            elif substrate.width == 2 and run.substrate != "kde":
                for generation, normals in {HUMAN: truth, **models}.items():
                    yield from _components(run, generation, normals)


def _snapshots(stored: Mapping[str, Mapping[int, State]]) -> dict[str, list[int]]:
    """Of each run those generations, of the ones that were kept of the longest run and thinned evenly, that it has."""
    longest = max((list(models) for models in stored.values() if models), key=max, default=[])
    places = np.linspace(0, len(longest) - 1, min(SNAPSHOTS, len(longest))).round().astype(int)
    chosen = [longest[place] for place in places]
    return {name: [generation for generation in chosen if generation in models] for name, models in stored.items()}


def _config(run: Described) -> Config | None:
    """None where a part of it is from outside the project."""
    try:
        return recorded(run.manifest["config"])
    except UserError:
        return None


def _settled(run: Described) -> ChainSubstrate | None:
    """The substrate, with what it takes from the run's human text; None where that is from outside the project."""
    if (config := _config(run)) is None:
        return None
    substrate = cast(ChainSubstrate, config.build_substrate())
    human = run.path / "human" / "train.parquet"
    return substrate.settle(None if config.corpus is None else word_counts(read_part(sound(human))))


def _truth(substrate: ChainSubstrate) -> Normals:
    """The distribution of human data."""
    if isinstance(substrate, GaussianMixture):
        return Normals.of("gaussian_mixture", substrate.human_model())
    return Normals.standard(substrate.width)


def _ranks(run: Described, generation: int, probabilities: Floats) -> pd.DataFrame:
    """Probabilities in descending order."""
    ordered = np.sort(probabilities[probabilities > 0])[::-1]
    kept = spaced(len(ordered), RANKS)
    return curve(run, generation, "probability", kept + 1.0, ordered[kept])


def _densities(run: Described, truth: Normals, models: Mapping[int, Normals]) -> Iterator[pd.DataFrame]:
    """Densities on the line, computed more closely where a single normal is narrow."""
    low, high = window(truth, models.values())
    everywhere = np.linspace(low[0], high[0], PLACES)
    # a component that is narrower than the gap between two places would fall between them
    blur = (high[0] - low[0]) / PLACES if run.substrate == "gaussian_mixture" else NARROW
    yield curve(run, HUMAN, "density", everywhere, truth.density(everywhere[:, None]))
    for generation, normals in models.items():
        seen = normals.blurred(blur)
        places = everywhere
        if len(seen.means) == 1:
            near = np.linspace(-REACH, REACH, NEAR_PLACES) * seen.deviations[0, 0] + seen.means[0, 0]
            places = np.unique(np.concatenate([everywhere, near[(near >= low[0]) & (near <= high[0])]]))
        yield curve(run, generation, "density", places, seen.density(places[:, None]))


def _components(run: Described, generation: int, normals: Normals) -> Iterator[pd.DataFrame]:
    """A mixture of normals in two dimensions by its parameters."""
    numbers = np.arange(len(normals.weights), dtype=np.float64)
    yield curve(run, generation, "component_weight", numbers, normals.weights)
    for i in range(2):
        yield curve(run, generation, f"component_mean_{i + 1}", numbers, normals.means[:, i])
        for j in range(i, 2):
            yield curve(run, generation, f"component_covariance_{i + 1}{j + 1}", numbers, normals.covariances[:, i, j])
