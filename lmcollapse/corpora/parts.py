"""The parts of human data: how they are divided, cleaned, cut to size and fingerprinted, be they text or images.

A word is a whitespace word here, what `str.split` gives: budgets need a rule that every kind of text obeys.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic

import numpy as np
from pydantic import Field

from lmcollapse.files import regular
from lmcollapse.spool import Texts
from lmcollapse.types import Data, Documents, Human, Images, Ints, UserError

Share = Annotated[float, Field(gt=0, lt=1)]

PIECE = 1 << 22
"""Bytes of a file that are read at once."""

PARTS = {"train": "training", "heldout": "held-out", "reserve": "reserve"}
"""The parts of a human corpus, and what a person calls them."""


@dataclass(frozen=True)
class Kind(Generic[Data]):
    """What the division must know of a kind of human data.

    unit : what sizes are counted in.
    sizes : `(rows,)` of each row.
    keys : a SHA-256 for each row, of what rows have in common that a person would call the same.
    cleaned : the rows that hold anything.
    facts : beside its size, what the manifest says of a part.
    least : size that a part needs.
    """

    unit: str
    sizes: Callable[[Data], Ints]
    keys: Callable[[Data], Iterable[bytes]]
    cleaned: Callable[[Data], Data]
    facts: Callable[[Data], dict[str, Any]]
    least: Mapping[str, int]


def normalised(text: str) -> str:
    """What two texts have in common that a reader would call the same: white space and case do not count."""
    return " ".join(text.split()).casefold()


def fingerprint(texts: Iterable[str]) -> str:
    """SHA-256 of the texts in their order; each is preceded by its length, so moving a boundary changes the result."""
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()


def key_of(text: str) -> bytes:
    """SHA-256 of what a reader would call the same text."""
    return _digest(normalised(text))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def pixels_fingerprint(images: Images) -> str:
    """SHA-256 of the size of the images and of their pixels, in their order."""
    digest = hashlib.sha256(repr(images.pixels.shape).encode())
    digest.update(images.pixels.tobytes())
    return digest.hexdigest()


def _without_empty(documents: Documents) -> Documents:
    """The documents that hold anything, stripped; UserError for text that has no UTF-8 form."""
    stripped = Documents(Texts.of(text.strip() for text in documents.texts), documents.sources)
    for text, source in zip(stripped.texts, stripped.sources, strict=True):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"document '{source}': character {error.start} is a lone surrogate (U+{ord(text[error.start]):04X}), "
                "which has no UTF-8 form; remove it"
            ) from None
    return stripped.take(i for i, text in enumerate(stripped.texts) if text)


TEXT = Kind[Documents](
    unit="words",
    sizes=lambda documents: np.fromiter((len(text.split()) for text in documents.texts), np.int64),
    keys=lambda documents: map(key_of, documents.texts),
    cleaned=_without_empty,
    facts=lambda documents: {
        "documents": len(documents),
        "characters": sum(len(text) for text in documents.texts),
        "sha256": fingerprint(documents.texts),
    },
    # below this there is nothing to learn from, or a perplexity is an accident
    least={"train": 1_000, "heldout": 100, "reserve": 1},
)
IMAGES = Kind[Images](
    unit="images",
    sizes=lambda images: np.ones(len(images), np.int64),
    keys=lambda images: (_digest(hashlib.sha256(image.tobytes()).hexdigest()) for image in images.pixels),
    cleaned=lambda images: images,
    facts=lambda images: {"shape": list(images.pixels.shape[1:]), "sha256": pixels_fingerprint(images)},
    least={"train": 100, "heldout": 20, "reserve": 1},
)


def divide(
    rows: Data, fraction: float, keys: Sequence[str] | None = None, kind: Kind[Data] | None = None
) -> tuple[Data, Data]:
    """A training and a held-out part, the latter with about `fraction` of the whole, never more.

    Which part a row belongs to follows from the hash of its key and not from its place: keys are visited in the
    order of their hashes, and each is held out if it still fits. Rows with one key stay together.

    keys : one for each row; by default those of its kind, so that copies stay together.
    kind : TEXT by default.
    """
    like: Kind[Any] = kind or TEXT
    digests = list(like.keys(rows) if keys is None else map(_digest, keys))
    sizes: dict[bytes, int] = {}
    for key, size in zip(digests, like.sizes(rows).tolist(), strict=True):
        sizes[key] = sizes.get(key, 0) + size
    room = fraction * sum(sizes.values())
    held = set()
    for key in sorted(sizes):
        if sizes[key] <= room:
            held.add(key)
            room -= sizes[key]
    return (
        rows.take(i for i, key in enumerate(digests) if key not in held),
        rows.take(i for i, key in enumerate(digests) if key in held),
    )


def starts(document_start: str, rows: Iterable[str]) -> re.Pattern[str]:
    """The regular expression for the first row of a document; UserError for a bad one, or if none of `rows` matches."""
    try:
        pattern = re.compile(document_start)
    except re.error as error:
        raise UserError(f"document_start: '{document_start}' is no regular expression: {error}") from None
    if not any(map(pattern.search, rows)):
        raise UserError(
            f"document_start: '{document_start}' matches nowhere in the text; it must match the first row of each "
            "document, as '^ = [^=]' does in WikiText"
        )
    return pattern


def join_rows(rows: Iterable[tuple[str, str]], start: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Documents, with their sources, out of rows such as the lines of a file: one that `start` matches begins another.

    Rows are joined as they are, each on a line of its own. A document has the source of its first row.
    """
    text: list[str] = []
    origin = ""
    for row, source in rows:
        if not text or start.search(row):
            if text:
                yield "".join(text), origin
            text, origin = [], source
        text.append(row if row.endswith("\n") else row + "\n")
    if text:
        yield "".join(text), origin


