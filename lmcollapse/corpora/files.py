"""The corpus `files`: a text file, or a folder of text files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Literal

from lmcollapse.corpora.parts import Share, decoded, divide, join_rows, read_text, split, starts
from lmcollapse.files import expanded
from lmcollapse.types import Documents, Human, UserError

MANY_FILES = 20
"""A folder of at least so many files is taken to hold one document in each."""

Unit = Literal["auto", "file", "paragraph", "line"]
SEPARATOR = {"paragraph": r"(\n\s*\n)", "line": r"(\n)"}


def files(
    *,
    path: str,
    heldout: str | None = None,
    document: Unit = "auto",
    document_start: str | None = None,
    pattern: str = "*.txt",
    heldout_fraction: Share = 0.1,
) -> Human[Documents]:
    """A UTF-8 text file, or a folder of them with all its subfolders.

    path : the file or the folder.
    heldout : another file or folder to hold out; null to hold out a share of `path`, chosen by the hash of each
        document's text.
    document : what one document is: a file, a paragraph (up to an empty line), a line; auto: a file in a folder of at
        least 20 files, else a paragraph.
    document_start : regular expression for the first line of each document, in the place of `document`.
    pattern : which files of a folder to read.
    heldout_fraction : the share of the words to hold out.

    Raises UserError for files that are not there, are not UTF-8 or cannot be read.
    """
    train = _documents(path, document, document_start, pattern)
    if heldout is None:
        train, held = divide(train, heldout_fraction)
    else:
        held = _documents(heldout, document, document_start, pattern)
    return Human(train, held, {"path": path, "heldout": heldout})


def _documents(path: str, document: Unit, document_start: str | None, pattern: str) -> Documents:
    place = expanded(path)
    try:
        found = sorted(file for file in place.rglob(pattern) if file.is_file()) if place.is_dir() else [place]
    except (NotImplementedError, ValueError):
        raise UserError(f"pattern: '{pattern}' cannot be looked for in a folder; give one such as '*.md'") from None
    if not found:
        raise UserError(f"{path}: no file in this folder matches '{pattern}'; give another pattern, such as '*.md'")
    unit: Unit = document
    if document_start is not None:
        unit = "line"
    elif document == "auto":
        unit = "file" if len(found) >= MANY_FILES else "paragraph"
    parts = [(file, file.relative_to(place) if place.is_dir() else Path(file.name)) for file in found]
    if document_start is None:
        return Documents.of(chain.from_iterable(_units(file, name, unit) for file, name in parts))
    start = starts(document_start, (line for file, name in parts for line, _ in _units(file, name, unit)))
    return Documents.of(chain.from_iterable(join_rows(_units(file, name, unit), start) for file, name in parts))


def _units(file: Path, name: Path, unit: Unit) -> Iterator[tuple[str, str]]:
    """The files, paragraphs or lines of one file, each with the file's name and the line that it begins on."""
    if unit == "file":
        yield read_text(file), name.as_posix()
        return
    line = 1
    for i, piece in enumerate(split(decoded(file), SEPARATOR[unit])):
        if i % 2 == 0:  # between two units stands what separates them
            yield piece, f"{name.as_posix()}:{line}"
        line += piece.count("\n")
