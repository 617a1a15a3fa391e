"""Text as it is recorded: the human parts, the rows of every corpus, and which of them each generation trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from lmcollapse.corpora.parts import IMAGES, TEXT, Kind, key_of
from lmcollapse.files import local
from lmcollapse.parquet import PARTS, birth, read_born, read_corpus, read_part
from lmcollapse.records import MANIFEST, RECORD
from lmcollapse.spool import pieces
from lmcollapse.steps import RESERVE, folder_of
from lmcollapse.types import HUMAN, Bools, Corpus, Documents, Images, Ints, Selection
from lmcollapse.verify.book import Book
from lmcollapse.verify.steps import GENERATION, Exchange, Step, Steps, section_of


@dataclass(frozen=True)
class Origin:
    """Rows that may be trained on.

    lengths : `(rows,)` tokens of each.
    heldout : `(rows,)` whether its text is that of a held-out row.
    """

    lengths: Ints
    heldout: Bools


def check_human(book: Book, steps: Steps, manifest: Mapping[str, Any]) -> set[bytes]:
    """Sizes and fingerprints of the human text, and that no document is in two parts; the keys of what is held out."""
    facts = {name: steps[name].facts if name in steps else {} for name in ("human", "rows")}
    in_manifest = section_of(manifest, "human")
    if in_manifest and facts["human"]:
        for key, value in (facts["human"] | {"rows": facts["rows"]}).items():
            if key not in PARTS:
                book.expect(MANIFEST, f"human {key}", in_manifest.get(key), value)
    known: dict[str, dict[str, Any]] = {f"human/{RECORD}": facts["human"], MANIFEST: in_manifest}
    keys: dict[str, set[bytes]] = {}
    for part in PARTS:
        name = f"human/{part}.parquet"
        human = book.read(name, _human)
        if human is None:
            continue
        kind: Kind[Any] = IMAGES if isinstance(human, Images) else TEXT
        book.checked[f"human {'images' if kind is IMAGES else 'documents'}"] += len(human)
        keys[part] = set(kind.keys(human))
        found = {kind.unit: int(kind.sizes(human).sum())} | kind.facts(human)
        for where, parts in known.items():
            recorded: Any = parts.get(part)
            sizes = recorded if isinstance(recorded, dict) else {}
            for key, value in found.items() if parts else ():
                book.expect(name, f"{key} ({where})", value, sizes.get(key))
    for part, other in (("train", "heldout"), ("reserve", "heldout"), ("train", "reserve")):
        both = len(keys.get(part, set()) & keys.get(other, set()))
        book.expect(f"human/{part}.parquet", f"rows that are in {other}.parquet, too", both, 0)
    return keys.get("heldout", set())


def check_rows(book: Book, steps: Steps, heldout: set[bytes], manifest: Mapping[str, Any]) -> None:
    """The rows of every corpus, and each generation's choice of them."""
    config, decided = section_of(manifest, "config"), section_of(manifest, "decided")
    options = {name: config.get(name) for name in decided}  # of the substrate, as configured
    origins: dict[int, Origin] = {}
    human = _check_human_rows(book, steps, heldout)
    if human is not None:
        origins[HUMAN] = human
    numbers = sorted({int(m[1]) for name in steps if (m := GENERATION.fullmatch(name.partition("/")[0]))})
    exchange = Exchange.of(config, book.run)
    offered = dict(origins) if exchange else origins
    for generation in numbers:
        folder = folder_of(generation)
        if exchange and generation and (found := _offered(book, exchange.source(folder_of(generation - 1)), heldout)):
            offered[generation - 1] = found
        for step in ("offered", "train"):
            model = steps.get(f"{folder}/model") if step == "train" else None
            if (chosen := steps.get(f"{folder}/{step}")) is not None:
                _check_selection(book, chosen, model, generation, offered)
        if f"{folder}/candidates" in steps and f"{folder}/corpus" in steps:
            _check_curated(book, folder)
        corpus = steps.get(f"{folder}/corpus")
        if corpus is not None and (found := _check_corpus(book, corpus, generation, origins, heldout, options)):
            origins[generation] = found


