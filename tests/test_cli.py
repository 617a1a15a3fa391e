"""The real command line: a two-layer model from text to figures, killed and resumed, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from lmcollapse.progress import printable
from lmcollapse.verify.same import different_files
from tests.small import lmcollapse, write_config


def test_a_run_leaves_models_corpora_measures_and_figures(finished: Path) -> None:
    run = finished / "run"
    for generation in (0, 1):
        folder = run / f"generation_{generation:03d}"
        for name in ("model/model.safetensors", "model/config.json", "model/tokenizer.json", "model/fit.jsonl"):
            assert (folder / name).is_file(), name
    assert not list(run.rglob("*.bin")) and not list(run.rglob("*.pt"))
    assert {file.suffix for file in (run / "figures").iterdir()} == {".png", ".pdf", ".svg", ".parquet", ".csv"}
    table = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["generation"] for row in table] == [0, 1]
    assert all(row["perplexity"] > 1 for row in table)


def test_killed_at_every_step_and_resumed_it_ends_with_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    """Each start finishes one step and dies in the middle of the next, its files half in place."""
    bomb = (
        "import os, signal\n"
        "from lmcollapse import files\n"
        "real, done = files.write_json, []\n"
        "def write_json(file, value):\n"
        "    if file.name == 'step.json':\n"
        "        done.append(file)\n"
        "        if len(done) == 2:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(file, value)\n"
        "files.write_json = write_json\n"
    )
    config = finished / "small.yaml"
    kills = 0
    while True:
        result = lmcollapse("run", config, "--out", tmp_path / "run", "--no-figures", code=bomb)
        if result.returncode == 0:
            break
        assert result.returncode == -signal.SIGKILL, result.stderr
        kills += 1
        assert kills < 20
    assert kills == 13  # 4 steps before generation 0 and 5 a generation, less the first
    assert different_files(finished / "run", tmp_path / "run") == []


def test_terminated_it_says_how_to_go_on(finished: Path, tmp_path: Path) -> None:
    code = "import os, signal, time\nfrom lmcollapse import loop\n"
    code += "loop.Steps.rows = lambda *_: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(60))"
    result = lmcollapse("run", finished / "small.yaml", "--out", tmp_path / "run", code=code)
    assert result.returncode == 130, result.stderr
    assert "the same command goes on" in result.stderr


def test_evaluate_prints_json(finished: Path) -> None:
    result = lmcollapse("evaluate", finished / "run" / "generation_001", "--text", finished / "human.txt", "--json")
    assert result.returncode == 0, result.stderr
    values = json.loads(result.stdout)
    assert {"perplexity", "bits_per_byte", "tokens", "nats"} <= set(values)
    assert values["perplexity"] > 1


def test_plot_overlays_runs(finished: Path, tmp_path: Path) -> None:
    result = lmcollapse("plot", finished / "run", finished / "run", "--out", tmp_path / "figures")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "figures" / "measures.png").stat().st_size > 10_000


@pytest.mark.parametrize("given", ["run", "run/generation_009"])
def test_a_run_is_no_model_and_the_message_names_those_it_has(finished: Path, given: str) -> None:
    result = lmcollapse("sample", finished / given)
    assert result.returncode == 2 and "is no generation" in result.stderr and "generation_000, " in result.stderr


def test_sample_shows_what_a_generation_writes(finished: Path) -> None:
    arguments = ("sample", finished / "run" / "generation_000", "-n", 2, "new_tokens=8")
    one, again, other = (lmcollapse(*arguments, "--seed", seed) for seed in (0, 0, 1))
    assert one.returncode == 0, one.stderr
    assert one.stdout == again.stdout != other.stdout
    assert "temperature 0.9" in one.stderr and "until_eos False" in one.stderr  # as in the run


def test_status_tells_how_far_runs_are(finished: Path) -> None:
    result = lmcollapse("status", finished)
    assert result.returncode == 0, result.stderr
    assert "2/2" in result.stdout and "finished" in result.stdout


def test_one_damaged_run_does_not_hide_the_others(finished: Path, tmp_path: Path) -> None:
    from lmcollapse.status import status

    (tmp_path / "good").symlink_to(finished / "run")
    shutil.copytree(finished / "run", tmp_path / "copy")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / ".lmcollapse.lock").touch()
    (tmp_path / "bad" / "manifest.json").write_text("[]")
    states = {found.name: found.state for found in status(tmp_path)}
    assert states["copy"] == "finished" and "damaged" in states["bad"]


def test_list_names_every_component() -> None:
    result = lmcollapse("list")
    for name in ("docs", "replace", "accumulate", "mix", "beam", "top_p", "perplexity", "tail_coverage"):
        assert f"  {name} " in result.stdout
    assert all(len(line.split(None, 1)) == 2 for line in result.stdout.splitlines() if line.startswith("  "))


@pytest.mark.parametrize("command", ["run", "evaluate", "plot", "sample", "status", "list", "fetch"])
def test_every_command_has_help(command: str) -> None:
    result = lmcollapse(command, "--help")
    assert result.returncode == 0, result.stderr
    if command == "run":
        for key in ("train.epochs", "sampling.top_p", "corpus.train_words", "policy.human_keep", "measures.distinct_n"):
            assert key in result.stdout


def test_run_help_shows_the_values_of_the_file(finished: Path) -> None:
    result = lmcollapse("run", finished / "small.yaml", "train.epochs=9", "--help")
    assert "model.width: 32" in result.stdout and "train.epochs: 9" in result.stdout
    assert "curation.candidates: 4" in result.stdout, "what all kinds have in common, of a section that is null"
    assert max(map(len, result.stdout.splitlines())) <= 120


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.epohcs=3"], "did you mean 'epochs'"),
        (["train.epochs=many"], "'train.epochs' is 'many'"),
        (["corpus.path=nowhere.txt"], "nowhere.txt"),
        (["sampling.top_k=5", "sampling.decoder=greedy"], "greedy"),
        (["model=gpt2"], "gpt2"),
        (["policy=mix"], "exactly one"),
        (["corpus={kind: datasets, path: text, data_files: HUMAN, text_column: words}"], "words"),
        (["train.block_size=100000"], "100000"),
    ],
    ids=["key", "type", "file", "decoder", "shape of a pretrained model", "policy", "column", "block size"],
)
def test_bad_input_is_one_line_and_status_2_and_writes_nothing(
    finished: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    overrides = [override.replace("HUMAN", str(finished / "human.txt")) for override in overrides]
    result = lmcollapse("run", finished / "small.yaml", *overrides, "--out", tmp_path / "run")
    assert result.returncode == 2, result.stdout + result.stderr
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert not (tmp_path / "run").exists()


def test_a_hub_that_cannot_be_reached_is_said_with_the_way_around(tmp_path: Path) -> None:
    config = write_config(tmp_path, model={"name": "nobody/no-such-model"}, start="base")
    result = lmcollapse("run", config, "--out", tmp_path / "run")
    assert result.returncode == 2
    assert "nobody/no-such-model" in result.stderr and "local folder" in result.stderr
    assert not (tmp_path / "run").exists()


def test_another_configuration_is_refused(finished: Path) -> None:
    result = lmcollapse("run", finished / "small.yaml", "seed=3", "--out", finished / "run")
    assert result.returncode == 2
    assert "seed: 0 there, 3 here" in result.stderr


def test_a_run_in_use_is_refused(finished: Path, tmp_path: Path) -> None:
    from lmcollapse.store import open_run
    from lmcollapse.types import Silent

    with open_run(tmp_path / "run", Silent()):
        result = lmcollapse("run", finished / "small.yaml", "--out", tmp_path / "run")
    assert result.returncode == 2
    assert f"in use by process {os.getpid()}" in result.stderr


def test_generated_text_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x07\r\nc\td\u202e") == "a\ufffd[2Jb\ufffd\ufffd\nc\td\ufffd"
