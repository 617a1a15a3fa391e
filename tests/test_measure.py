"""Any text beside human text, without a model: files of every kind, halves, sizes, refusals, the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from lmcollapse.measure import as_json, comparison_table, measure, text_measures
from lmcollapse.parquet import write_human
from lmcollapse.texts import read_texts
from lmcollapse.types import Documents, Human, UserError
from tests.small import lmcollapse
from tests.text import documents

FEW = ("distinct_n", "tail_coverage", "verbatim")


@pytest.fixture
def human(tmp_path: Path) -> Path:
    file = tmp_path / "human.txt"
    file.write_text("\n\n".join(documents(600)) + "\n", encoding="utf-8")
    return file


def written(path: Path, texts: list[str]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": texts, "n": list(range(len(texts)))}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"n": 1, "text": text}) + "\n" for text in texts) + "\n", encoding="utf-8")
    else:
        path.write_text("\n\n".join(texts), encoding="utf-8")
    return path


TEXTS = ["One text.\nIts second line.", "naïve 東京", "three"]


@pytest.mark.parametrize("name", ["a.txt", "a.parquet", "a.jsonl", "unknown"])
def test_texts_are_read_from_every_kind_of_file(name: str, tmp_path: Path) -> None:
    assert list(read_texts(written(tmp_path / name, TEXTS))) == TEXTS


def test_a_file_without_empty_lines_has_a_document_a_line(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_bytes(b"\xef\xbb\xbfone\ntwo two\nthree")
    assert list(read_texts(file)) == ["one", "two two", "three"]
    assert list(read_texts(file, document="paragraph")) == ["one\ntwo two\nthree"]
    file.write_text("a\n \n\n\nb\nc\n\n")
    assert list(read_texts(file)) == ["a", "b\nc"]
    assert list(read_texts(file, document="line")) == ["a", "b", "c"]


def test_every_measure_that_needs_no_model_is_taken_on_both_sides(human: Path, tmp_path: Path) -> None:
    corpus = written(tmp_path / "w.jsonl", documents(300, seed=3))
    found = measure(corpus, human)
    names = [reading.name for reading in found.corpus]
    assert names == [reading.name for reading in found.human] and len(set(names)) == len(names)
    assert {"self_bleu", "mauve", "unigram_js", "verbatim_share", "entropy_2", "tail_coverage"} <= set(names)
    assert not any(name.endswith(("_drift", "_excess")) or name == "perplexity" for name in names)
    assert all(reading.value is not None for reading in (*found.corpus, *found.human))
    assert found.words <= 300 * 60


def test_both_sides_are_measured_alike(human: Path, tmp_path: Path) -> None:
    """A corpus that is the held-out half of the human text has that half's readings."""
    texts = list(read_texts(human))
    train, heldout = (Documents(some, [""] * len(some)) for some in (texts[:300], texts[300:]))
    write_human(Human(train, heldout), folder(tmp_path))
    corpus = written(tmp_path / "same.parquet", texts[300:])
    found = measure(corpus, tmp_path / "run", measures=FEW)
    assert found.corpus == found.human
    assert found.facts["human_train_words"] == sum(len(text.split()) for text in texts[:300])


def folder(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "human"
    path.mkdir(parents=True, exist_ok=True)
    return path


def test_a_copy_of_the_human_text_is_a_copy(human: Path) -> None:
    found = {reading.name: reading.value for reading in measure(human, human, measures=("verbatim",)).corpus}
    assert found["verbatim_share"] == pytest.approx(0.5, abs=0.1)  # the half that it is looked up in


def test_the_number_of_words_can_be_fixed(human: Path, tmp_path: Path) -> None:
    small, large = (written(tmp_path / f"{n}.txt", documents(n, seed=5)) for n in (100, 300))
    one, other = (measure(corpus, human, words=3000, measures=("distinct_n",)) for corpus in (small, large))
    assert one.words == other.words == 3000 and one.human == other.human
    short = measure(written(tmp_path / "short.txt", ["a b", "c"]), human, words=3000, measures=("distinct_n",))
    assert {reading.note for reading in short.corpus} == {"the corpus has 3 words, 3,000 are needed"}


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b'{"text": "a"}\n{"txt": "b"}\n', "a.jsonl", "line 2 has no key 'text'; did you mean 'txt'"),
        (b'{"text": "a"}\n[1, 2\n', "a.jsonl", "line 2 is no JSON"),
        (b'{"text": 3}\n', "a.jsonl", "'text' holds a int"),
        (b'{"text": "\\ud800"}\n', "a.jsonl", "lone surrogate"),
        (b"not parquet", "a.parquet", "no parquet file"),
        ("Ärger".encode("latin-1"), "a.txt", "not UTF-8"),
        (b"", "a.txt", "holds no word"),
        (b"\n \n ... \n", "a.txt", "holds no word"),
        (None, "a.txt", "is not there"),
    ],
)
def test_what_cannot_be_measured_is_one_clear_line(
    content: bytes | None, name: str, message: str, human: Path, tmp_path: Path
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        measure(file, human, measures=FEW)
    assert "\n" not in str(error.value)


def test_a_missing_column_and_a_mistyped_measure_are_explained(human: Path, tmp_path: Path) -> None:
    corpus = written(tmp_path / "w.parquet", TEXTS)
    with pytest.raises(UserError, match="has no column 'txet'; did you mean 'text'"):
        measure(corpus, human, column="txet", measures=FEW)
    with pytest.raises(UserError, match="unknown measure of a corpus 'distinct'; did you mean 'distinct_n'"):
        measure(corpus, human, measures=("distinct",))
    with pytest.raises(UserError, match="is a folder"):
        measure(tmp_path, human)
    assert "perplexity" not in text_measures()


def test_the_table_and_the_json_say_the_same(human: Path, tmp_path: Path) -> None:
    found = measure(written(tmp_path / "w.txt", documents(30, seed=3)), human, measures=(*FEW, "self_bleu"))
    console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
    console.print(comparison_table(found))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("distinct_2 ") and "[" in line for line in lines)
    assert any("documents have words, 200 are needed" in line for line in lines)
    entries: dict[str, Any] = as_json(found)["measures"]
    assert set(entries["distinct_2"]["corpus"]) == {"value", "low", "high"}
    assert entries["self_bleu"]["corpus"]["value"] is None and "note" in entries["self_bleu"]["corpus"]
    json.dumps(as_json(found), allow_nan=False)


def test_the_command_line_measures_a_generation_and_judges_a_run(finished: Path) -> None:
    run = finished / "run"
    result = lmcollapse("measure", run / "generation_001", "--reference", run, "--measures", "distinct_n", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["measures"]["distinct_1"]["corpus"]["value"] > 0
    result = lmcollapse("verdicts", run, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert len(found["verdicts"]) == 8 and {"perplexity", "tail_coverage"} <= {
        row["measure"] for row in found["summaries"]
    }
    result = lmcollapse("verdicts", run)
    assert (
        result.returncode == 0
        and "disappearance of" in result.stdout
        and max(map(len, result.stdout.splitlines())) <= 80
    )
