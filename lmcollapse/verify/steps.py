"""Steps as they are recorded: files and their hashes, what each was made from, seeds and options, the table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmcollapse import files
from lmcollapse.readings import FILE, flat, load_readings
from lmcollapse.records import (
    FORMAT,
    MANIFEST,
    METRICS,
    RECORD,
    content_digest,
    member_name,
    names_in,
    read_record,
    seal_of,
)
from lmcollapse.steps import ARTEFACTS, BEFORE, LOGS, REFERENCE, folder_of
from lmcollapse.store import step_seed
from lmcollapse.types import HUMAN, Progress
from lmcollapse.verify.book import Book

GENERATION = re.compile(r"generation_(\d+)")
SPAN = re.compile(r"generations_\d+")
MEMBER = re.compile(r"member_(\d+)")
MEMBER_INPUT = re.compile(r"member (\d+)")
BESIDE = ("offered", "detected", "candidates", "pool")
"""Steps that only some runs have."""


@dataclass(frozen=True)
class Step:
    """A folder of the run.

    record : its step.json; None where there is none that can be read.
    hashes : SHA-256 of its files as they are now, logs left out.
    """

    name: str
    record: Mapping[str, Any] | None
    hashes: Mapping[str, str]

    @property
    def inputs(self) -> dict[str, str]:
        """Digests of what it was made from, by the names that its step calls them."""
        return dict(self.record["ingredients"]["inputs"]) if self.record else {}

    @property
    def options(self) -> dict[str, Any]:
        """All that it was made by."""
        options = self.record["ingredients"].get("options") if self.record else None
        return dict(options) if isinstance(options, Mapping) else {}

    @property
    def seed(self) -> Any:
        """Its seed."""
        return self.record["ingredients"].get("seed") if self.record else None

    @property
    def facts(self) -> dict[str, Any]:
        """What its maker noted."""
        return dict(self.record["facts"]) if self.record else {}


Steps = Mapping[str, Step]


def check_files(book: Book, progress: Progress) -> Steps:
    """Every file of every step against its recorded hash."""
    names = list(_folders(book))
    found = {}
    with progress.stage("verify", total=len(names), unit="steps") as advance:
        for name in names:
            found[name] = _step(book, name)
            advance(1)
    return found


def _folders(book: Book) -> Iterator[str]:
    """Every folder that is a step, or should be one; work that was not finished is hidden and left out."""
    for entry in sorted(book.run.iterdir()):
        if not entry.is_dir():
            continue
        if entry.name in BEFORE or SPAN.fullmatch(entry.name):
            yield entry.name
        elif GENERATION.fullmatch(entry.name):
            for inner in sorted(entry.iterdir(), key=lambda path: _order(path.name)):
                name = f"{entry.name}/{inner.name}"
                if inner.is_dir() and not inner.name.startswith("."):
                    yield name
                elif inner.is_file() and not inner.name.endswith(files.PARTIAL):
                    book.expect(name, "file", "an extra file", "none")


def _order(name: str) -> tuple[int, str]:
    return (ARTEFACTS.index(name) if name in ARTEFACTS else len(ARTEFACTS)), name


def _step(book: Book, name: str) -> Step:
    folder = book.run / name
    record = read_record(folder)
    if record is None:
        book.expect(f"{name}/{RECORD}", "record of the step", "none that can be read", "one")
    logs = set(record.get("logs", ())) if record else set(LOGS)
    hashes = {}
    for file in files.files_in(folder):
        inside = str(file.relative_to(folder))
        if inside not in {RECORD, *logs} and (digest := book.read(f"{name}/{inside}", files.sha256)) is not None:
            hashes[inside] = digest
    if record is not None:
        book.checked["steps"] += 1
        book.checked["files"] += len(record["files"])
        book.expect(f"{name}/{RECORD}", "name of the step", record["ingredients"].get("step"), name)
        book.expect(f"{name}/{RECORD}", "format", record["ingredients"].get("format"), FORMAT)
        book.expect(f"{name}/{RECORD}", "seal", record.get("seal"), seal_of(record))
        for log in logs & set(names_in(folder)):
            book.read(f"{name}/{log}", lambda file: list(map(files.parse_json, file.read_bytes().splitlines())))
        if record.get("pruned"):
            book.notes.append(f"{name}: pruned (keep_models), its files are not checked")
        for inside in sorted({*hashes, *(() if record.get("pruned") else record["files"])}):
            now, then = hashes.get(inside, "no file"), record["files"].get(inside, "no file")
            book.expect(f"{name}/{inside}", "SHA-256", now, then)
    return Step(name, record, dict(record["files"]) if record and record.get("pruned") else hashes)


@dataclass(frozen=True)
class Exchange:
    """Where a member of a population finds the corpora that it may train on."""

    kind: str
    members: int
    member: int

    @classmethod
    def of(cls, config: Mapping[str, Any], run: Path) -> Exchange | None:
        """That of a run directory; None for a run that is no member."""
        population, member = config.get("population"), MEMBER.fullmatch(run.resolve().name)
        if not isinstance(population, dict) or member is None or "chains" in config:
            return None
        return cls(str(population.get("exchange")), int(population.get("members", 0)), int(member[1]))

    def source(self, folder: str) -> str:
        """The folder of the corpus that is offered in the place of what it wrote itself in a generation."""
        if self.kind == "ring":
            return f"../{member_name((self.member - 1) % self.members)}/{folder}/corpus"
        return f"{folder}/pool"


def check_chain(book: Book, steps: Steps, config: Mapping[str, Any]) -> None:
    """What each step was made from against what is there now; one line for all that was made from something else."""
    digests = {name: content_digest(step.hashes) for name, step in steps.items()}
    exchange = Exchange.of(config, book.run)
    strangers: dict[tuple[str, str], list[str]] = {}
    for name, step in steps.items():
        for key, digest in step.inputs.items():
            book.checked["links"] += 1
            source = _source(name, key, steps, exchange)
            if source is not None and source.startswith("../") and source not in digests:
                digests[source] = _outside(book.run / source)
            if source is None:  # a step that this does not know; any folder of the run may be what is meant
                source = next((other for other in digests if digests[other] == digest), key)
            if digests.get(source) != digest:
                strangers.setdefault((source, digest), []).append(name)
    for (source, digest), made in strangers.items():
        what = f"content digest that {made[0]}" + (f" and {len(made) - 1} more steps were" if made[1:] else " was")
        book.expect(source, f"{what} made from", digests.get(source, "no such folder"), digest)


def _outside(folder: Path) -> str:
    """The digest of another member's step, by its record: that run is verified for itself."""
    record = read_record(folder)
    return content_digest(record["files"]) if record else "no such folder"


