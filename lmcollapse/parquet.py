"""A corpus, its scores and human data as parquet files: compressed, byte for byte the same when written again.

A corpus file is what `datasets.load_dataset("parquet", data_files=...)` opens: one row a row of the corpus with `text`
and `tokens`, or an `image`, `origin` ("human" or "synthetic"), `generation` (-1 for human), `row` (within the corpus
that it was born in), `prompt` (the row that prompted it, -1 for none) and, for human rows, `source`. Images are PNGs,
in the hub's own type. What all rows of a synthetic corpus have in common, the seed, the model and how it was sampled,
is in the file's own metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lmcollapse.files import local
from lmcollapse.spool import Spool, Texts, ends, joined
from lmcollapse.types import HUMAN, Corpus, Documents, Human, Images, Ints, Latents, Pixels, Scores, TokenScores

BY_TOKEN = {"nats": pa.float32(), "confidence": pa.float32(), "correct": pa.bool_()}
"""What there may be of each token, and how it is stored."""
LATENTS = ("mean", "variance")


PARTS = ("train", "heldout", "reserve")
"""The parts of human data, a file each; there may be no reserve."""


BORN = b"lmcollapse"
"""Key of a corpus file's metadata; its value is what `birth` gives, as JSON."""


ROW_GROUP = 1 << 25
"""Bytes, before they are compressed, that are written at once."""
ROW_GROUP_ROWS = 1 << 20
BATCH = 1 << 12
"""Rows that are read at once."""
BUFFER = 1 << 20
"""Bytes of a file that are read ahead."""


