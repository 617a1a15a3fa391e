"""A run of chains on disk: what each span of generations leaves in the run directory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from lmcollapse.chains import Block, Experiment, Trace
from lmcollapse.files import local, parse_json, write_json
from lmcollapse.manifest import begin
from lmcollapse.metrics.intervals import LEVEL
from lmcollapse.readings import load_readings, write_readings
from lmcollapse.records import Facts, sound, table_fact
from lmcollapse.steps import REFERENCE
from lmcollapse.store import Artefact, Run
from lmcollapse.types import Floats, Progress, Reading, State, UserError

PERCENTILES = (5, 50, 95)
"""Of each measure over the chains, beside its mean."""
BETWEEN = (1, 2, 5)
"""Models are kept in generation 0, in these times each power of ten, and in the last."""


def run_chains(here: Run, experiment: Experiment, text: Artefact[Any] | None) -> None:
    """Run an experiment of chains in an open run directory, or go on with it."""
    config, substrate = experiment.config, experiment.substrate
    begin(here, config, substrate, {} if text is None else text.facts, {})
    _reference(here, experiment)
    kept = snapshots(config.generations)
    table: list[dict[str, Any]] = []
    previous: Artefact[Any] | None = None
    for span in experiment.spans():
        here.progress.started(span.start, config.generations)
        previous = _span(here, experiment, span, kept, previous, text)
        table += previous.read()
        here.write_metrics(table, complete=len(table) == config.generations)
        for row in table[span.start :]:
            if row["generation"] in kept:
                here.progress.started(row["generation"], config.generations)
                here.progress.finished(row["generation"], row)


def _span(
    here: Run,
    experiment: Experiment,
    span: range,
    kept: Sequence[int],
    previous: Artefact[Any] | None,
    text: Artefact[Any] | None,
) -> Artefact[list[dict[str, Any]]]:
    config, substrate = experiment.config, experiment.substrate

    def write(folder: Path, progress: Progress) -> Facts:
        blocks = experiment.blocks()
        if previous:
            blocks = [read_block(previous.path / block_file(block.number)) for block in blocks]
        label = f"generations {span.start}-{span.stop - 1}"
        with progress.stage(label, total=len(span) * substrate.chains, unit="chain generations") as advance:
            trace = experiment.advance(blocks, span, kept=kept, watch=advance)
        rows = summary(trace)
        write_json(folder / "summary.json", rows)
        _write_traced(trace, folder, substrate.traced)
        if span.stop < config.generations:
            for block in blocks:
                write_block(block, folder / block_file(block.number))
        facts = {"generations": [span.start, span.stop - 1], "collapsed_at": trace.collapsed_at.tolist()}
        return facts | table_fact(rows)

    def read(folder: Path) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = parse_json((folder / "summary.json").read_bytes())
        return rows

    return here.make(
        f"generations_{span.start:06d}",
        write,
        read,
        inputs=({"previous": previous} if previous else {}) | ({"human": text} if text else {}),
        options={
            "substrate": config.substrate,
            "generations": config.generations,
            "policy": config.policy.model_dump(mode="json"),
            "population": config.population and config.population.model_dump(mode="json"),
        }
        | substrate.model_dump(mode="json"),
        seed=config.seed,
    )


def _reference(here: Run, experiment: Experiment) -> None:
    """What the measures are of the distribution that human data come from."""

    def write(folder: Path, progress: Progress) -> None:
        write_readings([Reading(name, value) for name, value in experiment.substrate.truth().items()], folder)

    here.make(REFERENCE, write, load_readings, options=experiment.substrate.model_dump(mode="json"))


def snapshots(generations: int) -> list[int]:
    """The generations of which models are kept."""
    powers = [10**power for power in range(len(str(generations)))]
    chosen = {0, generations - 1, *(factor * power for power in powers for factor in BETWEEN)}
    return sorted(generation for generation in chosen if generation < generations)


def summary(trace: Trace) -> list[dict[str, Any]]:
    """One flat row a generation: of each measure the mean over chains, its 95 % interval, and percentiles.

    `collapsed` is the share of chains whose model has been degenerate by then. What is not finite is None.
    """
    from scipy import stats

    columns: dict[str, Floats] = {}
    for name, values in trace.measures.items():
        chains = values.shape[1]
        # a logarithm of 0 among the chains makes the mean -inf, as it should
        with np.errstate(invalid="ignore", over="ignore"):
            mean = values.mean(axis=1)
            columns[name] = mean
            if chains > 1:
                half = stats.t.ppf((1 + LEVEL) / 2, chains - 1) * values.std(axis=1, ddof=1) / np.sqrt(chains)
                columns |= {f"{name}_low": mean - half, f"{name}_high": mean + half}
                found = np.percentile(values, PERCENTILES, axis=1)
                columns |= {f"{name}_p{p}": row for p, row in zip(PERCENTILES, found, strict=True)}
    at, generations = trace.collapsed_at, np.array(trace.generations)
    columns["collapsed"] = np.mean((at >= 0) & (at <= generations[:, None]), axis=1)
    return [
        {"generation": generation}
        | {name: float(values[row]) if np.isfinite(values[row]) else None for name, values in columns.items()}
        for row, generation in enumerate(trace.generations)
    ]


def _write_traced(trace: Trace, folder: Path, chains: int) -> None:
    """The first chains one by one: measures of every generation, and models."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.numpy import save_file

    measures = {name: values[:, :chains] for name, values in trace.measures.items()}
    generations, traced = next(iter(measures.values())).shape
    columns = {
        "generation": np.repeat(np.array(trace.generations, np.int32), traced),
        "chain": np.tile(np.arange(traced, dtype=np.int32), generations),
    } | {name: values.reshape(-1) for name, values in measures.items()}
    pq.write_table(pa.table(columns), local(folder / "chains.parquet"), compression="zstd")
    arrays = {
        f"{generation}.{name}": np.ascontiguousarray(array[:chains])
        for generation, model in trace.models.items()
        for name, array in model.items()
    }
    save_file(arrays, folder / "models.safetensors")