def _source(name: str, key: str, steps: Steps, exchange: Exchange | None) -> str | None:
    """The folder that a step means by the name of an input, as `lmcollapse.steps` and `lmcollapse.spans` have it."""
    folder, _, step = name.partition("/")
    if key == "human":
        return "human" if step in ("", "measures") or folder in BEFORE else "rows"
    if exchange and (match := MEMBER_INPUT.fullmatch(key)):
        return f"../{member_name(int(match[1]))}/{folder}/corpus"
    if exchange and step == "measures" and key.endswith("/corpus") and not key.startswith(folder):
        return exchange.source(key.partition("/")[0])
    if GENERATION.fullmatch(key):
        return exchange.source(key) if exchange else f"{key}/corpus"
    if key in ("base", "rows") or GENERATION.fullmatch(key.partition("/")[0]):
        return key
    if key == "first":
        return f"{folder_of(0)}/{'scores' if step == 'measures' else 'model'}"
    if key == "previous":
        return _before(name, steps)
    return f"{folder}/{key}" if step and key in (*ARTEFACTS, *BESIDE) else None


def _before(name: str, steps: Steps) -> str | None:
    """The same step of the generation before, or the span before."""
    folder, _, step = name.partition("/")
    if match := GENERATION.fullmatch(folder):
        return f"{folder_of(int(match[1]) - 1)}/{'corpus' if step == 'candidates' else step}"
    return next((other for other in sorted(steps, reverse=True) if SPAN.fullmatch(other) and other < name), None)


