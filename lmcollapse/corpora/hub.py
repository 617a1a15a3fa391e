"""The corpus `datasets`: anything that `datasets.load_dataset` opens."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmcollapse.corpora.parts import Share, divide, join_rows, read_text, starts
from lmcollapse.files import below, expanded
from lmcollapse.spool import Texts
from lmcollapse.types import Documents, Human, UserError

FORMATS = ("parquet", "json", "csv", "text", "arrow")
"""Values of `path` that say how to read `data_files`."""

DataFiles = str | list[str] | dict[str, str | list[str]]


def datasets(
    *,
    path: str,
    name: str | None = None,
    revision: str | None = None,
    data_files: DataFiles | None = None,
    text_column: str = "text",
    train_split: str = "train",
    heldout_split: str | None = None,
    heldout_fraction: Share = 0.1,
    document_start: str | None = None,
) -> Human[Documents]:
    """Anything that `datasets.load_dataset` opens: a hub id, a local folder, local files.

    One row is one document, unless `document_start` joins rows.

    path : hub id (Salesforce/wikitext), local folder in the hub's layout, or the format of `data_files`: parquet, json
        (JSON lines too), csv, text.
    name : configuration of the data set (wikitext-2-raw-v1).
    revision : branch, tag or commit on the hub.
    data_files : a file, a pattern or a list of them; or a mapping from split to those.
    text_column : the column that holds the text.
    train_split : the split to train on.
    heldout_split : the split that is held out; null to hold out a share of the training split, chosen by the hash of
        each document's text.
    heldout_fraction : that share, of the words.
    document_start : regular expression; rows are joined until one matches, which begins the next document. WikiText's
        rows are lines, and '^ = [^=]' finds the title lines of its articles.

    Raises UserError where the data set cannot be reached or read, and where it lacks the split or the column.
    """
    path, splits = open_splits(path, name, revision, data_files, train_split, heldout_split)
    try:
        train = _documents(splits, train_split, text_column, document_start, path)
        held = None
        if heldout_split is not None:
            held = _documents(splits, heldout_split, text_column, document_start, path)
    except UnicodeDecodeError as error:  # of JSON and parquet it is only seen now
        _find_not_utf8(data_files)
        raise UserError(f"data set '{path}': text in it is not UTF-8 ({error.reason}); convert it") from None
    train, heldout = divide(train, heldout_fraction) if held is None else (train, held)
    return Human(train, heldout, facts_of(splits[train_split].info, path, name, revision))


def open_splits(
    path: str,
    name: str | None,
    revision: str | None,
    data_files: DataFiles | None,
    train_split: str,
    heldout_split: str | None,
) -> tuple[str, Mapping[str, Any]]:
    """The path as the library wants it, and the splits by name; the options and errors are those of `datasets`."""
    if train_split == heldout_split:
        raise UserError(
            f"train_split and heldout_split are both '{train_split}'; name two splits, or leave heldout_split away to "
            "hold out a share of the documents"
        )
    path = _checked(path, data_files)
    _find_null_rows(path, data_files)
    return path, _opened(path, name, revision, data_files)


def facts_of(info: Any, path: str, name: str | None, revision: str | None) -> dict[str, Any]:
    """What tells which data these were."""
    commits = {m[1] for url in info.download_checksums or () if (m := re.search(r"@([0-9a-f]{40})/", str(url)))}
    return {
        "path": path,
        "name": name,
        "revision": revision,
        "version": str(info.version) if info.version else None,
        "commits": sorted(commits),
    }


def _checked(path: str, data_files: DataFiles | None) -> str:
    """The path as `load_dataset` wants it; UserError for what it would misread or seek on the hub for a long time."""
    if path in FORMATS and data_files is None:
        raise UserError(f"path '{path}' is a format and needs data_files; for example data_files: my_text.{path}")
    local = expanded(path)
    if local.is_file():
        raise UserError(
            f"path '{path}' is a file; give its format ({', '.join(FORMATS)}) as path and the file as data_files, or "
            "use the corpus 'files' for plain text"
        )
    if path and local.exists():
        return str(local)
    if not path or path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise UserError(
            f"path '{path}' does not exist; give a folder, a hub id, or one of {', '.join(FORMATS)} with data_files"
        )
    return path


def _opened(path: str, name: str | None, revision: str | None, data_files: DataFiles | None) -> Mapping[str, Any]:
    """The splits by name."""
    import datasets as library

    try:
        with _quiet():
            splits: Mapping[str, Any] = library.load_dataset(path, name, revision=revision, data_files=data_files)
    except (OSError, ValueError, RuntimeError, library.exceptions.DatasetsError) as error:
        cause = error.__cause__ or error
        if isinstance(cause, UnicodeError):
            _find_not_utf8(data_files)
        what = f"{path} ({name})" if name else path
        reason = " ".join(str(cause).split())
        if isinstance(error, ConnectionError):
            raise UserError(
                f"the hub cannot be reached for data set '{what}' ({reason}); go online once, or give as path a local "
                "folder with a copy of it; HF_HUB_OFFLINE=1 uses what the hub's cache holds without asking"
            ) from None
        raise UserError(f"data set '{what}' cannot be opened: {reason}") from None
    return splits


def _find_not_utf8(data_files: DataFiles | None) -> None:
    """Raise the UserError that names the file and the byte, if it is one of the files given by name."""
    for file in _named(data_files):
        read_text(file)


def _find_null_rows(path: str, data_files: DataFiles | None) -> None:
    """UserError for a local JSON-lines file with a row that is null: the process dies where Arrow begins with one."""
    if path == "json":
        files = list(_named(data_files))
    else:
        files = [file for file in below(Path(path)) if file.suffix in (".json", ".jsonl") and file.is_file()]
    for file in files:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip() == b"null":
                    raise UserError(f"{file}: line {number} is null, which is no row; remove it")


def _named(data_files: DataFiles | None) -> Iterator[Path]:
    """The local files that are given by name or pattern."""
    groups = data_files.values() if isinstance(data_files, dict) else [data_files or []]
    for group in groups:
        for given in [group] if isinstance(group, str) else group:
            found = {given, *glob.glob(given, recursive=True)}  # noqa: PTH207 - patterns may begin at the root
            yield from (Path(name) for name in sorted(found) if Path(name).is_file())


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars for the conversion of files; downloads keep theirs."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()


def rows_of(splits: Mapping[str, Any], split: str, column: str, option: str, path: str) -> Any:
    """The rows of a split that has this column, which the option of that name chose."""
    if split not in splits:
        raise UserError(f"data set '{path}' has no split '{split}'; it has {', '.join(splits)}")
    rows = splits[split]
    if column not in rows.features:
        raise UserError(f"data set '{path}' has no column '{column}'; {option} can be {', '.join(rows.features)}")
    return rows


def _documents(splits: Mapping[str, Any], split: str, column: str, document_start: str | None, path: str) -> Documents:
    from datasets import Value

    rows = rows_of(splits, split, column, "text_column", path)
    feature = rows.features[column]
    if not (isinstance(feature, Value) and feature.dtype in ("string", "large_string")):
        raise UserError(f"column '{column}' of data set '{path}' holds {feature}, not text; name another text_column")
    batches = rows.select_columns(column).iter(batch_size=1000)
    texts = Texts.of(text or "" for batch in batches for text in batch[column])
    sources = Texts.of(f"{path} {split} {row}" for row in range(len(texts)))
    if document_start is None:
        return Documents(texts, sources)
    return Documents.of(join_rows(zip(texts, sources, strict=True), starts(document_start, texts)))
