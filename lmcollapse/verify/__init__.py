"""Is a run directory what it says it is? Everything that can be recomputed without a model, recomputed.

steps.py has files, hashes, the chain from input to output, seeds and the table; rows.py the text and its shares,
book.py what was found; same.py compares two runs byte for byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lmcollapse.records import FORMAT, LOCK, MANIFEST, holder, members_of, read_manifest
from lmcollapse.steps import REFERENCE
from lmcollapse.sweeps.plan import known_runs
from lmcollapse.types import Progress, Silent, UserError
from lmcollapse.verify.book import Book, Mismatch, json_object
from lmcollapse.verify.rows import check_human, check_rows
from lmcollapse.verify.steps import Steps, check_chain, check_files, check_origins, check_table, section_of

PRETRAINED = "base/pretrained.json"
"""Stands for the weights of a pretrained model, which are hashed and not copied."""

SECTIONS = ("config", "decided", "human", "seeds")
"""Of the manifest, which the steps of the run are held to."""


@dataclass(frozen=True)
class Verification:
    """What is not as it should be, how many things of each kind were looked at, and what could not be."""

    run: Path
    mismatches: tuple[Mismatch, ...]
    checked: Mapping[str, int]
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """One line for each mismatch, one for each note, and a summary."""
        looked = ", ".join(f"{count:,} {what}" for what, count in self.checked.items()) or "nothing to look at"
        verdict = "all as recorded" if not self.mismatches else f"{len(self.mismatches):,} things do not match"
        return [*map(str, self.mismatches), *(f"note: {note}" for note in self.notes), f"{looked}: {verdict}"]

    def as_json(self) -> dict[str, Any]:
        """The same as JSON-able values."""
        return asdict(self) | {"run": str(self.run), "checked": dict(self.checked), "matches": not self.mismatches}


def verify(run: Path, progress: Progress = Silent()) -> Verification:
    """Recompute every hash, share and fingerprint of a run directory, and what was made from what.

    It takes no lock and changes nothing; a run that is not finished is verified as far as it goes. Hashes are no
    signatures: they find what was damaged, mixed up or edited, and not a forger who makes all of them anew.

    Raises UserError where the directory holds no run, or one of another format.
    """
    members = members_of(run) if run.is_dir() else []
    if len(members) > 1:
        return _together(run, [verify(member, progress) for member in members])
    if not run.is_dir() or not ((run / LOCK).exists() or (run / MANIFEST).exists()):
        raise UserError(f"{run} holds no run; give a directory that `lmcollapse run` has written")
    book = Book(run)
    if who := holder(run):
        book.notes.append(f"in use by {who}: what it is writing now may not match yet")
    manifest = _manifest(book)
    steps = check_files(book, progress)
    if manifest is None and any(name.startswith("generation") for name in steps):
        book.expect(MANIFEST, "file", "none", "one, since there are generations")
    if REFERENCE not in steps and any(name.startswith("generation") for name in steps):
        book.expect(REFERENCE, "folder", "none", "one, since there are generations")  # no later step is made from it
    told = manifest or {}
    heldout: list[set[bytes]] = [set()]
    book.attempt("the chain of steps", lambda: check_chain(book, steps, section_of(told, "config")))
    book.attempt("the origins of rows", lambda: check_origins(book, steps, told))
    book.attempt("the human data", lambda: heldout.append(check_human(book, steps, told)))
    book.attempt("the rows", lambda: check_rows(book, steps, heldout[-1], told))
    book.attempt("the table", lambda: check_table(book, steps))
    book.attempt("the pretrained model", lambda: _check_pretrained(book, steps))
    return Verification(run, tuple(book.mismatches), book.checked, tuple(book.notes))


def first_mismatch(paths: Iterable[Path]) -> tuple[Path, Mismatch] | None:
    """The first thing that is not as it should be in the runs that paths lead to (runs, sweeps, what is in a run)."""
    for path in dict.fromkeys(folder for given in paths for folder in (given, *given.parents[:2])):
        for run in [path / known["path"] for known in known_runs(path)] or [path]:
            for member in members_of(run):
                if (member / LOCK).exists() or (member / MANIFEST).exists():
                    for mismatch in verify(member).mismatches:
                        return member, mismatch
    return None


def _together(run: Path, members: Sequence[Verification]) -> Verification:
    """What holds for a population: what holds for each of its members."""
    checked: Counter[str] = Counter()
    for member in members:
        checked.update(member.checked)
    mismatches = [
        replace(mismatch, where=f"{member.run.name}/{mismatch.where}")
        for member in members
        for mismatch in member.mismatches
    ]
    notes = [f"{member.run.name}: {note}" for member in members for note in member.notes]
    return Verification(run, tuple(mismatches), checked, tuple(notes))


def _manifest(book: Book) -> dict[str, Any] | None:
    """The manifest; a damaged one is a mismatch."""
    found = book.read(MANIFEST, json_object)
    if found is None:
        return None
    if found.get("format") != FORMAT:
        return read_manifest(book.run)  # says so
    for section in SECTIONS:
        book.expect(MANIFEST, f"section {section}", type(found.get(section)).__name__, "dict")
    return found


def _check_pretrained(book: Book, steps: Steps) -> None:
    """The weights that the run began with, where they are on this machine."""
    if "base" not in steps or PRETRAINED.partition("/")[2] not in steps["base"].hashes:
        return
    from lmcollapse.substrates.causal_lm.checkpoints import weights_on_this_machine

    named = book.read(PRETRAINED, json_object)
    found = book.read(PRETRAINED, lambda file: weights_on_this_machine(file.parent)) if named else None
    if named is not None and found is None:
        book.notes.append(
            f"the weights of the pretrained model '{named.get('name')}' are not on this machine: not checked"
        )
    elif named is not None:
        book.checked["pretrained models"] += 1
        book.expect(f"weights of '{named.get('name')}'", "SHA-256", found, named.get("sha256"))