def check_origins(book: Book, steps: Steps, manifest: Mapping[str, Any]) -> None:
    """Seeds and options of every step against the manifest."""
    config, decided = section_of(manifest, "config"), section_of(manifest, "decided")
    seed = section_of(manifest, "seeds").get("run")
    exchange = Exchange.of(config, book.run)
    chosen_by = "detector" if config.get("detector") else "policy"
    streams = {"offered": "train", "candidates": "corpus"}
    streams |= {"corpus": "curation"} if config.get("curation") else {}
    book.expect(MANIFEST, "seed of the run", seed, config.get("seed"))
    for name, step in steps.items():
        folder, _, artefact = name.partition("/")
        match = GENERATION.fullmatch(folder)
        if step.record is None or type(seed) is not int:
            continue
        if step.seed is not None:
            stream = streams.get(artefact or name, artefact or name)
            if artefact == "train" and f"{folder}/offered" in steps:
                stream = "detector"
            member = f"member {exchange.member}/" if exchange and exchange.member and match else ""
            rule = step_seed(seed, int(match[1]) if match else HUMAN, member + stream)
            book.expect(f"{name}/{RECORD}", "seed", step.seed, seed if SPAN.fullmatch(folder) else rule)
        if artefact in ("pool", "detected"):
            continue  # which depend on other things than these
        section = {"train": chosen_by, "offered": "policy", "measures": "measures", "human": "corpus"}.get(
            artefact or name
        )
        if f"{folder}/offered" not in steps and artefact == "train":
            section = "policy"
        if name == REFERENCE and "chains" not in config:
            section = "measures"
        expected = decided if section is None else section_of(config, section)
        for key, value in expected.items():
            book.expect(f"{name}/{RECORD}", f"option {key}", step.options.get(key), value)


def section_of(mapping: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A section of the manifest or of its configuration; empty where there is none."""
    section = mapping.get(name)
    return section if isinstance(section, dict) else {}


def check_table(book: Book, steps: Steps) -> None:
    """`metrics.jsonl` against the measures of each generation, or the summary of each span."""
    expected = list(_rows(book, steps))
    raw = book.read(METRICS, lambda file: file.read_text(encoding="utf-8").splitlines()) or []
    newest = len(expected) and _newest(steps, len(expected))
    if len(expected) - newest <= len(raw) < len(expected):
        book.notes.append(f"{METRICS} lacks the newest generation, as after a kill: the same `lmcollapse run` adds it")
    else:
        book.expect(METRICS, "generations", len(raw), len(expected))
    for number, (line, row) in enumerate(zip(raw, expected, strict=False)):
        if row is None:
            continue
        book.checked["rows of the table"] += 1
        where = f"{METRICS} line {number + 1}"
        try:
            found = files.parse_json(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            book.expect(where, "content", "damaged", "one JSON object")
            continue
        for key in (*row, *(key for key in found if key not in row)):
            book.expect(where, key, found.get(key, "nothing"), row.get(key, "nothing"))


def _rows(book: Book, steps: Steps) -> Iterator[dict[str, Any] | None]:
    """The rows that the table should have, as far as generations are measured; None for one that cannot be read."""
    for name in filter(SPAN.fullmatch, sorted(steps)):
        rows = book.read(
            f"{name}/summary.json", lambda file: [dict(row) for row in files.parse_json(file.read_bytes())]
        )
        yield from rows if rows is not None else [None] * _length(steps[name].facts.get("generations"))
    generation = 0
    while (name := f"{folder_of(generation)}/measures") in steps:
        readings = book.read(f"{name}/{FILE}", lambda file: flat(load_readings(file.parent)))
        yield None if readings is None else {"generation": generation} | readings
        generation += 1


def _length(bounds: Any) -> int:
    """Generations of a span, from the first and the last; 0 where its record does not say."""
    known = isinstance(bounds, list) and len(bounds) == 2 and all(type(bound) is int for bound in bounds)
    return bounds[1] + 1 - bounds[0] if known else 0


def _newest(steps: Steps, generations: int) -> int:
    """Generations of the newest step that writes to the table: that many may be missing after a kill."""
    last = next((name for name in sorted(steps, reverse=True) if SPAN.fullmatch(name)), None)
    return 1 if last is None else generations - int(last.partition("_")[2])
