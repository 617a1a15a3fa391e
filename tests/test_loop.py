"""The loop, with a substrate that is quick enough to look at every step: order, provenance, resuming, refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import load_dataset

from lmcollapse.config import Config, parse
from lmcollapse.loop import run
from lmcollapse.parquet import read_corpus
from lmcollapse.types import HUMAN, Corpus, Silent, UserError
from lmcollapse.verify.same import different_files
from tests.tamper import edit
from tests.urn import Urn, urn_config, watch_fits


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    return urn_config(tmp_path, policy="replace")


def config(given: Mapping[str, Any], **changes: Any) -> Config:
    return parse({**given, **changes})


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_what_the_readme_draws(given: dict[str, Any], tmp_path: Path) -> None:
    out = run(config(given), tmp_path / "run")
    table = metrics(out)
    assert [row["generation"] for row in table] == [0, 1, 2]
    wanted = {"perplexity", "bits_per_byte", "distinct_1", "distinct_2", "distinct_3", "distinct_4", "tail_coverage"}
    assert wanted <= set(table[0])
    # a unigram model that only resamples loses rare words and never gets them back: the tail can only shrink
    assert table[2]["tail_coverage"] < table[0]["tail_coverage"]
    for generation in range(3):
        folder = out / f"generation_{generation:03d}"
        assert {entry.name for entry in folder.iterdir()} == {"train", "model", "corpus", "scores", "measures"}
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["config"]["policy"] == {"kind": "replace"}
    assert manifest["decided"]["workers"] == 3
    assert len(manifest["human"]["train"]["sha256"]) == len(manifest["human"]["heldout"]["sha256"]) == 64


def test_a_corpus_opens_in_datasets_with_its_origin(given: dict[str, Any], tmp_path: Path) -> None:
    out = run(config(given), tmp_path / "run")
    file = out / "generation_001" / "corpus" / "corpus.parquet"
    data = load_dataset("parquet", data_files=str(file), cache_dir=str(tmp_path / "cache"))["train"]
    assert {"text", "tokens", "origin", "generation", "row", "prompt"} <= set(data.column_names)
    assert set(data["generation"]) == {1} and set(data["origin"]) == {"synthetic"}
    assert data["row"] == list(range(len(data)))
    assert read_corpus(file).tokens(3).tolist() == data[3]["tokens"]


@pytest.mark.parametrize(
    ("policy", "origins"),
    [
        ("replace", [{HUMAN}, {0}, {1}]),
        ("accumulate", [{HUMAN}, {HUMAN, 0}, {HUMAN, 0, 1}]),
        ("accumulate_subsample", [{HUMAN}, {HUMAN, 0}, {HUMAN, 0, 1}]),
        ({"kind": "mix", "human_fraction": 0.5}, [{HUMAN}, {HUMAN, 0}, {HUMAN, 1}]),
        ({"kind": "fresh", "human_fraction": 0.25}, [{HUMAN}, {HUMAN, 0}, {HUMAN, 1}]),
        ("human", [{HUMAN}, {HUMAN}, {HUMAN}]),
    ],
)
def test_each_generation_trains_on_what_its_policy_says(
    given: dict[str, Any], tmp_path: Path, policy: Any, origins: list[set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch_fits(monkeypatch)
    given["corpus"] |= {"train_words": 6000, "reserve_words": 4000}
    out = run(config(given, policy=policy), tmp_path / "run")
    assert [set(train.generation.tolist()) for train in seen] == origins
    parts = [read_corpus(out / "rows" / f"{part}.parquet") for part in ("train", "reserve", "heldout")]
    human = Corpus.concatenate(parts[:2])
    assert human.row.tolist() == list(range(len(human)))
    texts = [set(part.texts or ()) for part in parts]
    assert texts[0].isdisjoint(texts[1]) and (texts[0] | texts[1]).isdisjoint(texts[2])
    for train in seen:  # every row is the row that its origin says it is
        for i in np.random.default_rng(0).integers(0, len(train), 20):
            g, row = int(train.generation[i]), int(train.row[i])
            born_in = human if g == HUMAN else read_corpus(out / f"generation_{g:03d}" / "corpus" / "corpus.parquet")
            assert train.tokens(i).tolist() == born_in.tokens(row).tolist()
    if policy == "human":
        assert seen[1].values.tolist() == seen[0].values.tolist()
    fresh = [set(train.row[train.generation == HUMAN].tolist()) for train in seen]
    if isinstance(policy, dict) and policy["kind"] == "fresh":
        wanted = round(0.25 * len(parts[0]))
        assert [len(rows) for rows in fresh] == [len(parts[0]), wanted, wanted]
        assert len(set.union(*fresh)) == len(parts[0]) + 2 * wanted
    else:
        assert max(set.union(*fresh)) < len(parts[0]), "the reserve is for policies that ask for it"


def test_a_reserve_that_will_not_last_is_refused_at_once(given: dict[str, Any], tmp_path: Path) -> None:
    given["corpus"] |= {"train_words": 6000, "reserve_words": 200}
    with pytest.raises(UserError, match=r"generation 2 needs .* raise corpus\.reserve_words"):
        run(config(given, policy={"kind": "fresh", "human_fraction": 0.5}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_runs_of_one_configuration_are_equal_and_another_seed_is_not(given: dict[str, Any], tmp_path: Path) -> None:
    one, two = run(config(given), tmp_path / "one"), run(config(given), tmp_path / "two")
    assert different_files(one, two) == []
    other = run(config(given, seed=1), tmp_path / "other")
    assert "generation_000/corpus/corpus.parquet" in different_files(one, other)


def test_a_finished_run_computes_nothing_again(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    out = run(config(given), tmp_path / "run")
    monkeypatch.setattr(Urn, "fit", lambda *_: pytest.fail("fitted again"))
    run(config(given), out)
    assert len(json.loads((out / "manifest.json").read_text())["starts"]) == 2


def test_a_damaged_table_is_written_again(given: dict[str, Any], tmp_path: Path) -> None:
    out = run(config(given), tmp_path / "run")
    good = (out / "metrics.jsonl").read_bytes()
    for bad in (good + b"{garbage", b"\xff" + good, good[:50], b""):
        (out / "metrics.jsonl").write_bytes(bad)
        run(config(given), out)
        assert (out / "metrics.jsonl").read_bytes() == good


def test_what_the_machine_decided_is_obeyed_on_resume(given: dict[str, Any], tmp_path: Path) -> None:
    out = run(config(given), tmp_path / "run")
    edit(out / "manifest.json", lambda manifest: manifest["decided"].update(workers=7))  # as another machine might
    run(config(given), out)
    record = json.loads((out / "generation_002" / "corpus" / "step.json").read_text())
    assert record["notes"] == ["workers 7"]


def test_another_version_or_machine_is_said(given: dict[str, Any], tmp_path: Path) -> None:
    out = run(config(given), tmp_path / "run")
    edit(out / "manifest.json", lambda manifest: manifest["versions"].update(numpy="1.0"))

    class Listening(Silent):
        lines: list[str] = []  # noqa: RUF012

        def say(self, line: str) -> None:
            self.lines.append(line)

    run(config(given), out, Listening())
    assert any("numpy was 1.0" in line for line in Listening.lines)


def test_another_configuration_is_refused_with_what_differs(given: dict[str, Any], tmp_path: Path) -> None:
    out = run(config(given), tmp_path / "run")
    before = (out / "metrics.jsonl").read_bytes()
    with pytest.raises(
        UserError, match=r"another configuration \(generations: 3 there, 2 here; seed: 0 there, 5 here\)"
    ):
        run(config(given, seed=5, generations=2), out)
    assert (out / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": "mix"}, "exactly one"),
        ({"start": "previous"}, "start: previous"),
        ({"corpus": {"kind": "files", "path": "nowhere.txt"}}, "nowhere.txt"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    given: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(config(given, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_killed_wherever_it_writes_and_resumed_it_ends_with_the_same_bytes(
    given: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**given, "generations": 2, "policy": "accumulate"}))  # JSON is YAML
    reference = run(parse(json.loads(file.read_text())), tmp_path / "reference")
    (tmp_path / "work").mkdir()
    command = [sys.executable, "-m", "tests.killer", str(file), str(reference), str(tmp_path / "work"), "4"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["bad"] == []
    assert report["kills"] > 10
