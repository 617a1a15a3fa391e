"""A run's corpora and models as folders that are ready for the Hugging Face hub. Nothing is uploaded.

lineage.py reads what the records say, cards.py writes the cards.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmcollapse import files
from lmcollapse.export.lineage import Lineage, lineage_of
from lmcollapse.records import RECORD, read_record
from lmcollapse.types import Progress, Silent, UserError

CORPORA = "corpora"
"""The folder of the dataset."""

CARD = "README.md"

MADE = "export.json"
"""The files of an export and their hashes: what a later export of the run may replace."""

HUMAN_CONFIGS = {"human": "human", "human_rows": "rows"}
"""Configurations of the dataset with human text, and the folders of the run that they are from."""

Plan = dict[str, Path | bytes]
"""What an export consists of: files to copy, and contents, by their names."""


@dataclass(frozen=True)
class Export:
    """Folders to be uploaded: the path of each, the id that its cards give it, and its type on the hub."""

    folders: tuple[tuple[Path, str, str], ...]
    notes: tuple[str, ...]

    def commands(self) -> list[str]:
        """The command that uploads each folder."""
        prefix = "" if all("/" in name for _, name, _ in self.folders) else "ACCOUNT/"
        return [
            f"hf upload {prefix}{name} {shlex.quote(str(path))} . --repo-type {kind}"
            for path, name, kind in self.folders
        ]


def export(run: Path, out: Path | None = None, *, account: str | None = None, progress: Progress = Silent()) -> Export:
    """Write a dataset folder with every finished generation's corpus, and a model folder for each generation's model.

    out : where to; `exports/` and the name of the run by default. Files of an earlier export are replaced.
    account : user or organisation of the hub, as the ids in the cards have it; without it they are bare names.

    Raises UserError, before anything is written, for a run without texts or with damaged files, and where `out` has
    files that no export wrote, or that were changed since.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    lineage = lineage_of(run, account)
    out = out or Path("exports") / run.resolve().name
    if out.resolve().is_relative_to(run.resolve()):
        raise UserError(f"{out} is in the run directory, which is no place for copies of it; give another with --out")
    try:
        validate_repo_id(lineage.model_id(0))
    except HFValidationError as error:
        raise UserError(
            f"'{lineage.model_id(0)}' is no id of the hub ({error}); give another --account, or the run's folder a "
            "shorter name"
        ) from None
    notes = []
    plan = _dataset(lineage)
    plan |= _models(lineage)
    if missing := len(lineage.generations) - len(lineage.models):
        substrate = lineage.manifest["config"]["substrate"]
        why = "they were pruned" if lineage.pruned else f"transformers does not know those of substrate {substrate}"
        notes.append(f"{missing} of {len(lineage.generations)} models are left out: {why}")
    if account is None:
        notes.append("the cards name each other without an account; give --account NAME to have it in their ids")
    _write(out, plan, progress)
    folders = [(out / CORPORA, lineage.dataset, "dataset")]
    folders += [(out / g.folder, lineage.model_id(g.number), "model") for g in lineage.models]
    return Export(tuple(folders), tuple(notes))


def _dataset(lineage: Lineage) -> Plan:
    """One dataset, with a configuration for each generation and two for the human text."""
    from lmcollapse.export.cards import dataset_card

    plan: Plan = {}
    configs: list[dict[str, Any]] = []
    for generation in lineage.generations:
        name = f"data/{generation.folder}.parquet"
        plan[f"{CORPORA}/{name}"] = lineage.run / generation.folder / "corpus" / "corpus.parquet"
        configs.append({"config_name": generation.folder, "data_files": [{"split": "train", "path": name}]})
    for config, folder in HUMAN_CONFIGS.items():
        splits = []
        for part in lineage.human:
            if (config, part) == ("human_rows", "heldout"):
                continue  # nothing is trained on them; and where rows are blocks, only these have a source
            name = f"data/{config}/{part}.parquet"
            plan[f"{CORPORA}/{name}"] = lineage.run / folder / f"{part}.parquet"
            splits.append({"split": part, "path": name})
        configs.append({"config_name": config, "data_files": splits})
    plan[f"{CORPORA}/{CARD}"] = dataset_card(lineage, configs).encode()
    return plan


def _models(lineage: Lineage) -> Plan:
    """An ordinary transformers folder for each generation."""
    from lmcollapse.export.cards import model_card

    plan: Plan = {}
    for generation in lineage.models:
        folder = lineage.run / generation.folder / "model"
        for file in files.files_in(folder):
            if file.name not in (RECORD, CARD):
                plan[f"{generation.folder}/{file.relative_to(folder)}"] = file
        plan[f"{generation.folder}/{CARD}"] = model_card(lineage, generation).encode()
    return plan


def _write(out: Path, plan: Plan, progress: Progress) -> None:
    """Write what is planned, each file whole or not at all; a file that is there already is left alone."""
    made = _made(out)
    hashes = dict(_hashes(plan))
    for name, digest in hashes.items():
        file = out / name
        if file.exists() and not (file.is_file() and files.sha256(file) in (digest, made.get(name))):
            raise UserError(
                f"{file} is there, and is not what an export of this run wrote; move it away, or give another "
                "directory with --out"
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made ({error.strerror}); give another directory with --out") from None
    with progress.stage("export", total=len(plan), unit="files") as advance:
        for name, source in plan.items():
            _put(source, out / name, hashes[name])
            advance(1)
    for name in made.keys() - hashes.keys():
        file = out / name
        if file.is_file() and files.sha256(file) == made[name]:
            file.unlink()
    files.write_json(out / MADE, hashes)


def _put(source: Path | bytes, file: Path, digest: str) -> None:
    if file.is_file() and files.sha256(file) == digest:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, bytes):
        files.write_atomically(file, source)
        return
    part = file.with_name(f".{file.name}{files.PARTIAL}")
    shutil.copyfile(source, part)
    files.flush(part)
    part.replace(file)


def _made(out: Path) -> Mapping[str, str]:
    """What earlier exports wrote there; nothing where that cannot be read."""
    try:
        found = json.loads((out / MADE).read_bytes())
    except (OSError, ValueError):
        return {}
    inside = found if isinstance(found, dict) else {}
    return {name: digest for name, digest in inside.items() if (out / name).resolve().is_relative_to(out.resolve())}


def _hashes(plan: Plan) -> Iterator[tuple[str, str]]:
    for name, source in plan.items():
        if isinstance(source, bytes):
            yield name, hashlib.sha256(source).hexdigest()
        else:
            record = read_record(source.parent) or {"files": {}}
            yield name, record["files"].get(source.name) or files.sha256(source)
