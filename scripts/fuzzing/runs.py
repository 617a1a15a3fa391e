"""Run directories with something changed in them, for every command that reads one, and for the run itself."""

from __future__ import annotations

import copy
import json
import random
import shutil
from pathlib import Path
from typing import Any

import yaml

from fuzzing.cases import Case, Done, strict_json
from fuzzing.configurations import FEW, VALUES, edited
from lmcollapse.records import HISTORY, LOCK, MANIFEST, METRICS, RECORD
from lmcollapse.sweeps import SWEEP
from lmcollapse.verify.same import MAY_DIFFER, different_files

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "gaussians": {"substrate": "gaussian", "generations": 4, "chains": 5, "rows": 20},
    "n-grams": {
        "substrate": "ngram",
        "order": 2,
        "vocabulary": 300,
        "generations": 2,
        "policy": {"kind": "mix", "human_fraction": 0.5},
        "corpus": {"kind": "files"},
        "measures": FEW,
    },
    "language model": {
        "start": "previous",
        "generations": 2,
        "corpus": {"kind": "files"},
        "model": {"name": "scratch", "layers": 1, "width": 16, "heads": 2, "vocabulary": 280},
        "train": {"block_size": 32, "epochs": 1, "batch_size": 16},
        "sampling": {"tokens": 1000, "new_tokens": 20},
        "compute": {"device": "cpu"},
        "measures": FEW,
    },
    "images": {
        "substrate": "vae",
        "generations": 2,
        "corpus": {"kind": "digits", "train_images": 100, "heldout_images": 30},
        "epochs": 1,
    },
    "sweep": {
        "substrate": "gaussian",
        "generations": 3,
        "chains": 3,
        "rows": 20,
        "sweep": {"seeds": 2, "grid": {"policy": ["replace", "accumulate"]}},
    },
}
"""What is run once, and copied for each case."""


def prepare(folder: Path, human: Path) -> dict[str, list[str]]:
    """The words of the commands that make them; configurations and runs stand beside each other."""
    commands = {}
    for name, given in CONFIGURATIONS.items():
        given = json.loads(json.dumps(given))
        if given.get("corpus", {}).get("kind") == "files":
            given["corpus"] |= {"path": str(human), "heldout_fraction": 0.3}
        file = folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(given), encoding="utf-8")
        command = "sweep" if "sweep" in given else "run"
        commands[name] = [command, str(file), "--out", str(folder / name), "--no-figures"]
    return commands


def tampered(run: Path, draw: random.Random, sentinel: Path) -> list[Path]:
    """Change something in a run directory; return what was changed, from there."""
    changed = []
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        files = sorted(file for file in run.rglob("*") if file.is_file() and not file.is_symlink())
        if not files:
            break
        records = [file for file in files if file.suffix in (".json", ".jsonl")]
        file = draw.choice(records if records and draw.random() < 0.75 else files)
        changed.append(file.relative_to(run))
        what = draw.random()
        if what < 0.45 and file.suffix in (".json", ".jsonl"):
            _change_fields(file, draw)
        elif what < 0.8:
            file.write_bytes(edited(file.read_bytes(), draw))
        elif what < 0.83:
            file.write_bytes(draw.choice([b"", b"{}", b"[]", b"null", b"\xff", b"[" * 50_000, b"3", b'"x"', b"NaN"]))
        elif what < 0.86:
            file.unlink()
        elif what < 0.9:
            file.unlink()
            file.mkdir()
        elif what < 0.93:
            file.unlink()
            file.symlink_to(
                draw.choice([sentinel / "precious.txt", file, run / "nowhere", sentinel, Path("/dev/null")])
            )
        else:
            place = file.parent
            if place == run:
                continue
            if draw.random() < 0.5:
                shutil.rmtree(place)
                if draw.random() < 0.5:
                    place.write_text("a file\n", encoding="utf-8")
            else:
                shutil.rmtree(place)
                place.symlink_to(draw.choice([sentinel, place, run / "nowhere", run]))
    return changed


