"""The two parts of a human corpus: how documents are made from rows, divided, cleaned, cut to size and fingerprinted.

A word is a whitespace word here, what `str.split` gives: budgets need a rule that every kind of text obeys.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from lmcollapse.types import Documents, Human, UserError

MIN_TRAIN_WORDS = 1_000
"""Below this there is nothing to learn from."""
MIN_HELDOUT_WORDS = 100
"""Below this a perplexity is an accident."""

Share = Annotated[float, Field(gt=0, lt=1)]


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


def divide(documents: Documents, fraction: float, keys: Sequence[str] | None = None) -> tuple[Documents, Documents]:
    """A training and a held-out part, the latter with about `fraction` of the words, never more.

    Which part a document belongs to follows from the hash of its key and not from its place: keys are visited in the
    order of their hashes, and each is held out if it still fits. Documents with one key stay together.

    keys : one for each document; by default its normalised text, so that copies of a text stay together.
    """
    if keys is None:
        keys = [normalised(text) for text in documents.texts]
    words: dict[str, int] = {}
    for key, text in zip(keys, documents.texts, strict=True):
        words[key] = words.get(key, 0) + _count(text)
    room = fraction * sum(words.values())
    held = set()
    for key in sorted(words, key=lambda key: hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()):
        if words[key] <= room:
            held.add(key)
            room -= words[key]
    train = [i for i, key in enumerate(keys) if key not in held]
    return _take(documents, train), _take(documents, [i for i, key in enumerate(keys) if key in held])


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


def join_rows(rows: Iterable[str], sources: Iterable[str], start: re.Pattern[str]) -> Documents:
    """Documents out of rows, such as the lines of a file: a row that `start` matches begins the next one.

    Rows are joined as they are, each on a line of its own. A document has the source of its first row.
    """
    texts: list[list[str]] = []
    origins: list[str] = []
    for row, source in zip(rows, sources, strict=True):
        if not texts or start.search(row):
            texts.append([])
            origins.append(source)
        texts[-1].append(row if row.endswith("\n") else row + "\n")
    return Documents(["".join(text) for text in texts], origins)


def read_text(path: Path) -> str:
    """A UTF-8 file with or without a byte order mark, its line ends made `\\n`; UserError where it cannot be read."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a UTF-8 text file or a folder") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start}: {error.reason}); save it as UTF-8") from None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def finish(
    human: Human,
    *,
    train_words: int | None,
    heldout_words: int | None,
    seed: int,
    reserve_words: int | None = None,
) -> Human:
    """The human text that a run uses: stripped, nothing empty, disjoint, cut to size, its sizes and hashes in `facts`.

    A document that occurs in both parts (white space and case aside) leaves the training part: the held-out part stays
    as it was published, so that perplexities compare. A budget of words takes documents in a random order until it is
    reached, and leaves them in that order; without a budget a part is taken as it is. A budget beyond what there is
    takes everything: `words`, `words_asked` and `words_available` of the facts tell.

    Raises UserError for text that has no UTF-8 form and for a part that is too small.
    """
    train, train_empty = _cleaned(human.train)
    heldout, heldout_empty = _cleaned(human.heldout)
    held = {normalised(text) for text in heldout.texts}
    kept = [i for i, text in enumerate(train.texts) if normalised(text) not in held]
    in_both = len(train) - len(kept)
    facts: dict[str, Any] = {
        **human.facts,
        "dropped": {"empty": train_empty + heldout_empty, "from_train_as_also_in_heldout": in_both},
    }
    train, reserve = _take(train, kept), Documents([], [])
    if reserve_words is not None:
        reserve, facts["reserve"] = _cut(train, reserve_words, np.random.default_rng([seed, 2]))
        _check_size("reserve", facts["reserve"], 1, "reserve_words", also="")
        taken = set(map(normalised, reserve.texts))  # copies of a text go together
        train = _take(train, [i for i, text in enumerate(train.texts) if normalised(text) not in taken])
    train, facts["train"] = _cut(train, train_words, np.random.default_rng([seed, 0]))
    heldout, facts["heldout"] = _cut(heldout, heldout_words, np.random.default_rng([seed, 1]))
    assert set(train.texts).isdisjoint(heldout.texts), "training and held-out parts share a document"
    also = f" ({in_both:,} documents left it because the held-out part has them too)" if in_both else ""
    _check_size("training", facts["train"], MIN_TRAIN_WORDS, "train_words", also)
    _check_size("held-out", facts["heldout"], MIN_HELDOUT_WORDS, "heldout_words", "")
    return Human(train, heldout, facts, reserve)


def _count(text: str) -> int:
    return len(text.split())


def _take(documents: Documents, rows: Iterable[int]) -> Documents:
    rows = list(rows)
    return Documents([documents.texts[i] for i in rows], [documents.sources[i] for i in rows])


def _cleaned(documents: Documents) -> tuple[Documents, int]:
    """The documents that hold anything, stripped, and how many do not."""
    stripped = Documents([text.strip() for text in documents.texts], documents.sources)
    for text, source in zip(stripped.texts, stripped.sources, strict=True):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"document '{source}': character {error.start} is a lone surrogate (U+{ord(text[error.start]):04X}), "
                "which has no UTF-8 form; remove it"
            ) from None
    kept = [i for i, text in enumerate(stripped.texts) if text]
    return _take(stripped, kept), len(stripped) - len(kept)


def _cut(documents: Documents, words: int | None, rng: np.random.Generator) -> tuple[Documents, dict[str, Any]]:
    """Enough documents for that many words, the last of which may go beyond, and the facts about them."""
    counts = np.array([_count(text) for text in documents.texts], np.int64)
    order = np.arange(len(documents))
    if words is not None:
        order = rng.permutation(order)
        order = order[: np.searchsorted(np.cumsum(counts[order]), words) + 1]
    chosen = _take(documents, order.tolist())
    return chosen, {
        "documents": len(chosen),
        "words": int(counts[order].sum()),
        "words_asked": words,
        "words_available": int(counts.sum()),
        "characters": sum(len(text) for text in chosen.texts),
        "sha256": fingerprint(chosen.texts),
    }


def _check_size(part: str, facts: dict[str, Any], least: int, option: str, also: str) -> None:
    if facts["words"] >= least:
        return
    hint = "give more text, smaller documents or another division"
    if facts["words_available"] >= least:
        hint = f"raise {option} ({facts['words_asked']:,})"
    raise UserError(
        f"the {part} part has {facts['words']:,} words in {facts['documents']:,} documents{also}; at least {least:,} "
        f"words are needed: {hint}"
    )
