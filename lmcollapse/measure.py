"""All measures of a corpus that need no model, on any text, against human text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.table import Table

from lmcollapse.catalog import CATALOG, find
from lmcollapse.files import local, parse_json, regular
from lmcollapse.metrics.scene import MOST_WORDS, HumanText, Scene, parts
from lmcollapse.options import options_of, suggestion
from lmcollapse.parquet import column_of
from lmcollapse.progress import literal, number
from lmcollapse.readings import read_off
from lmcollapse.records import sound
from lmcollapse.types import Progress, Reading, Silent, UserError

TEXT_PARTS = {"written", "human", "training"}
"""The parts of a scene that two corpora make up; measures that need others need a model."""

Unit = Literal["auto", "paragraph", "line"]


@dataclass(frozen=True)
class Comparison:
    """A corpus beside human text, measured alike.

    words : size of the samples that were measured, in words.
    corpus : the readings of the corpus.
    human : those of as much human text, other than the one that both are compared with.
    facts : what was read.
    """

    words: int
    corpus: list[Reading]
    human: list[Reading]
    facts: dict[str, Any] = field(default_factory=dict)


def as_json(found: Comparison) -> dict[str, Any]:
    """A comparison as one JSON-able object."""
    return {
        **found.facts,
        "words": found.words,
        "measures": {
            reading.name: {"corpus": _entry(reading), "human": _entry(human)}
            for reading, human in zip(found.corpus, found.human, strict=True)
        },
    }


def _entry(reading: Reading) -> dict[str, Any]:
    return {key: value for key, value in asdict(reading).items() if key != "name" and value not in (None, "")} | {
        "value": reading.value
    }


def comparison_table(found: Comparison) -> Table:
    """A comparison as a table for the terminal, legible from 80 columns on."""
    shown = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    shown.title = f"{found.words:,} words of each; in brackets 95 % intervals"
    shown.add_column("measure", no_wrap=True)
    for heading in ("corpus", "human text"):
        shown.add_column(heading, justify="right", no_wrap=True)
        shown.add_column("")
    for reading, human in zip(found.corpus, found.human, strict=True):
        shown.add_row(reading.name, *_cells(reading), *_cells(human))
    notes = sorted({reading.note for reading in (*found.corpus, *found.human) if reading.note})
    shown.caption = "\n".join(f"n/a: {literal(note)}" for note in notes) or None
    return shown


def _cells(reading: Reading) -> tuple[str, str]:
    interval = "" if reading.low is None else rf"\[{number(reading.low)}, {number(reading.high)}]"
    return number(reading.value), interval


def text_measures() -> list[str]:
    """The measures of the catalogue that need two corpora and no model."""
    needs = {
        name: {part for part, needed in parts(find("measure", name)).items() if needed} for name in CATALOG["measure"]
    }
    return [name for name, needed in needs.items() if needed <= TEXT_PARTS]


def measure(
    corpus: Path,
    reference: Path,
    *,
    words: int | None = None,
    measures: Sequence[str] | None = None,
    column: str = "text",
    document: Unit = "auto",
    progress: Progress | None = None,
) -> Comparison:
    """Measure a corpus beside human text; both are read in a stream and never held whole.

    Human text has two uses: one half of its documents is what the vocabulary, its tail and copies are looked up in, the
    other half is measured like the corpus, to show what human text of that size gives. Which half a document is in
    follows from its place. A run directory as the reference has its training and held-out parts for the two.

    corpus : a text, parquet or JSON-lines file; a generation of a run.
    reference : human text, likewise; a run directory.
    words : words of each that are looked at; null for all that the smallest has, at most ten million.
    measures : names of measures; all by default.
    column : where the text is in parquet and JSON lines.
    document : what one document of a text file is; auto: a paragraph where there is an empty line in its first million
        characters, else a line.

    Raises UserError for what cannot be read and for text without a word.
    """
    progress = progress or Silent()
    if words is not None and words < 1:
        raise UserError(f"words is {words}; give how many are looked at, 1 or more")
    chosen = list(measures) if measures is not None else text_measures()
    for name in chosen:
        if name not in text_measures() and ":" not in name:
            raise UserError(f"unknown measure of a corpus '{name}'" + suggestion(name, text_measures()))
    options = {name: options_of(find("measure", name))().model_dump() for name in chosen}
    for file in (corpus, reference):
        if not file.exists():
            raise UserError(f"{file}: is not there; give a text, parquet or JSON-lines file, or a generation of a run")
    train, heldout = _halves(reference, column, document)
    most = words or MOST_WORDS
    with progress.stage("reading human text"):
        text = HumanText.of(train(), heldout(), most)
    with progress.stage("reading the corpus"):
        written = text.written(read_texts(corpus, column, document), most)
    least = min(len(written.words), len(text.heldout.words), text.train_words)
    if not least:
        empty = corpus if not len(written.words) else reference
        raise UserError(f"{empty}: holds no word (runs of letters or digits); give text, in two documents at least")
    size = words or least
    scenes = (  # one after the other: the tables of a sample are as large as a corpus
        Scene(sample.first(size), text.reference(size), lambda: text.numbering.rows(train()))
        for sample in (written, text.heldout)
    )
    of_corpus, of_human = (read_off(scene, options, progress) for scene in scenes)
    facts = {"corpus": str(corpus), "reference": str(reference), "human_train_words": text.train_words}
    return Comparison(size, of_corpus, of_human, facts)


def _halves(
    reference: Path, column: str, document: Unit
) -> tuple[Callable[[], Iterator[str]], Callable[[], Iterator[str]]]:
    """Human text in two parts, each read anew at each call."""
    parts_of_run = [reference / "human" / f"{part}.parquet" for part in ("train", "heldout")]
    if all(file.is_file() for file in parts_of_run):
        return lambda: _parquet(parts_of_run[0], column), lambda: _parquet(parts_of_run[1], column)

    def half(which: bool) -> Iterator[str]:
        rng = np.random.default_rng(1)
        return (text for text in read_texts(reference, column, document) if (rng.random() < 0.5) == which)

    return lambda: half(True), lambda: half(False)


def read_texts(file: Path, column: str = "text", document: Unit = "auto") -> Iterator[str]:
    """The documents of a text, parquet or JSON-lines file, or of a generation of a run, one after the other."""
    inside = file / "corpus" / "corpus.parquet"
    file = inside if inside.is_file() else file
    if file.is_dir():
        raise UserError(f"{file} is a folder; give a text, parquet or JSON-lines file, or a generation of a run")
    kind = {".parquet": _parquet, ".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json_lines}.get(file.suffix)
    try:
        regular(file)
        yield from kind(file, column) if kind else _documents(file, document)
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read ({error.strerror or error}); give a text, parquet or JSON-lines file"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 (byte {error.start} of a line: {error.reason}); save it as UTF-8") from None


def _parquet(file: Path, column: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(local(sound(file)))
        if column not in table.schema_arrow.names:
            raise UserError(f"{file}: has no column '{column}'" + suggestion(column, table.schema_arrow.names))
        for piece in column_of(table, column):
            for text in piece.to_pylist():
                yield _checked(text, file, column)
    except pa.ArrowInvalid as error:
        raise UserError(f"{file}: no parquet file ({error})") from None


def _json_lines(file: Path, column: str) -> Iterator[str]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    row = parse_json(line)
                except ValueError as error:
                    raise UserError(
                        f"{file}: line {number} is no JSON ({error}); give one JSON object a line"
                    ) from None
                if not isinstance(row, dict) or column not in row:
                    known = sorted(row) if isinstance(row, dict) else []
                    raise UserError(f"{file}: line {number} has no key '{column}'" + suggestion(column, known))
                yield _checked(row[column], file, column)


def _checked(text: object, file: Path, column: str) -> str:
    if not isinstance(text, str):
        raise UserError(
            f"{file}: '{column}' holds a {type(text).__name__}; name the one with text, as in --column text"
        )
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"{file}: a text has a lone surrogate (U+{ord(text[error.start]):04X}), which is no UTF-8; remove it"
            ) from None
    return text


def _documents(file: Path, document: Unit) -> Iterator[str]:
    with file.open(encoding="utf-8-sig") as lines:
        if document == "auto":
            head = lines.readlines(1_000_000)
            document = "paragraph" if any(not line.strip() for line in head) else "line"
            whole: Iterable[str] = chain(head, lines)
        else:
            whole = lines
        if document == "line":
            yield from (line.rstrip("\n") for line in whole if line.strip())
            return
        paragraph: list[str] = []
        for line in whole:
            if line.strip():
                paragraph.append(line)
            elif paragraph:
                yield "".join(paragraph).rstrip("\n")
                paragraph = []
        if paragraph:
            yield "".join(paragraph).rstrip("\n")
