"""A corpus, its scores and human data as parquet files: compressed, byte for byte the same when written again.

A corpus file is what `datasets.load_dataset("parquet", data_files=...)` opens: one row a row of the corpus with `text`
and `tokens`, or an `image`, `origin` ("human" or "synthetic"), `generation` (-1 for human), `row` (within the corpus
that it was born in), `prompt` (the row that prompted it, -1 for none) and, for human rows, `source`. Images are PNGs,
in the hub's own type. What all rows of a synthetic corpus have in common, the seed, the model and how it was sampled,
is in the file's own metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lmcollapse.types import HUMAN, Corpus, Documents, Human, Images, Latents, Scores, TokenScores

BY_TOKEN = {"nats": pa.float32(), "confidence": pa.float32(), "correct": pa.bool_()}
"""What there may be of each token, and how it is stored."""
LATENTS = ("mean", "variance")


PARTS = ("train", "heldout", "reserve")
"""The parts of human data, a file each; there may be no reserve."""


BORN = b"lmcollapse"
"""Key of a corpus file's metadata; its value is what `birth` gives, as JSON."""


def _write(columns: dict[str, Any], file: Path, born: Mapping[str, Any] | None = None) -> None:
    table = pa.table(columns)
    metadata: dict[Any, Any] = {}
    if "image" in columns:  # so that `datasets` and the hub see images in it
        kinds = {name: {"dtype": str(table.schema.field(name).type), "_type": "Value"} for name in columns}
        features = kinds | {"image": {"_type": "Image"}}
        metadata["huggingface"] = json.dumps({"info": {"features": features}})
    if born is not None:
        metadata[BORN] = json.dumps(born, sort_keys=True, allow_nan=False)
    pq.write_table(table.replace_schema_metadata(metadata or None), file, compression="zstd")


def birth(generation: int, seed: int | None, model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Where all rows of a synthetic corpus come from.

    generation : that wrote them.
    seed : of the step that wrote them; a row follows from it and its number, where the substrate says so.
    model : content digest of the model's folder.
    options : of the substrate, as configured; its section `sampling` where it has one, else all of them are kept.
    """
    return {"generation": generation, "seed": seed, "model": model, "sampling": options.get("sampling", options)}


def png(pixels: Any) -> bytes:
    """`(height, width, channels)` uint8 as a PNG file."""
    from PIL import Image

    content = BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(content, "png")
    return content.getvalue()


def _pixels(png: bytes) -> Any:
    from PIL import Image

    with Image.open(BytesIO(png)) as image:
        return np.asarray(image).reshape(image.height, image.width, -1)


def _images(pixels: Any) -> pa.StructArray:
    """`(images, height, width, channels)` uint8 as the hub stores images."""
    files = pa.array([png(image) for image in pixels], pa.binary())
    return pa.StructArray.from_arrays([files, pa.nulls(len(pixels), pa.string())], ["bytes", "path"])


def _from_images(column: Any) -> Any:
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
    if "image" in table.column_names:
        values = _from_images(column("image"))
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


def read_first_images(file: Path, most: int) -> Any:
    """`(images, height, width, channels)` uint8: the first images of a corpus or of human images."""
    batch = next(pq.ParquetFile(file).iter_batches(most, columns=["image"]))
    return _from_images(batch.column(0))


def write_human(human: Human[Any], folder: Path) -> None:
    """Write human documents (columns `text` and `source`) or images (`image` and `source`), a file for each part."""
    for part in PARTS:
        if (rows := getattr(human, part)) is not None:
            column = (
                {"image": _images(rows.pixels)}
                if isinstance(rows, Images)
                else {"text": pa.array(rows.texts, pa.string())}
            )
            _write({**column, "source": pa.array(rows.sources, pa.string())}, folder / f"{part}.parquet")


def read_human(folder: Path) -> Human[Any]:
    """What `write_human` wrote, without its facts."""
    files = {part: folder / f"{part}.parquet" for part in PARTS}
    return Human(**{part: read_part(file) for part, file in files.items() if file.is_file()})


def read_part(file: Path) -> Any:
    """One part of it."""
    table = pq.read_table(file).combine_chunks()
    sources = table.column("source").to_pylist()
    if "image" in table.column_names:
        return Images(_from_images(table.column("image")), sources)
    return Documents(table.column("text").to_pylist(), sources)


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
    table = pq.read_table(file).combine_chunks()
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
