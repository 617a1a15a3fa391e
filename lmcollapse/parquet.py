"""A corpus, its scores and human documents as parquet files: compressed, byte for byte the same when written again.

A corpus file is what `datasets.load_dataset("parquet", data_files=...)` opens: one row a row of the corpus with `text`,
`tokens`, `origin` ("human" or "synthetic"), `generation` (-1 for human), `row` (within the corpus that it was born in),
`prompt` (the row that prompted it, -1 for none) and, for human rows, `source`. What all rows of a synthetic corpus have
in common, the seed, the model and how it was sampled, is in the file's own metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lmcollapse.types import HUMAN, Corpus, Documents, Scores, TokenScores

BY_TOKEN = {"nats": pa.float32(), "confidence": pa.float32(), "correct": pa.bool_()}
"""What there may be of each token, and how it is stored."""

BORN = b"lmcollapse"
"""Key of a corpus file's metadata; its value is what `birth` gives, as JSON."""


def _write(columns: dict[str, Any], file: Path, born: Mapping[str, Any] | None = None) -> None:
    metadata = None if born is None else {BORN: json.dumps(born, sort_keys=True, allow_nan=False)}
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), file, compression="zstd")


def birth(generation: int, seed: int | None, model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Where all rows of a synthetic corpus come from.

    generation : that wrote them.
    seed : of the step that wrote them; a row follows from it and its number, where the substrate says so.
    model : content digest of the model's folder.
    options : of the substrate, as configured; its section `sampling` where it has one, else all of them are kept.
    """
    return {"generation": generation, "seed": seed, "model": model, "sampling": options.get("sampling", options)}


def write_corpus(corpus: Corpus, file: Path, born: Mapping[str, Any] | None = None) -> None:
    """Write a corpus of token rows, or of vectors (column `vector` in place of `text` and `tokens`).

    born : what `birth` says of a synthetic corpus; JSON-able, kept in the file's metadata.
    """
    columns: dict[str, Any] = {}
    if corpus.offsets is None:
        width = corpus.values.shape[1]
        flat = pa.array(np.ascontiguousarray(corpus.values).reshape(-1))
        columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, width)
    else:
        if corpus.texts is not None:
            columns["text"] = pa.array(corpus.texts, pa.string())
        columns["tokens"] = pa.LargeListArray.from_arrays(pa.array(corpus.offsets), pa.array(corpus.values))
    columns["origin"] = pa.array(np.where(corpus.generation == HUMAN, "human", "synthetic").tolist(), pa.string())
    columns["generation"] = pa.array(corpus.generation, pa.int32())
    columns["row"] = pa.array(corpus.row, pa.int64())
    columns["prompt"] = pa.array(corpus.prompt, pa.int64())
    if corpus.sources is not None:
        columns["source"] = pa.array(corpus.sources, pa.string())
    _write(columns, file, born)


def read_born(file: Path) -> dict[str, Any] | None:
    """What a corpus file says of where its rows come from; None where it says nothing."""
    metadata = pq.read_schema(file).metadata or {}
    born: dict[str, Any] | None = json.loads(metadata[BORN]) if BORN in metadata else None
    if not isinstance(born, dict | None):
        raise ValueError(f"{file}: its metadata has no JSON object")
    return born


def read_corpus(file: Path) -> Corpus:
    """What `write_corpus` wrote."""
    table = pq.read_table(file).combine_chunks()

    def column(name: str) -> Any:
        chunked = table.column(name)
        return chunked.chunk(0) if chunked.num_chunks else pa.array([], chunked.type)

    def strings(name: str) -> list[str] | None:
        return table.column(name).to_pylist() if name in table.column_names else None

    offsets = None
    if "vector" in table.column_names:
        vectors = column("vector")
        values = np.asarray(vectors.flatten()).reshape(len(vectors), -1)
    else:
        tokens = column("tokens")
        lengths = np.asarray(tokens.value_lengths(), np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        values = np.asarray(tokens.flatten())
    return Corpus(
        values=values,
        offsets=offsets,
        generation=np.asarray(column("generation")),
        row=np.asarray(column("row")),
        prompt=np.asarray(column("prompt")),
        texts=strings("text"),
        sources=strings("source"),
    )


def write_documents(documents: Documents, file: Path) -> None:
    """Write human documents: columns `text` and `source`."""
    _write({"text": pa.array(documents.texts, pa.string()), "source": pa.array(documents.sources, pa.string())}, file)


def read_documents(file: Path) -> Documents:
    """What `write_documents` wrote."""
    table = pq.read_table(file)
    return Documents(table.column("text").to_pylist(), table.column("source").to_pylist())


def write_scores(scores: Scores, file: Path) -> None:
    """Write scores: columns `nats` and `tokens`; where there are predictions of each token, three columns of lists."""
    columns = {"nats": pa.array(scores.nats, pa.float64()), "tokens": pa.array(scores.tokens, pa.int64())}
    if scores.by_token is not None:
        offsets = pa.array(np.concatenate([[0], np.cumsum(scores.tokens)]))
        for name, kind in BY_TOKEN.items():
            values = pa.array(getattr(scores.by_token, name), kind)
            columns[f"token_{name}"] = pa.LargeListArray.from_arrays(offsets, values)
    _write(columns, file)


def read_scores(file: Path) -> Scores:
    """What `write_scores` wrote."""
    table = pq.read_table(file).combine_chunks()
    by_token = None
    if "token_nats" in table.column_names:
        by_token = TokenScores(
            *(np.asarray(table.column(f"token_{name}").combine_chunks().flatten()) for name in BY_TOKEN)
        )
    return Scores(table.column("nats").to_numpy(), table.column("tokens").to_numpy(), by_token)
