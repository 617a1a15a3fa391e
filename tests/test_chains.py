"""Chains in arrays: which rows a fit reads under each policy, and that the numbers depend on nothing but the seed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from lmcollapse import chains
from lmcollapse.chains import trajectories
from lmcollapse.config import Config, parse
from lmcollapse.loop import run
from lmcollapse.spans import read_models, snapshots
from lmcollapse.substrates.chain import ChainSubstrate
from lmcollapse.types import Bools, Floats, State, UserError
from lmcollapse.verify.same import different_files


class Tickets(ChainSubstrate):
    """Each row is a ticket that says who wrote it: (generation, number); human rows are of generation -1.

    A model is all tickets that its fit has read.
    """

    @property
    def width(self) -> int:
        return 2

    def human(self, rng: np.random.Generator, chains: int, rows: int) -> Floats:
        numbers = rng.random((chains, rows))
        return np.stack([np.full((chains, rows), -1.0), numbers], axis=-1)

    def fit(self, statistic: State, previous: State | None, rng: np.random.Generator) -> State:
        generation = 0.0 if previous is None else previous["generation"][0] + 1
        read = statistic["rows"]
        return {"read": read, "generation": np.full(len(read), generation)}

    def sample(self, model: State, rows: int, rng: np.random.Generator, human: Floats) -> Floats:
        numbers = rng.random((len(human), rows))
        return np.stack([np.broadcast_to(model["generation"][:, None], numbers.shape), numbers], axis=-1)

    def measure(self, model: State) -> dict[str, Floats]:
        origins, numbers = model["read"][..., 0], model["read"][..., 1]
        newest = model["generation"][:, None] - 1
        return {
            "rows": np.full(len(origins), float(origins.shape[1])),
            "human": (origins == -1).sum(axis=1).astype(float),
            "newest": (origins == newest).sum(axis=1).astype(float),
            "different": np.array([len(set(row.tolist())) for row in numbers], float),
            "oldest": origins.min(axis=1),
            "sum": numbers.sum(axis=1),
        }

    def truth(self) -> dict[str, float]:
        return {}

    def collapsed(self, model: State) -> Bools:
        return np.zeros(len(model["read"]), bool)


def config(**given: Any) -> Config:
    return parse({"substrate": "gaussian", "generations": 12, "chains": 40, "rows": 20, "policy": "replace", **given})


def tickets(policy: Any, **given: Any) -> dict[str, Floats]:
    found = trajectories(config(substrate="tests.test_chains:Tickets", policy=policy, chains=5, **given))
    return dict(found.measures)


def test_replace_reads_the_newest_rows_and_no_others() -> None:
    found = tickets("replace")
    assert (found["rows"] == 20).all() and (found["different"] == 20).all()
    assert (found["human"][0] == 20).all() and (found["human"][1:] == 0).all()
    assert (found["newest"] == 20).all()


def test_accumulate_reads_every_row_once() -> None:
    found = tickets("accumulate")
    generations = np.arange(12)[:, None]
    assert (found["rows"] == 20 * (generations + 1)).all()
    assert (found["different"] == found["rows"]).all()
    assert (found["human"] == 20).all()


def test_subsampling_keeps_the_budget_and_draws_from_everything_without_replacement() -> None:
    found = tickets("accumulate_subsample", generations=40)
    assert (found["rows"] == 20).all() and (found["different"] == 20).all()
    share = found["human"][1:] / 20
    expected = 1 / (np.arange(1, 40) + 1)
    # hypergeometric, five chains: far within 5 standard errors over all generations
    assert abs((share.mean(axis=1) - expected).mean()) < 5 * np.sqrt((expected / 20 / 5).sum()) / 39
    assert (found["oldest"].min(axis=1)[1:] == -1).any() and (found["newest"][1:] < 20).all()
    assert len({tuple(column) for column in found["human"].T}) > 1, "chains draw each for itself"


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_mix_keeps_its_human_share_of_the_first_rows(share: float) -> None:
    found = tickets({"kind": "mix", "human_fraction": share})
    assert (found["human"][1:] == round(20 * share)).all()
    assert (found["rows"] == 20).all() and (found["different"] == 20).all()
    assert (found["newest"][1:][1:] == 20 - round(20 * share)).all()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_fresh_human_rows_have_never_been_read_before(share: float) -> None:
    read: list[Floats] = []

    class Recording(Tickets):
        def fit(self, statistic: State, previous: State | None, rng: np.random.Generator) -> State:
            read.append(statistic["rows"][0])
            return super().fit(statistic, previous, rng)

    given = config(substrate="tests.test_chains:Tickets", policy={"kind": "fresh", "human_fraction": share}, chains=1)
    experiment = chains.Experiment(given, Recording.model_validate({"chains": 1, "rows": 20}))
    experiment.advance(experiment.blocks(), range(12))
    human = [rows[rows[:, 0] == -1, 1] for rows in read]
    assert [len(rows) for rows in human] == [20] + [round(20 * share)] * 11
    every = np.concatenate(human)
    assert len(np.unique(every)) == len(every)


def test_numbers_depend_neither_on_threads_nor_on_other_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains, "BLOCK", 200)  # ten chains a block
    several = trajectories(config()).measures["variance"]
    monkeypatch.setattr("lmcollapse.processes.cores", lambda: 1)
    assert (trajectories(config()).measures["variance"] == several).all()
    assert (trajectories(config(chains=20)).measures["variance"] == several[:, :20]).all()
    assert len(np.unique(several[-1])) == 40, "no two chains are alike"


@pytest.mark.parametrize("policy", ["replace", "accumulate", "accumulate_subsample", {"kind": "fresh"}])
def test_a_run_is_the_same_as_in_memory_and_goes_on_where_it_was_stopped(
    policy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chains, "BLOCK", 200)
    monkeypatch.setattr(chains, "SPAN", 40 * 20 * 5)  # five generations a span
    given = config(policy=policy)
    out, again = run(given, tmp_path / "out"), tmp_path / "again"
    assert sorted(folder.name for folder in out.glob("generations_*")) == [
        "generations_000000",
        "generations_000005",
        "generations_000010",
    ]
    table = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    found = trajectories(given).measures["variance"]
    assert [row["generation"] for row in table] == list(range(12))
    assert [row["variance"] for row in table] == pytest.approx(found.mean(axis=1), rel=1e-14)
    traced = pq.read_table(out / "generations_000005" / "chains.parquet").to_pandas()
    one = traced[(traced["generation"] == 7) & (traced["chain"] == 3)]
    assert one["variance"].item() == found[7, 3]
    shutil.copytree(out, again)
    shutil.rmtree(again / "generations_000010")
    (again / "metrics.jsonl").unlink()
    run(given, again)
    assert not different_files(out, again)


def test_models_are_kept_of_generations_that_figures_show(tmp_path: Path) -> None:
    out = run(config(traced=3), tmp_path / "out")
    models = read_models(out)
    assert list(models) == snapshots(12) == [0, 1, 2, 5, 10, 11]
    assert models[5]["covariance"].shape == (3, 1, 1)
    assert snapshots(1) == [0] and snapshots(1001) == [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]


def test_a_degenerate_chain_is_recorded_and_disturbs_no_other(tmp_path: Path) -> None:
    given = config(rows=2, generations=200, chains=30)
    trace = trajectories(given)
    assert (trace.collapsed_at >= 0).any()
    for chain in np.nonzero(trace.collapsed_at >= 0)[0]:
        at = trace.collapsed_at[chain]
        assert trace.measures["variance"][at:, chain].max() < 1e-25
        assert at == 0 or trace.measures["variance"][at - 1, chain] > 0
    assert np.isfinite(trace.measures["variance"]).all()
    out = run(given, tmp_path / "out")
    shares = [json.loads(line)["collapsed"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert shares[-1] == (trace.collapsed_at >= 0).mean() and shares == sorted(shares)
    record = json.loads((out / "generations_000000" / "step.json").read_text())
    assert record["facts"]["collapsed_at"] == trace.collapsed_at.tolist()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rows": 3, "dimensions": 3}, "needs 4 rows at least"),
        ({"start": "previous"}, "leave `start` out"),
        ({"corpus": "docs"}, "'corpus' has no effect"),
        ({"measures": {}}, "'measures' has no effect"),
        ({"policy": {"kind": "mix"}}, "give exactly one"),
        ({"policy": "accumulate_subsample", "chains": 10**6, "rows": 10**6}, "may pick any row of the past"),
        ({"rows": 0}, "'rows' is 0"),
        ({"ddof": 2}, "'ddof' is 2"),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_fit(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        run(config(**given), tmp_path / "out")
    assert not (tmp_path / "out").exists()