def read_models(run: Path) -> dict[int, State]:
    """The models of some generations of the traced chains, by generation."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    found: dict[int, State] = {}
    for file in sorted(run.glob("generations_*/models.safetensors")):
        try:
            stored = load_file(sound(file))
        except SafetensorError as error:
            raise UserError(
                f"{file}: damaged ({error}); `lmcollapse run` with the same command makes it again"
            ) from None
        for key, array in stored.items():
            generation, _, name = key.partition(".")
            found.setdefault(int(generation), {})[name] = array
    return dict(sorted(found.items()))


def block_file(number: int) -> str:
    """Where the state of a block of chains is."""
    return f"block_{number:04d}.safetensors"


def write_block(block: Block, file: Path) -> None:
    """All that the next span reads of a block; no pickle."""
    from safetensors.numpy import save_file

    arrays: dict[str, Any] = {}
    scalars: dict[str, Any] = {}
    for part in fields(block):
        value = getattr(block, part.name)
        if isinstance(value, dict):
            arrays |= {f"{part.name}.{name}": array for name, array in value.items()}
        elif isinstance(value, np.ndarray):
            arrays[part.name] = value
        else:
            scalars[part.name] = value
    save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, file, {"block": json.dumps(scalars)})


def read_block(file: Path) -> Block:
    """What `write_block` wrote."""
    from safetensors import safe_open

    with safe_open(file, "numpy") as stored:
        scalars = json.loads(stored.metadata()["block"])
        arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    values: dict[str, Any] = {**scalars, "merged_of": tuple(scalars["merged_of"])}
    for name, array in arrays.items():
        part, _, key = name.partition(".")
        if key:
            values[part] = (values.get(part) or {}) | {key: array}
        else:
            values[part] = array
    return Block(**values)