def _offered(book: Book, folder: str, heldout: set[bytes]) -> Origin | None:
    """The rows that a member of a population is offered, from wherever they are."""
    corpus = book.read(f"{folder}/corpus.parquet", _corpus)
    return None if corpus is None else _origin(corpus, heldout)


def _check_curated(book: Book, folder: str) -> None:
    """What was kept is what was chosen of the candidates, document by document."""
    name = f"{folder}/corpus/corpus.parquet"
    kept, candidates = book.read(name, _corpus), book.read(f"{folder}/candidates/corpus.parquet", _corpus)
    chosen = book.read(
        f"{folder}/corpus/chosen.parquet", lambda file: pq.read_table(local(file)).column("candidate").to_numpy()
    )
    if kept is None or candidates is None or chosen is None:
        return
    if not ((chosen >= 0) & (chosen < len(candidates))).all() or len(chosen) != len(kept):
        book.expect(name, "rows that were chosen", len(chosen), len(kept))
        return
    expected = candidates.take(chosen[np.argsort(candidates.row[chosen], kind="stable")])
    same = len(expected.values) == len(kept.values) and all(
        np.array_equal(*both) for both in zip(pieces(expected.values), pieces(kept.values), strict=True)
    )
    book.expect(name, "its rows against the candidates that were chosen", "others" if not same else "those", "those")


def _check_human_rows(book: Book, steps: Steps, heldout: set[bytes]) -> Origin | None:
    """Human rows, numbered through: those of the training part, then those in reserve."""
    facts = steps["rows"].facts if "rows" in steps else {}
    found: list[Origin] = []
    for part in PARTS:
        name = f"rows/{RESERVE if part == 'reserve' else f'{part}.parquet'}"
        corpus = book.read(name, _corpus)
        if corpus is None:
            continue
        first = len(found[0].lengths) if part == "reserve" and found else 0
        _check_born(book, name, replace(corpus, row=corpus.row - first), HUMAN, facts.get(part))
        if part != "heldout":
            found.append(_origin(corpus, heldout))
    if not found:
        return None
    return Origin(np.concatenate([o.lengths for o in found]), np.concatenate([o.heldout for o in found]))


def _check_corpus(
    book: Book,
    step: Step,
    generation: int,
    origins: Mapping[int, Origin],
    heldout: set[bytes],
    options: Mapping[str, Any],
) -> Origin | None:
    name = f"{step.name}/corpus.parquet"
    corpus = book.read(name, _corpus)
    if corpus is None:
        return None
    _check_born(book, name, corpus, generation, step.facts)
    born = book.read(name, read_born)
    if born is None:
        book.notes.append(f"{name} does not say how it was sampled, as those of earlier versions do not")
    else:
        expected = birth(generation, step.seed, step.inputs.get("model", "nothing"), options)
        for key in sorted({*born, *expected}):
            book.expect(name, f"{key} in its metadata", born.get(key), expected.get(key))
        _check_prompts(book, name, corpus, born, generation, origins)
    found = _origin(corpus, heldout)
    if found.heldout.any():
        book.notes.append(f"{name}: {int(found.heldout.sum())} rows read as held-out documents do, white space aside")
    return found


def _check_prompts(
    book: Book, name: str, corpus: Corpus, born: Mapping[str, Any], generation: int, origins: Mapping[int, Origin]
) -> None:
    """What prompted a row is a human row, or one of the corpus before; generation 0's is the human part."""
    sampling = born.get("sampling")
    prompt = str(sampling.get("prompt")) if isinstance(sampling, Mapping) else ""
    if isinstance(sampling, Mapping) and sampling.get("edit_above") is not None:
        prompt = "previous" if generation else "human"  # every row is another one that was edited
    if prompt == "none":
        there = 0
    elif prompt in ("human", "previous"):
        source = origins.get(HUMAN if prompt == "human" else generation - 1)
        if source is None:
            return
        there = len(source.lengths)
    else:  # a substrate of which nothing is known here
        return
    book.expect(name, "rows with a prompt that does not exist", int((corpus.prompt >= there).sum()), 0)