def _write(columns: dict[str, Any], file: Path, born: Mapping[str, Any] | None = None) -> None:
    """Columns of one length; texts are `Texts`, what else is large a view of what is mapped."""
    texts = {name: column for name, column in columns.items() if isinstance(column, Texts)}
    table = pa.table({name: _strings(column) if name in texts else column for name, column in columns.items()})
    rows = min(ROW_GROUP_ROWS, max(1, len(table) * ROW_GROUP // max(1, table.nbytes)))
    groups = [(first, min(first + rows, len(table))) for first in range(0, max(1, len(table)), rows)]
    kinds = [
        (name, _kind(texts[name], groups) if name in texts else _stored(table.schema.field(name).type))
        for name in columns
    ]
    metadata: dict[Any, Any] = {}
    if "image" in columns:  # so that `datasets` and the hub see images in it
        features: dict[str, Any] = {name: {"dtype": str(kind), "_type": "Value"} for name, kind in kinds}
        features |= {"image": {"_type": "Image"}}
        metadata["huggingface"] = json.dumps({"info": {"features": features}})
    if born is not None:
        metadata[BORN] = json.dumps(born, sort_keys=True, allow_nan=False)
    schema = pa.schema(kinds, metadata or None)
    with pq.ParquetWriter(local(file), schema, compression="zstd") as writer:
        for first, beyond in groups:
            group = {name: table[name].slice(first, beyond - first) for name in columns}
            # offsets of a slice count from the beginning of the whole, which 32 bits may not do
            group |= {name: _strings(column.between(first, beyond)) for name, column in texts.items()}
            writer.write_table(pa.table(group).cast(schema), row_group_size=rows)


def _kind(texts: Texts, groups: Sequence[tuple[int, int]]) -> pa.DataType:
    """The type of a column of texts: the usual one, of which a row group holds two gigabytes, where that will do."""
    most = max(texts.offsets[beyond] - texts.offsets[first] for first, beyond in groups)
    return pa.string() if most < 2**31 else pa.large_string()


def _stored(kind: pa.DataType) -> pa.DataType:
    """A column of few different strings is written as one of strings."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _strings(texts: Texts) -> pa.LargeStringArray:
    """The same strings, not copied."""
    return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(texts.offsets), pa.py_buffer(texts.data))


def birth(generation: int, seed: int | None, model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Where all rows of a synthetic corpus come from.

    generation : that wrote them.
    seed : of the step that wrote them; a row follows from it and its number, where the substrate says so.
    model : content digest of the model's folder.
    options : of the substrate, as configured; its section `sampling` where it has one, else all of them are kept.
    """
    return {"generation": generation, "seed": seed, "model": model, "sampling": options.get("sampling", options)}


def png(pixels: Pixels) -> bytes:
    """`(height, width, channels)` as a PNG file."""
    from PIL import Image

    content = BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(content, "png")
    return content.getvalue()


def _pixels(png: bytes) -> Pixels:
    from PIL import Image

    with Image.open(BytesIO(png)) as image:
        return np.asarray(image).reshape(image.height, image.width, -1)


def _images(pixels: Pixels) -> pa.StructArray:
    """Images as the hub stores them."""
    files = pa.array([png(image) for image in pixels], pa.binary())
    return pa.StructArray.from_arrays([files, pa.nulls(len(pixels), pa.string())], ["bytes", "path"])


def _from_images(column: Any) -> Pixels:
    return np.stack([_pixels(image["bytes"]) for image in column.to_pylist()])


def write_corpus(corpus: Corpus, file: Path, born: Mapping[str, Any] | None = None) -> None:
    """Write a corpus of token rows, or of images.

    born : what `birth` says of a synthetic corpus; JSON-able, kept in the file's metadata.
    """
    columns: dict[str, Any] = {}
    if corpus.offsets is None:
        columns["image"] = _images(corpus.values)
    else:
        if corpus.texts is not None:
            columns["text"] = Texts.of(corpus.texts)
        columns["tokens"] = pa.LargeListArray.from_arrays(pa.array(corpus.offsets), pa.array(corpus.values))
    columns["origin"] = pa.DictionaryArray.from_arrays(
        (corpus.generation == HUMAN).astype(np.int8), pa.array(["synthetic", "human"])
    )
    columns["generation"] = pa.array(corpus.generation, pa.int32())
    columns["row"] = pa.array(corpus.row, pa.int64())
    columns["prompt"] = pa.array(corpus.prompt, pa.int64())
    if corpus.sources is not None:
        columns["source"] = Texts.of(corpus.sources)
    _write(columns, file, born)


def read_born(file: Path) -> dict[str, Any] | None:
    """What a corpus file says of where its rows come from; None where it says nothing."""
    metadata = pq.read_schema(local(file)).metadata or {}
    born: dict[str, Any] | None = json.loads(metadata[BORN]) if BORN in metadata else None
    if not isinstance(born, dict | None):
        raise ValueError(f"{file}: its metadata has no JSON object")
    return born


def read_corpus(file: Path) -> Corpus:
    """What `write_corpus` wrote. Raises ValueError where a row lacks something."""
    with pq.ParquetFile(local(file), buffer_size=BUFFER) as table:
        names = table.schema_arrow.names
        if "image" in names:
            values: Pixels | Ints = _from_images(table.read(["image"]).column("image"))
            offsets = None
        else:
            values, offsets = _lists(table, "tokens")
        return Corpus(
            values=values,
            offsets=offsets,
            **{name: _numbers(table, name) for name in ("generation", "row", "prompt")},
            texts=_texts(table, "text") if "text" in names else None,
            sources=_texts(table, "source") if "source" in names else None,
        )


def column_of(table: pq.ParquetFile, name: str) -> Iterator[Any]:
    """A column in pieces, of which one at a time is in memory."""
    for group in range(table.num_row_groups):  # a reader of several holds on to those that it has read
        for batch in table.iter_batches(BATCH, row_groups=[group], columns=[name]):
            yield batch.column(0)


def _columns(table: pq.ParquetFile, name: str) -> Iterator[Any]:
    for piece in column_of(table, name):
        if piece.null_count:
            raise ValueError(f"there is no {name} in every row")
        yield piece


def _numbers(table: pq.ParquetFile, name: str) -> Ints:
    kind = table.schema_arrow.field(name).type.to_pandas_dtype()
    return joined((np.asarray(piece) for piece in _columns(table, name)), kind)


def _lists(table: pq.ParquetFile, name: str) -> tuple[Ints, Ints]:
    """Values and offsets of a column of lists."""
    values, lengths = Spool(table.schema_arrow.field(name).type.value_type.to_pandas_dtype()), Spool(np.int64)
    for piece in _columns(table, name):
        values.append(np.asarray(piece.flatten()))
        lengths.append(np.asarray(piece.value_lengths()))
    return values.finish(), ends(lengths.finish())


def _texts(table: pq.ParquetFile, name: str) -> Texts:
    data, lengths = Spool(np.uint8), Spool(np.int64)
    for piece in _columns(table, name):
        strings = piece.cast(pa.large_string())
        _, edges, content = strings.buffers()
        offsets = np.frombuffer(edges, np.int64, len(strings) + 1, 8 * strings.offset)
        if content is not None:
            data.append(np.frombuffer(content, np.uint8)[offsets[0] : offsets[-1]])
        lengths.append(np.diff(offsets))
    return Texts(data.finish(), ends(lengths.finish()))


def read_first_images(file: Path, most: int) -> Pixels:
    """The first images of a corpus or of human images."""
    batch = next(pq.ParquetFile(local(file)).iter_batches(most, columns=["image"]))
    return _from_images(batch.column(0))


def write_human(human: Human[Any], folder: Path) -> None:
    """Write human documents (columns `text` and `source`) or images (`image` and `source`), a file for each part."""
    for part in PARTS:
        if (rows := getattr(human, part)) is not None:
            column = {"image": _images(rows.pixels)} if isinstance(rows, Images) else {"text": Texts.of(rows.texts)}
            _write({**column, "source": Texts.of(rows.sources)}, folder / f"{part}.parquet")


def read_human(folder: Path) -> Human[Any]:
    """What `write_human` wrote, without its facts."""
    files = {part: folder / f"{part}.parquet" for part in PARTS}
    return Human(**{part: read_part(file) for part, file in files.items() if file.is_file()})


def read_part(file: Path) -> Any:
    """One part of it."""
    with pq.ParquetFile(local(file), buffer_size=BUFFER) as table:
        sources = _texts(table, "source")
        if "image" in table.schema_arrow.names:
            return Images(_from_images(table.read(["image"]).column("image")), list(sources))
        return Documents(_texts(table, "text"), sources)


def write_scores(scores: Scores, file: Path) -> None:
    """Write scores: columns `nats` and `tokens`; where there are predictions of each token, three columns of lists;
    where there are latent variables, `latent_mean` and `latent_variance`."""
    columns = {"nats": pa.array(scores.nats, pa.float64()), "tokens": pa.array(scores.tokens, pa.int64())}
    if scores.by_token is not None:
        offsets = pa.array(np.concatenate([[0], np.cumsum(scores.tokens)]))
        for name, kind in BY_TOKEN.items():
            values = pa.array(getattr(scores.by_token, name), kind)
            columns[f"token_{name}"] = pa.LargeListArray.from_arrays(offsets, values)
    if scores.latents is not None:
        for name in LATENTS:
            values = getattr(scores.latents, name)
            flat = pa.array(np.ascontiguousarray(values).reshape(-1), pa.float32())
            columns[f"latent_{name}"] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    _write(columns, file)


def read_scores(file: Path) -> Scores:
    """What `write_scores` wrote."""
    table = pq.read_table(local(file)).combine_chunks()
    by_token = None
    if "token_nats" in table.column_names:
        by_token = TokenScores(
            *(np.asarray(table.column(f"token_{name}").combine_chunks().flatten()) for name in BY_TOKEN)
        )
    latents = None
    if "latent_mean" in table.column_names:
        columns = [table.column(f"latent_{name}").combine_chunks() for name in LATENTS]
        latents = Latents(*(np.asarray(column.flatten()).reshape(len(column), -1) for column in columns))
    return Scores(table.column("nats").to_numpy(), table.column("tokens").to_numpy(), by_token, latents)