def read_text(path: Path) -> str:
    """A UTF-8 file with or without a byte order mark, its line ends made `\n`; UserError where it cannot be read."""
    return "".join(decoded(path))


def decoded(path: Path) -> Iterator[str]:
    """The same in pieces."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    newlines = io.IncrementalNewlineDecoder(decoder, translate=True)
    read, begun = 0, False
    try:
        with regular(path).open("rb") as stream:
            while True:
                waiting, content = len(decoder.getstate()[0]), stream.read(PIECE)
                try:
                    text = newlines.decode(content, final=not content)
                except UnicodeDecodeError as error:
                    place = read - waiting + error.start
                    raise UserError(f"{path}: not UTF-8 (byte {place}: {error.reason}); save it as UTF-8") from None
                read += len(content)
                yield text if begun else text.removeprefix("\ufeff")
                begun = begun or bool(text)
                if not content:
                    return
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a UTF-8 text file or a folder") from None


def split(pieces: Iterable[str], separator: str) -> Iterator[str]:
    """What `re.split` gives of a text that comes in pieces, whose separators stand at the even places.

    separator : matches as much white space as there is, in a group, and nothing but white space.
    """
    kept, room = [""], 0
    for piece in pieces:
        kept.append(piece)
        if sum(map(len, kept)) < room:
            continue
        parts = re.split(separator, "".join(kept))
        # the last separator may go on in the next piece as long as nothing stands behind it
        whole = parts[: -1 if parts[-1].strip() else -3]
        yield from whole
        kept = ["".join(parts[len(whole) :])]
        room = 2 * len(kept[0])  # where there is hardly a separator, not every piece is worth another look
    yield from re.split(separator, "".join(kept))


def finish(
    human: Human[Data],
    kind: Kind[Data],
    *,
    seed: int,
    train: int | None,
    heldout: int | None,
    reserve: int | None = None,
) -> Human[Data]:
    """The human data that a run uses: clean, disjoint, cut to size, sizes and hashes in `facts`.

    What occurs in both parts leaves the training part: the held-out part stays as it was published, so that
    perplexities compare. A budget takes rows in a random order until it is reached, and leaves them in that order;
    without a budget a part is taken as it is. A budget beyond what there is takes everything: `words`, `words_asked`
    and `words_available` (of images `images`, …) of the facts tell.

    train, heldout, reserve : the budgets, in the unit of this kind; None for all there is, of the reserve for none.

    Raises UserError for text that has no UTF-8 form and for a part that is too small.
    """
    given, held = kind.cleaned(human.train), kind.cleaned(human.heldout)
    empty = len(human.train) + len(human.heldout) - len(given) - len(held)
    left, in_both = _without(given, held, kind)
    facts: dict[str, Any] = {**human.facts, "dropped": {"empty": empty, "from_train_as_also_in_heldout": in_both}}
    parts: dict[str, Data] = {}
    if reserve is not None:
        parts["reserve"], facts["reserve"] = _cut(left, kind, reserve, np.random.default_rng([seed, 2]))
        left, _ = _without(left, parts["reserve"], kind)  # copies go together
    parts["train"], facts["train"] = _cut(left, kind, train, np.random.default_rng([seed, 0]))
    parts["heldout"], facts["heldout"] = _cut(held, kind, heldout, np.random.default_rng([seed, 1]))
    assert set(kind.keys(parts["heldout"])).isdisjoint(kind.keys(parts["train"])), "training and held-out parts overlap"
    for part in parts:
        what = "documents" if kind.unit == "words" else kind.unit
        also = f" ({in_both:,} {what} left it because the held-out part has them too)" if in_both else ""
        _check_size(part, len(parts[part]), facts[part], kind, also if part == "train" else "")
    return Human(parts["train"], parts["heldout"], facts, parts.get("reserve"))


def _without(rows: Data, others: Data, kind: Kind[Data]) -> tuple[Data, int]:
    """The rows that are not among others, and how many are."""
    there = set(kind.keys(others))
    kept = rows.take(i for i, key in enumerate(kind.keys(rows)) if key not in there)
    return kept, len(rows) - len(kept)


def _cut(rows: Data, kind: Kind[Data], budget: int | None, rng: np.random.Generator) -> tuple[Data, dict[str, Any]]:
    """Enough rows for a budget, the last of which may go beyond, and the facts about them."""
    sizes = kind.sizes(rows)
    order = np.arange(len(rows))
    if budget is not None:
        order = rng.permutation(order)
        order = order[: np.searchsorted(np.cumsum(sizes[order]), budget) + 1]
    chosen = rows.take(order)
    counted = {
        kind.unit: int(sizes[order].sum()),
        f"{kind.unit}_asked": budget,
        f"{kind.unit}_available": int(sizes.sum()),
    }
    return chosen, counted | kind.facts(chosen)


def _check_size(part: str, rows: int, facts: dict[str, Any], kind: Kind[Any], also: str) -> None:
    unit, least = kind.unit, kind.least[part]
    if facts[unit] >= least:
        return
    hint = "give more text, smaller documents or another division" if unit == "words" else "give more of them"
    if facts[f"{unit}_available"] >= least:
        hint = f"raise {part}_{unit} ({facts[f'{unit}_asked']:,})"
    documents = f" in {rows:,} documents" if unit == "words" else ""
    raise UserError(
        f"the {PARTS[part]} part has {facts[unit]:,} {unit}{documents}{also}; at least {least:,} {unit} are needed: "
        + hint
    )
