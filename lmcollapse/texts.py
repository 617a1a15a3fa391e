"""A user's own texts: text, parquet and JSON-lines files, or what a generation wrote, read in a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Literal

from lmcollapse.files import local, parse_json, regular
from lmcollapse.options import suggestion
from lmcollapse.parquet import column_of
from lmcollapse.records import sound
from lmcollapse.types import UserError

Unit = Literal["auto", "paragraph", "line"]
"""What one document of a text file is; auto: a paragraph where there is an empty line in its first million characters,
else a line."""


def file_of(given: Path) -> Path:
    """The file that a path stands for: of a generation of a run its corpus, else itself. UserError for a folder."""
    inside = given / "corpus" / "corpus.parquet"
    file = inside if inside.is_file() else given
    if file.is_dir():
        raise UserError(f"{file} is a folder; give a text, parquet or JSON-lines file, or a generation of a run")
    return file


def read_texts(file: Path, column: str = "text", document: Unit = "auto") -> Iterator[str]:
    """The documents of a text, parquet or JSON-lines file, or of a generation of a run, one after the other."""
    file = file_of(file)
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