def _change_fields(file: Path, draw: random.Random) -> None:
    lines = (
        file.read_text(encoding="utf-8", errors="replace").splitlines()
        if file.suffix == ".jsonl"
        else [file.read_text("utf-8", "replace")]
    )
    if not lines:
        return
    number = draw.randrange(len(lines))
    try:
        tree = json.loads(lines[number])
    except ValueError:
        return
    for _ in range(draw.choice([1, 1, 2, 5])):
        places = list(_places(tree))
        if not places:
            break
        place, key = draw.choice(places)
        if draw.random() < 0.2:
            del place[key]
        else:
            place[key] = copy.deepcopy(_jsonable(draw.choice(VALUES)))
    if draw.random() < 0.05:
        tree = copy.deepcopy(_jsonable(draw.choice(VALUES)))
    lines[number] = json.dumps(tree)
    file.write_text("\n".join([*lines, ""]), encoding="utf-8")


def _places(tree: Any) -> Any:
    for key in list(tree.keys() if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()):
        yield tree, key
        yield from _places(tree[key])


def _jsonable(value: Any) -> Any:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return "x"
    return value


READERS = {
    "status": 16,
    "verify": 20,
    "verdicts": 10,
    "plot": 2,
    "report": 2,
    "sample": 8,
    "evaluate": 6,
    "export": 8,
    "watch": 5,
    "measure": 4,
    "run": 25,
}
"""Commands, and how often each."""


def case(folder: Path, draw: random.Random, made: Path, human: Path) -> Case:
    """A tampered run, and a command."""
    name = draw.choice(
        ["gaussians", "gaussians", "n-grams", "n-grams", "language model", "language model", "images", "sweep"]
    )
    command = draw.choices(list(READERS), list(READERS.values()))[0]
    again = command == "run"
    run = folder / ("out" if again else "in") / "run"
    shutil.copytree(made / name, run)
    changed = tampered(run, draw, folder / "sentinel")
    generation, out = run / f"generation_{draw.randrange(2):03d}", folder / "out"
    if command == "run":
        return _again(folder, name, made, run, changed)
    if command in ("sample", "evaluate", "measure") and name == "sweep":
        command = "status"
    words = {
        "status": ["status", str(run)],
        "verify": ["verify", str(run), *draw.choice([[], ["--json"]])],
        "verdicts": ["verdicts", str(run), *draw.choice([[], ["--json"]])],
        "plot": ["plot", str(run), "--out", str(out / "figures")],
        "report": ["report", str(run), "--out", str(out / "report.html")],
        "sample": ["sample", str(generation), "-n", "2", "new_tokens=8"],
        "evaluate": ["evaluate", str(generation), "--text", str(folder / "cwd" / "text.txt"), "--json"],
        "export": ["export", str(run), "--out", str(out / "export")],
        "watch": ["watch", str(run), "--once"],
        "measure": ["measure", str(generation), "--reference", str(run), "--measures", "distinct_n", "--json"],
    }[command]
    (folder / "cwd" / "text.txt").write_text(human.read_text(encoding="utf-8")[:500], encoding="utf-8")
    right = strict_json if "--json" in words else None
    if command == "verify":
        right = _verified(made / name, run, words)
    return Case(folder, words, seconds=60, right=right)


def _verified(whole: Path, run: Path, words: list[str]) -> Any:
    """What verification must find: a file that is covered by a hash, and is not what it was."""

    def right(case: Case, done: Done) -> str | None:
        if "--json" in words and (wrong := strict_json(case, done)):
            return wrong
        if done.status == 1 or (whole / SWEEP).is_file():
            return None
        for file in sorted(whole.rglob("*")):
            here = run / file.relative_to(whole)
            unhashed = file.name in (RECORD, MANIFEST, METRICS, HISTORY, LOCK)
            if file.is_file() and not unhashed and (not here.is_file() or here.read_bytes() != file.read_bytes()):
                return f"{file.relative_to(whole)} was changed, and nothing was found"
        return None

    return right


def _again(folder: Path, name: str, made: Path, run: Path, changed: list[Path]) -> Case:
    """The same command again: what it ends with is what it ended with before."""
    command = "sweep" if name == "sweep" else "run"
    of_record = {MANIFEST, SWEEP} & {file.name for file in changed}

    def right(case: Case, done: Done) -> str | None:
        if done.status == 1:
            return None if "failed: " in done.stderr else f"exit status 1: {done.stderr[-300:]}"
        if name != "sweep" and not of_record and not ({*MAY_DIFFER, HISTORY} & {file.name for file in changed}):
            different = different_files(made / name, run)
            if different := [file for file in different if not file.endswith(SWEEP)]:
                return f"not the same bytes as before: {', '.join(different[:5])}"
        return None

    words = [command, str(made / f"{name}.yaml"), "--out", str(run), "--no-figures"]
    return Case(folder, words, seconds=120, right=right)
