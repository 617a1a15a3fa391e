"""Parquet, JSON lines and CSV that are not what is expected of them."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
import random
from pathlib import Path
from typing import Any

import yaml

from fuzzing.cases import Case
from fuzzing.configurations import FEW, NAMES, edited
from fuzzing.texts import filtered, measured

NAMED = [
    "text",
    "text",
    "text",
    "Text",
    "texts",
    "content",
    "",
    "weight",
    "synthetic_probability",
    "tokens",
    "ünï",
    "a.b",
]
NAMED += ["\x1b[31m", "run", "measure", "value", "generation"]


def columns(draw: random.Random, texts: list[str]) -> dict[str, Any]:
    """A table as a mapping from names to Arrow arrays of one length."""
    import pyarrow as pa

    rows = draw.choice([0, 1, 2, len(texts), len(texts)])
    some = (texts * (rows // len(texts) + 1))[:rows]
    date = datetime.date(2020, 1, 1)
    makers = [
        lambda: pa.array(some, pa.string()),
        lambda: pa.array(some, pa.string()),
        lambda: pa.array(some, pa.large_string()),
        lambda: pa.array(some, pa.string()).dictionary_encode(),
        lambda: pa.array([text if draw.random() < 0.9 else None for text in some], pa.string()),
        lambda: pa.array([None] * rows, pa.string()),
        lambda: pa.nulls(rows),
        lambda: pa.array([""] * rows, pa.string()),
        lambda: pa.array(range(rows), pa.int64()),
        lambda: pa.array([draw.choice([0.0, float("nan"), float("inf")]) for _ in range(rows)], pa.float64()),
        lambda: pa.array([True] * rows, pa.bool_()),
        lambda: pa.array([text.encode() for text in some], pa.binary()),
        lambda: pa.array([b"\xff\xfe"] * rows, pa.binary()),
        lambda: pa.array([[text] for text in some], pa.list_(pa.string())),
        lambda: pa.array([{"text": text} for text in some], pa.struct([("text", pa.string())])),
        lambda: pa.array([[("a", text)] for text in some], pa.map_(pa.string(), pa.string())),
        lambda: pa.array([date] * rows, pa.date32()),
        lambda: pa.array([datetime.timedelta(1)] * rows, pa.duration("s")),
        lambda: pa.array([decimal.Decimal("1.5")] * rows, pa.decimal128(10, 2)),
        lambda: pa.array([[1, 2]] * rows, pa.list_(pa.int64())),
        lambda: _not_utf8(rows),
    ]
    names = [draw.choice(NAMED) for _ in range(draw.choice([0, 1, 1, 2, 2, 4]))]
    return {name: (makers[0] if draw.random() < 0.3 else draw.choice(makers))() for name in names}


def _not_utf8(rows: int) -> Any:
    """Strings as a careless writer leaves them."""
    import numpy as np
    import pyarrow as pa

    data = b"ab\xff\xfe" * rows
    offsets = np.arange(rows + 1, dtype=np.int32) * 4
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(data))


ODD_LINES = [
    "{",
    "null",
    "3",
    "[]",
    '["text"]',
    '"text"',
    '{"text": null}',
    '{"text": 3}',
    '{"text": NaN}',
    '{"text": []}',
]
ODD_LINES += [
    '{"text": "\\ud800"}',
    '{"text": "a", "text": "b"}',
    "[" * 20_000,
    '{"text": ' * 20_000,
    "{}",
    '{"TEXT": "a"}',
    "\0",
]
ODD_LINES += [
    '{"text": "a" "b"}',
    '{"text": "a"} {"text": "b"}',
    "NaN",
    "Infinity",
    "9" * 5000,
    '{"text": {"text": "a"}}',
]
ODD_LINES += [
    '{"text": "a", "x": ' + "9" * 5000 + "}",
    '{"text": "a", "x": 1e999}',
    '{"text": "a", "x": "\\ud800"}',
    "\ufeff{}",
]
ODD_LINES += [
    '{"text": "a", "x": {"y": 1}}',
    '{"text": "a", "x": [1, "b"]}',
    '{"text": "a", "x": 1}',
    '{"text": "a", "x": "1"}',
]
ODD_LINES += [
    '{"text": "a", "x": 100000000000000000000000000}',
    '{"text": "a", "": 1}',
    '{"text": "\\u0000"}',
    '{"text": ""}',
]
ODD_LINES += [
    '{"text": "a", "weight": 1}',
    '{"text": "a", "\\ud800": 1}',
    "{'text': 'a'}",
    '{"text": true}',
    '{"text": "' + "a" * 10**6,
]


def lines(draw: random.Random, texts: list[str]) -> bytes:
    """JSON lines."""
    made = [json.dumps({"text": text, "x": number}) for number, text in enumerate(texts)]
    for _ in range(draw.choice([0, 1, 1, 2, 10])):
        made.insert(draw.randrange(len(made) + 1), draw.choice(ODD_LINES))
    if draw.random() < 0.15:
        made = [draw.choice(ODD_LINES) for _ in range(draw.randrange(4))]
    if draw.random() < 0.1:
        return json.dumps([{"text": text} for text in texts], indent=1).encode()
    return "\n".join(made).encode("utf-8", "surrogatepass")


def table_file(folder: Path, draw: random.Random, texts: list[str], suffix: str) -> Path:
    """A file that seems to hold a table."""
    file = folder / "in" / f"bad{suffix}"
    if suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        stream = io.BytesIO()
        pq.write_table(pa.table(columns(draw, texts)), stream, row_group_size=draw.choice([None, 7]))
        data = stream.getvalue()
    elif suffix == ".csv":
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(draw.choice([["text"], ["text", "x"], ["x"], [], ["text", "text"], ['"'], ["\x1b[31m"]]))
        for each in texts:
            writer.writerow(draw.choice([[each], [each, "1"], [], [each, "a", "b"], ["", ""]]))
        data = text.getvalue().encode()
    else:
        data = lines(draw, texts)
    what = draw.random()
    if what < 0.2:
        data = edited(data, draw)
    elif what < 0.25:
        data = data[: draw.randrange(len(data) + 1)]
    elif what < 0.28:
        data = b""
    elif what < 0.3:
        data = draw.randbytes(1000)
    file.write_bytes(data)
    return file


def case(folder: Path, draw: random.Random, human: Path) -> Case:
    """A bad table for `measure`, `filter`, the corpus `datasets`, `plot` or `reproduce --tables`."""
    texts = [text for text in human.read_text(encoding="utf-8").split("\n\n") if text.strip()]
    what = draw.random()
    if what < 0.3:
        bad = table_file(folder, draw, texts, draw.choice([".parquet", ".jsonl", ".json", ".ndjson"]))
        return _column(measured(folder, draw, human, bad), draw)
    if what < 0.6:
        bad = table_file(folder, draw, texts, draw.choice([".parquet", ".jsonl", ".json", ".ndjson"]))
        return _column(filtered(folder, draw, human, bad), draw)
    if what < 0.75:
        return opened(folder, draw, texts)
    if what < 0.92:
        return plotted(folder, draw)
    return reproduced(folder, draw)


def _column(made: Case, draw: random.Random) -> Case:
    if draw.random() < 0.15:
        made.words += ["--column", draw.choice(["text", "x", "", "a.b", "texts", "\x1b[31m"])]
    return made


def opened(folder: Path, draw: random.Random, texts: list[str]) -> Case:
    """The corpus `datasets` from local files; the run goes no further than its human text."""
    suffix = draw.choice([".parquet", ".jsonl", ".csv"])
    file = table_file(folder, draw, texts, suffix)
    kind = {".jsonl": "json"}.get(suffix, suffix[1:]) if draw.random() < 0.9 else draw.choice(["text", "arrow", "x"])
    corpus: dict[str, Any] = {"kind": "datasets", "path": kind, "data_files": str(file), "heldout_fraction": 0.3}
    if draw.random() < 0.2:
        corpus["text_column"] = draw.choice(["x", "", "Text", "a.b"])
    if draw.random() < 0.1:
        corpus["train_split"] = draw.choice(["test", "", "train[:10]", "\x1b[31m"])
    given = {"substrate": "ngram", "order": 2, "vocabulary": 300, "generations": 1, "measures": FEW, "corpus": corpus}
    config = folder / "in" / "c.yaml"
    config.write_text(yaml.safe_dump(given), encoding="utf-8")
    out = folder / "out" / "run"
    return Case(folder, ["run", str(config), "--out", str(out), "--no-figures"], [["verify", str(out)]], seconds=60)


TIDY = ["run", "condition", "seed", "generation", "measure", "value", "low", "high", "kind", "over"]


def plotted(folder: Path, draw: random.Random) -> Case:
    """A table of results that is none."""
    file = folder / "in" / draw.choice(["results.csv", "results.parquet"])
    odd = ["", "nan", "inf", "-1", "x", "1e999", "\x1b[31m", "\0", "perplexity", "a" * 300, "0", "1", "9" * 40]
    names = list(TIDY) if draw.random() < 0.7 else draw.sample(TIDY, draw.randrange(len(TIDY)))
    rows = [
        {
            "run": "a",
            "condition": "replace",
            "seed": 0,
            "generation": g,
            "measure": "perplexity",
            "value": g,
            "kind": "text",
        }
        for g in range(-1, draw.choice([-1, 0, 3]))
    ]
    for row in rows:
        for _ in range(draw.choice([0, 1, 3])):
            row[draw.choice(TIDY)] = draw.choice(odd)
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    data = text.getvalue().encode()
    if file.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        stream = io.BytesIO()
        kept = {name: [row.get(name) for row in rows] for name in names}
        if draw.random() < 0.6:
            kept = {name: [None if value is None else str(value) for value in column] for name, column in kept.items()}
        try:
            pq.write_table(pa.table(kept), stream)
        except pa.ArrowException:
            pq.write_table(pa.table({name: list(map(str, column)) for name, column in kept.items()}), stream)
        data = stream.getvalue()
    file.write_bytes(edited(data, draw) if draw.random() < 0.3 else data)
    return Case(folder, ["plot", str(file), "--out", str(folder / "out" / "figures")], seconds=60)


def reproduced(folder: Path, draw: random.Random) -> Case:
    """Tables of a reproduction that are none."""
    tables = folder / "in" / "tables"
    tables.mkdir()
    name = draw.choice(NAMES)
    about = {"name": name, "scale": "small", "command": "x", "seeds": [0, 1, 2], "seconds": 1.0, "versions": {}}
    for _ in range(draw.choice([0, 1, 2])):
        about[draw.choice(list(about))] = draw.choice([None, 3, "x", [], {}, "\x1b[31m", [[]]])
    text = json.dumps(about).encode()
    (tables / "reproduction.json").write_bytes(edited(text, draw) if draw.random() < 0.5 else text)
    results = b"condition,seed,generation,measure,value\nreplace,0,0,perplexity,1\n"
    (tables / "results.csv").write_bytes(edited(results, draw))
    words = ["reproduce", name, "--tables", str(tables), "--out", str(folder / "out" / "again"), "--json"]
    return Case(folder, words, seconds=60)
