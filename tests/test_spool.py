"""Corpora larger than memory: mapped arrays say what arrays in memory say, and hold under a limit."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcollapse import spool
from lmcollapse.corpora import parts
from lmcollapse.corpora.files import SEPARATOR, files
from lmcollapse.corpora.parts import decoded, read_text, split
from lmcollapse.parquet import read_corpus, read_human, write_corpus, write_human
from lmcollapse.spool import Spool, Texts, beside, by_rows, chunks, ends, joined, pieces, stretches, taken, zeros
from lmcollapse.types import Corpus, Documents, Human, UserError

STRINGS = ["", "a", "äöü", "\ud800", "𝄞 and\nmore", "a" * 100]


@pytest.fixture(params=["held", "mapped"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Arrays in memory, and arrays that are all of them too large for it and copied by a few entries."""
    if request.param == "mapped":
        monkeypatch.setattr(spool, "IN_MEMORY", 1)
        monkeypatch.setattr(spool, "AT_ONCE", 7)
    return str(request.param)


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array is a view of a file."""
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return False


def test_arrays(place: str) -> None:
    grown = Spool(np.int32)
    grown.append([])
    grown.append(range(40))
    grown.append(np.arange(2)[::-1])
    found = grown.finish()
    assert found.tolist() == [*range(40), 1, 0] and found.dtype == np.int32
    assert is_mapped(found) == (place == "mapped")
    assert Spool(np.int64).finish().tolist() == []
    assert joined([[1.5], [], [2.5]], np.float64).tolist() == [1.5, 2.5]
    table = np.arange(60).reshape(20, 3)
    assert (by_rows(pieces(table), np.int64, 3) == table).all()
    empty = zeros(50, np.float32)
    empty[3] = 2
    assert empty.sum() == 2 and is_mapped(empty) == (place == "mapped")


def test_rows_are_taken_as_one_would_take_them(place: str) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 20, 50)
    values, offsets = rng.integers(0, 99, lengths.sum()), ends(lengths)
    rows = rng.integers(0, 50, 80)
    found, new = taken(values, offsets, rows)
    assert new.tolist() == [0, *np.cumsum(lengths[rows])]
    assert found.tolist() == [v for row in rows for v in values[offsets[row] : offsets[row + 1]]]
    covered = list(stretches(offsets))
    assert [row for first, beyond in covered for row in range(first, beyond)] == list(range(50))
    assert len(covered) == 1 or place == "mapped"


def test_texts_are_the_strings_that_were_given(place: str) -> None:
    texts = Texts.of(STRINGS)
    assert texts == STRINGS and list(texts) == STRINGS and Texts.of(texts) is texts
    assert [texts[i] for i in range(-6, 6)] == STRINGS * 2
    assert texts[1:4] == STRINGS[1:4] and texts != STRINGS[:-1] and texts != [*STRINGS[:-1], "b"]
    assert texts.take(np.array([5, 0, 2, 2])) == [STRINGS[i] for i in (5, 0, 2, 2)]
    assert Texts.concatenate([texts, Texts.of([]), texts]) == STRINGS * 2
    assert is_mapped(texts.data) == (place == "mapped")
    with pytest.raises(IndexError):
        texts[6]
    assert list(chunks(["ab", "c", "def", "g"], 3)) == [["ab", "c"], ["def"], ["g"]]


def test_corpora_and_human_text_on_disk(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written in one stretch or in many, the same is read."""
    if place == "mapped":
        monkeypatch.setattr("lmcollapse.parquet.ROW_GROUP", 40)
        monkeypatch.setattr("lmcollapse.parquet.BATCH", 2)
    rows = [[1, 2, 3], [], [4], [5, 6]]
    corpus = Corpus.of_tokens(rows, -1, texts=["a", "", "ü", "d e"], sources=["x", "y", "", "z"])
    write_corpus(corpus, tmp_path / "corpus.parquet")
    assert (pq.ParquetFile(tmp_path / "corpus.parquet").num_row_groups > 1) == (place == "mapped")
    found = read_corpus(tmp_path / "corpus.parquet")
    assert [row.tolist() for row in found.rows()] == rows and found.values.dtype == np.int32
    assert found.texts == corpus.texts and found.sources == corpus.sources
    for name in ("generation", "row", "prompt"):
        assert (getattr(found, name) == getattr(corpus, name)).all()
        assert getattr(found, name).dtype == getattr(corpus, name).dtype
    human = Human(Documents(["a b", "c"], ["1", "2"]), Documents(["d"], ["3"]))
    write_human(human, tmp_path)
    read = read_human(tmp_path)
    assert read.train == human.train and read.heldout == human.heldout and read.reserve is None