def _check_born(book: Book, name: str, corpus: Corpus, generation: int, facts: Any) -> None:
    """Sizes, and the origin of every row."""
    book.checked["rows"] += len(corpus)
    sizes = facts if isinstance(facts, Mapping) else {}
    book.expect(name, "rows", len(corpus), sizes.get("rows"))
    book.expect(name, "tokens", int(corpus.lengths.sum()), sizes.get("tokens"))
    book.expect(name, "rows of another generation", int((corpus.generation != generation).sum()), 0)
    book.expect(name, "rows out of their order", int((corpus.row != np.arange(len(corpus))).sum()), 0)
    word = "human" if generation == HUMAN else "synthetic"
    origin = book.read(name, lambda file: pq.read_table(local(file), columns=["origin"]).column("origin").to_pylist())
    book.expect(name, f"rows that are not marked {word}", sum(mark != word for mark in origin or ()), 0)


def _origin(corpus: Corpus, heldout: set[bytes]) -> Origin:
    marks = np.zeros(len(corpus), np.bool_)
    if corpus.texts is not None and heldout:
        marks[:] = [bool(text) and key_of(text) in heldout for text in corpus.texts]
    return Origin(np.asarray(corpus.lengths, np.int64), marks)


def _check_selection(
    book: Book, train: Step, model: Step | None, generation: int, origins: Mapping[int, Origin]
) -> None:
    """The rows that a generation trained on: they exist, none is held out, and the shares are as recorded."""
    name = f"{train.name}/selection.parquet"
    chosen = book.read(name, _selection)
    if chosen is None:
        return
    book.checked["training sets"] += 1
    record, facts = f"{train.name}/{RECORD}", train.facts
    numbers, rows_of = np.unique(chosen.generation, return_counts=True)
    found = dict(zip(map(str, numbers.tolist()), rows_of.tolist(), strict=True))
    human = float(np.mean(chosen.generation == HUMAN)) if len(chosen) else math.nan
    book.expect(record, "rows", facts.get("rows"), len(chosen))
    book.expect(record, "human_fraction", facts.get("human_fraction"), human)
    book.expect(record, "origins", facts.get("origins"), found)
    lengths: dict[int, int] = {}
    for origin in map(int, numbers):
        rows = chosen.row[chosen.generation == origin]
        there = origins.get(origin)
        if there is None or origin >= generation:
            book.expect(name, f"rows of generation {origin}, of which there is no corpus", len(rows), 0)
            continue
        bad = (rows < 0) | (rows >= len(there.lengths))
        book.expect(name, f"rows of origin {origin} that do not exist", int(bad.sum()), 0)
        if origin == HUMAN:
            book.expect(name, "human rows that are held out", int(there.heldout[rows[~bad]].sum()), 0)
        lengths[origin] = int(there.lengths[rows[~bad]].sum())
    if model is not None and model.record is not None and len(lengths) == len(numbers) > 0:
        total = sum(lengths.values())
        shares = {"rows": len(chosen), "tokens": total, "human_fraction_of_tokens": lengths.get(HUMAN, 0) / total}
        for key, value in shares.items():
            book.expect(f"{model.name}/{RECORD}", key, model.facts.get(key), value)


def _human(file: Path) -> Documents | Images:
    rows: Documents | Images = read_part(file)
    return rows


def _corpus(file: Path) -> Corpus:
    corpus = read_corpus(file)
    for name in ("generation", "row", "prompt"):
        _refuse(getattr(corpus, name).dtype.kind != "i", f"{name} is no whole number in every row")
    return corpus


def _selection(file: Path) -> Selection:
    table = pq.read_table(local(file))
    chosen = Selection(table.column("generation").to_numpy(), table.column("row").to_numpy())
    for column in (chosen.generation, chosen.row):
        _refuse(column.dtype.kind != "i", "a row reference is no whole number")
    return chosen


def _refuse(wrong: bool, what: str) -> None:
    if wrong:
        raise ValueError(what)
