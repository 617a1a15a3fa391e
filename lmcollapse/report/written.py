"""What the generations wrote, side by side: the same document of each, or the first images."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from lmcollapse.files import local
from lmcollapse.parquet import png, read_first_images
from lmcollapse.records import sound
from lmcollapse.report.gather import Gathered, Told
from lmcollapse.report.text import excerpt
from lmcollapse.steps import folder_of
from lmcollapse.types import HUMAN, UserError

DOCUMENTS, CHARACTERS, PROMPT = 5, 400, 300
"""Documents that a reader can choose from, and what is shown of each and of its prompt."""
GENERATIONS = 12
"""Generations that are shown side by side."""
IMAGES, PIXELS, BYTES = 12, 48, 450_000
"""Images of a generation, their largest side, and what all of them may take before they are compressed."""

BY_NUMBER = (
    "Document {n} of each generation. All generations were asked for a document in the same way; what differs is the "
    "model. Documents beside each other were drawn with the same seed."
)
PROMPTED = "The same human prompt, continued by each generation."
CONTINUED = "Document {n} of each generation; each one continues the beginning of a text of the generation before it."
EDITED = "One human text, and what became of it: each generation edits what the generation before left of it."


@dataclass(frozen=True)
class Document:
    """One document in all generations.

    how : in what way they belong together, in words.
    prompt : what each continues, or what the first one edits; "" for nothing.
    rows : the generation, and what it wrote under each condition; None where it has not written so far.
    """

    number: int
    how: str
    prompt: str
    rows: list[tuple[int, list[str | None]]]


@dataclass(frozen=True)
class Written:
    """The documents, each under these conditions."""

    conditions: list[tuple[int, str]]
    documents: list[Document]


@dataclass(frozen=True)
class Strip:
    """The first images of a generation (of human images in HUMAN, -1), as a data URI."""

    generation: int
    uri: str
    width: int
    height: int
    images: int


def some(generations: int, most: int = GENERATIONS) -> list[int]:
    """At most so many generations, evenly, the first and the last among them."""
    return sorted({round(g) for g in np.linspace(0, generations - 1, min(most, generations)).tolist()})


def written(gathered: Gathered) -> Written | None:
    """Documents of the first run of each condition; None where none has texts."""
    found = [(one, run) for one, run in gathered.first_of("text") if has_texts(run)]
    if not found:
        return None
    runs = [run for _, run in found]
    chosen = some(max(run.finished for run in runs))
    how = _relation([run.config for run in runs], runs)
    wanted = _prompts_of(runs[0])[:DOCUMENTS] if how in (PROMPTED, EDITED) else None
    columns = [{g: _texts(run, g, wanted) for g in chosen if g < run.finished} for run in runs]
    human = _human_texts(runs[0], wanted or [], how == PROMPTED)
    documents = [
        Document(
            number,
            how.format(n=number + 1),
            human.get(wanted[number], "") if wanted else "",
            [(g, [_entry(column.get(g), number) for column in columns]) for g in chosen],
        )
        for number in range(min(DOCUMENTS, max(len(texts) for column in columns for texts in column.values())))
    ]
    return Written([(gathered.conditions.index(one), one.label) for one, _ in found], documents)


def has_texts(run: Told) -> bool:
    """Whether its corpora hold texts."""
    return "text" in columns_of(corpus_file(run, 0))


def corpus_file(run: Told, generation: int) -> Path:
    """What a generation wrote."""
    return run.path / folder_of(generation) / "corpus" / "corpus.parquet"


def columns_of(file: Path) -> list[str]:
    """The columns of a parquet file; UserError where it cannot be read."""
    try:
        names: list[str] = pq.read_schema(local(sound(file))).names
    except (OSError, pa.ArrowException) as error:
        raise unreadable(file, error) from None
    return names


def unreadable(file: Path, error: Exception) -> UserError:
    """What to do about a file of a finished step that is not as it was."""
    reason = " ".join(str(error).split())
    return UserError(f"{file}: cannot be read ({reason}); the same `lmcollapse run` makes it again")


def _entry(texts: Sequence[str | None] | None, number: int) -> str | None:
    return None if texts is None or number >= len(texts) else texts[number]


def _relation(configs: Sequence[Mapping[str, Any]], runs: Sequence[Told]) -> str:
    """How documents of one number belong together; one of the sentences above."""
    samplings = [dict(config.get("sampling") or {}) for config in configs]
    same_human = len({run.manifest["human"]["train"]["sha256"] for run in runs}) == 1
    if same_human and all(sampling.get("edit_above") for sampling in samplings):
        return EDITED
    kinds = {(sampling.get("prompt", "none"), sampling.get("prompt_tokens")) for sampling in samplings}
    if same_human and len(kinds) == 1 and kinds <= {("human", tokens) for _, tokens in kinds}:
        return PROMPTED
    return CONTINUED if {kind for kind, _ in kinds} == {"previous"} else BY_NUMBER


def _prompts_of(run: Told) -> list[int]:
    """The human rows that prompted the first documents of generation 0, or that it edited."""
    prompts = pq.read_table(local(corpus_file(run, 0)), columns=["prompt"]).column("prompt").to_pylist()
    return list(dict.fromkeys(prompt for prompt in prompts[: 4 * DOCUMENTS] if prompt >= 0))


def _texts(run: Told, generation: int, prompts: Sequence[int] | None) -> list[str | None]:
    """Excerpts of the first documents of a corpus, or of those that these prompts have."""
    file = corpus_file(run, generation)
    try:
        if prompts is None:
            places: list[int | None] = list(range(DOCUMENTS))
        else:
            of_rows = pq.read_table(local(file), columns=["prompt"]).column("prompt").to_numpy()
            found = [np.flatnonzero(of_rows == prompt)[:1].tolist() for prompt in prompts]
            places = [place[0] if place else None for place in found]
        texts = _at(file, "text", [place for place in places if place is not None])
    except (OSError, pa.ArrowException) as error:
        raise unreadable(file, error) from None
    return [excerpt(texts[place], CHARACTERS) if place in texts else None for place in places]


def _at(file: Path, column: str, places: Sequence[int]) -> dict[int, Any]:
    """Entries of a column by their places; no more of the file is read than that takes."""
    found: dict[int, Any] = {}
    begin = 0
    for batch in pq.ParquetFile(local(sound(file))).iter_batches(1024, columns=[column]):
        if begin > max(places, default=-1):
            break
        found |= {place: batch.column(0)[place - begin].as_py() for place in places if 0 <= place - begin < len(batch)}
        begin += len(batch)
    return found


def _human_texts(run: Told, rows: Sequence[int], prompts: bool) -> dict[int, str]:
    """Human rows by their number, or the leading tokens of each that were the prompt, as far as these can be read."""
    file = run.path / "rows" / "train.parquet"
    if not rows or not file.is_file():
        return {}
    if not prompts:
        return {row: excerpt(text, CHARACTERS) for row, text in _at(file, "text", rows).items()}
    from lmcollapse.substrates.causal_lm.blocks import to_texts
    from lmcollapse.substrates.causal_lm.models import read_tokenizer
    from lmcollapse.substrates.causal_lm.options import ModelOptions

    length = run.config["sampling"]["prompt_tokens"]
    starts = {row: np.asarray(tokens[:length]) for row, tokens in _at(file, "tokens", rows).items()}
    try:
        tokenizer = read_tokenizer(ModelOptions(name=str(run.path / "base")))  # code of others is never run for it
    except UserError:
        return {}
    texts = to_texts(tokenizer, starts.values())
    return {row: excerpt(text, PROMPT) for row, text in zip(starts, texts, strict=True)}


def strips(gathered: Gathered) -> list[tuple[str, list[Strip]]]:
    """Human images and those of some generations, of the first run of each condition of images."""
    runs = gathered.first_of("images")
    chosen = [(one.label, run, some(run.finished)) for one, run in runs]
    count = sum(1 + len(generations) for *_, generations in chosen)
    return [
        (label, [_strip(run, generation, BYTES // count) for generation in (HUMAN, *generations)])
        for label, run, generations in chosen
    ]


def _strip(run: Told, generation: int, most: int) -> Strip:
    """Images beside each other, as many as so many bytes hold."""
    file = run.path / "human" / "heldout.parquet" if generation == HUMAN else corpus_file(run, generation)
    try:
        pixels = read_first_images(sound(file), IMAGES)
    except (OSError, pa.ArrowException, StopIteration) as error:
        raise unreadable(file, error) from None
    step = -(-max(pixels.shape[1:3]) // PIXELS)
    pixels = pixels[:, ::step, ::step]
    pixels = pixels[: max(1, most // pixels[0].size)]
    apart = np.pad(pixels, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=255)
    joined: npt.NDArray[np.uint8] = np.concatenate(list(apart), axis=1)[:, :-1]
    uri = "data:image/png;base64," + base64.b64encode(png(joined)).decode()
    return Strip(generation, uri, joined.shape[1], joined.shape[0], len(pixels))
