"""Configurations: typed, with nothing unknown let in and every mistake explained in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmcollapse.config import Config, difference, load, parse
from lmcollapse.sweeps import load_sweep
from lmcollapse.types import UserError

SHIPPED = sorted((Path(__file__).parent.parent / "configs").rglob("*.yaml"))
SWEEPS = [file for file in SHIPPED if file.parent.name == "sweeps"]
CONFIGS = [file for file in SHIPPED if file not in SWEEPS]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_shipped_configuration_binds(file: Path) -> None:
    config = load(file)
    assert (
        parse(config.model_dump(mode="json")) == config
        or difference(parse(config.model_dump(mode="json")).model_dump(mode="json"), config.model_dump(mode="json"))
        == []
    )


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_every_shipped_sweep_binds(file: Path, tmp_path: Path) -> None:
    sweep = load_sweep(file, tmp_path)
    assert len(sweep.conditions) > 1 and len(sweep.cells) > len(sweep.conditions)


def test_configurations_are_there() -> None:
    assert {file.stem for file in CONFIGS} >= {"quickstart", "quickstart-accumulate", "quickstart-mix"}


def test_no_sweep_goes_by_default_where_a_run_goes() -> None:
    assert {file.stem for file in SWEEPS}.isdisjoint(file.stem for file in CONFIGS)


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_short_forms_and_overrides(tmp_path: Path) -> None:
    file = write(tmp_path, "policy: mix\nmodel: scratch\ncorpus: docs\n")
    config = load(file, ["policy.human_fraction=0.25", "train.epochs=2", "train.learning_rate=3e-4", "seed=7"])
    dumped = config.model_dump()
    assert dumped["policy"] == {"kind": "mix", "human_fraction": 0.25, "human_keep": None, "redraw": True}
    assert (dumped["train"]["epochs"], dumped["train"]["learning_rate"], dumped["seed"]) == (2, 3e-4, 7)
    assert load(file, ["policy=replace"]).section("policy") == ("replace", {})


def test_measures_are_all_taken_unless_left_out(tmp_path: Path) -> None:
    config = load(write(tmp_path, "measures: {words: 700, distinct_n: {orders: [2]}, tail_coverage: null}"))
    chosen = config.chosen_measures()
    assert config.measures is not None and config.measured == 700 and "words" not in chosen
    assert chosen["distinct_n"] == {"orders": (2,)}
    assert "tail_coverage" not in chosen
    assert chosen["perplexity"] == {}


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("generation: 3", [], "unknown key 'generation'; did you mean 'generations'?"),
        ("train: {epoch: 3}", [], "unknown key 'train.epoch'; did you mean 'epochs'?"),
        ("policy: {kind: mix, human_fractoin: 0.1}", [], "did you mean 'human_fraction'?"),
        ("policy: replase", [], "unknown policy 'replase'; did you mean 'replace'?"),
        ("corpus: dogs", [], "unknown corpus 'dogs'; did you mean 'docs'?"),
        ("measures: {distict_n: {}}", [], "unknown key 'measures.distict_n'; did you mean 'distinct_n'?"),
        ("substrate: causal", [], "unknown substrate 'causal'"),
        ("generations: many", [], "'generations' is 'many'"),
        ("generations: 0", [], "greater than 0"),
        ("train: {learning_rate: .inf}", [], "finite"),
        ("start: never", [], "'base', 'previous' or 'scratch'"),
        ("policy: {human_fraction: 0.1}", [], "'policy' names no kind"),
        ("policy: [replace]", [], "it must be a name or a section"),
        ("seed: 1\nseed: 2", [], "given twice: seed"),
        ("- a\n- b", [], "holds a list"),
        ("a: [", [], "not valid YAML"),
        ("", ["epochs"], "not of the form key=value"),
        ("", ["train.epohcs=3"], "did you mean 'epochs'?"),
        ("", ["policy=no.such_module:policy"], "cannot be imported"),
        ("train: 5", [], "'train' is 5"),
        ("", ["generations=true"], "neither true nor false"),
        ("", ["policy=:x"], "not of the form"),
        ("", ["policy=.a:b"], "not of the form"),
        ("", ["substrate=os:path"], "is no substrate"),
        ("", ["seed=2020-99-99"], "'seed' is '2020-99-99'"),
        ("seed: 2020-99-99", [], "not valid YAML"),
        ("", ["measures={'json:dumps': {}}"], "'dumps' looks at 'obj', which no scene has"),
        ("corpus: {kind: docs, train_words: 0}", [], "greater than 0"),
    ],
)
def test_mistakes_are_explained_in_one_line(tmp_path: Path, text: str, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        load(write(tmp_path, text), overrides)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("seed: 1 # caf\xe9".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8 \\(byte 13\\)"):
        load(tmp_path / "latin.yaml")


def test_a_component_from_outside_the_tree(tmp_path: Path) -> None:
    file = write(tmp_path, "substrate: 'tests.urn:Urn'\nstart: scratch\nurn: {row_words: 8}\n")
    config: Config = load(file)
    assert config.build_substrate().model_dump(mode="json")["urn"]["row_words"] == 8
    with pytest.raises(UserError, match="unknown key 'train'"):
        load(file, ["train.epochs=2"])  # a section of another substrate


def test_difference_names_every_key() -> None:
    one, two = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 5}, "e": 4}
    assert difference(one, two) == [
        "a.c: 2 there, 5 here",
        "d: 3 there, (absent) here",
        "e: (absent) there, 4 here",
    ]


def test_a_file_extends_another(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "seed: 4\npolicy: {kind: mix, human_fraction: 0.2}\ntrain: {epochs: 2, batch_size: 4}\n"
    )
    (tmp_path / "deep").mkdir()
    child = tmp_path / "deep" / "child.yaml"
    child.write_text("extends: ../base.yaml\ntrain: {epochs: 3}\npolicy: {redraw: false}\n")
    config = load(child, ["train.learning_rate=0.01"])
    dumped = config.model_dump(mode="json")
    assert config.seed == 4 and "extends" not in dumped
    assert (dumped["train"]["epochs"], dumped["train"]["batch_size"], dumped["train"]["learning_rate"]) == (3, 4, 0.01)
    assert config.section("policy") == ("mix", {"human_fraction": 0.2, "human_keep": None, "redraw": False})
    child.write_text("extends: ../base.yaml\npolicy: {kind: filling, end: 0.2}\n")
    assert load(child).section("policy")[0] == "filling", "another kind takes the place of the whole section"
    child.write_text("extends: ../base.yaml\npolicy: accumulate\n")
    assert load(child).section("policy")[0] == "accumulate"
    (tmp_path / "base.yaml").write_text("extends: deep/child.yaml\n")
    with pytest.raises(UserError, match="extends itself"):
        load(child)
    child.write_text("extends: ../nowhere.yaml\n")
    with pytest.raises(UserError, match=r"nowhere\.yaml: cannot be read"):
        load(child)
    child.write_text("extends: [a, b]\n")
    with pytest.raises(UserError, match="'extends' is"):
        load(child)