@given(st.lists(st.sampled_from(["\n", " ", "\t", "a", "b c", "\r", "\x0b", "ü"]), max_size=40), st.integers(1, 9))
def test_a_file_in_pieces_has_the_documents_of_the_whole(signs: list[str], size: int) -> None:
    text = "".join(signs)
    cut = [text[i : i + size] for i in range(0, len(text), size)]
    for separator in SEPARATOR.values():
        assert list(split(cut, separator)) == re.split(separator, text)


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_a_file_is_decoded_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(parts, "PIECE", size)
    file = tmp_path / "text.txt"
    file.write_bytes("\ufeffä\r\nb\r\rc\r".encode())
    assert read_text(file) == "ä\nb\n\nc\n"
    assert len(list(decoded(file))) > (1 if size < 1000 else 0)
    human = files(path=str(file), document="line", heldout_fraction=0.3)
    assert sorted([*human.train.sources, *human.heldout.sources]) == [f"text.txt:{line}" for line in range(1, 6)]
    file.write_bytes(b"ab\xc3")
    with pytest.raises(UserError, match=r"not UTF-8 \(byte 2: unexpected end of data\)"):
        read_text(file)
    file.write_bytes("äb".encode() + b"\xffc")
    with pytest.raises(UserError, match=r"not UTF-8 \(byte 3: invalid start byte\)"):
        read_text(file)


def test_files_lie_beside_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "IN_MEMORY", 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError):
        joined([np.arange(9)], np.int64)
    with beside(tmp_path):
        assert is_mapped(joined([np.arange(9)], np.int64))
    assert list(tmp_path.iterdir()) == []  # they have no name


UNDER_A_LIMIT = """
import resource, sys
from pathlib import Path
import numpy as np
from lmcollapse.parquet import read_corpus, read_part, write_corpus, write_human
from lmcollapse.spool import Texts, beside
from lmcollapse.substrates.causal_lm.blocks import training_blocks
from lmcollapse.substrates.causal_lm.options import TrainOptions
from lmcollapse.types import Corpus, Documents, Human

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
write_human(Human(Documents(["a"], [""]), Documents(["b"], [""])), folder)  # what is imported, is
read_part(folder / "train.parquet")
used = 1024 * int(next(line for line in Path("/proc/self/status").open() if line.startswith("VmData")).split()[1])
resource.setrlimit(resource.RLIMIT_DATA, (used + limit, used + limit))
try:
    np.ones(2 * limit, np.uint8)
except MemoryError:
    print("there is a limit")
rows, length = 64_000, 1_000
rng = np.random.default_rng(0)
with beside(folder):
    words = ("a row of text " + str(i) * 100 for i in range(rows))
    drawn = (rng.integers(0, 30_000, length, dtype=np.int32) for _ in range(rows))
    corpus = Corpus.of_tokens(drawn, 0, texts=Texts.of(words))
    write_corpus(corpus, folder / "corpus.parquet")
    read = read_corpus(folder / "corpus.parquet")
    chosen = rng.permutation(rows)
    mixed = Corpus.concatenate([read.take(chosen), corpus])
    assert (mixed.tokens(5) == corpus.tokens(chosen[5])).all() and mixed.texts[7] == corpus.texts[chosen[7]]
    for unit in ("block", "document"):
        blocks = training_blocks(mixed, TrainOptions(unit=unit, block_size=length), 0, 0, 0)
        assert len(blocks) >= 2 * rows, len(blocks)
print(4 * len(mixed.values) // limit)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says and limits what a process holds")
def test_a_corpus_several_times_the_limit(tmp_path: Path) -> None:
    """Written, read, mixed and cut into blocks by a process that may hold a fraction of it in memory."""
    limit = 240 << 20
    words = [sys.executable, "-c", UNDER_A_LIMIT, str(tmp_path), str(limit)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["there is a limit", "2"]


def test_more_text_than_32_bits_count(tmp_path: Path) -> None:
    """Sparse on disk: only what is read from it and compressed again costs anything."""
    size, rows = 1 << 20, 2100
    data = np.memmap(tmp_path / "nothing", np.uint8, "w+", shape=(size * rows,))
    texts = Texts(data, np.arange(rows + 1, dtype=np.int64) * size)
    documents = Documents(texts, [f"part {row}" for row in range(rows)])
    write_human(Human(documents, documents.take([rows - 1]), {}), tmp_path)
    file = pq.ParquetFile(tmp_path / "train.parquet")
    assert file.schema_arrow.field("text").type == "string" and file.metadata.num_rows == rows
    last = file.read_row_group(file.num_row_groups - 1).to_pylist()[-1]
    assert last == {"text": "\0" * size, "source": f"part {rows - 1}"}
