"""Configurations: those that the project ships, mutated; with overrides as mutated beside them."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

import lmcollapse
from fuzzing.cases import Case

ROOT = Path(lmcollapse.__file__).parent
SHIPPED = {file: file.read_text(encoding="utf-8") for file in sorted((ROOT.parent / "configs").rglob("*.yaml"))}
REPRODUCTIONS = {
    f"{file.stem} {scale}": given
    for file in sorted((ROOT / "reproductions").glob("*.yaml"))
    for scale, given in yaml.safe_load(file.read_text(encoding="utf-8")).items()
}
NAMES = sorted({name.split(" ")[0] for name in REPRODUCTIONS})

DEEP: Any = 1
for _ in range(60):
    DEEP = [DEEP]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 7, 10**9, 10**18, 10**30, 2**63, 2**63 - 1, -(2**63), 10**400),
    *(0.0, 0.5, 1.0, -0.5, 1e308, 1e-320, float("nan"), float("inf"), float("-inf"), 1e18),
    *("", " ", "a", "ünïcödé", "日本語", "\u202egnp.exe", "\0", "a\nb", "\x1b[31mred\x1b[0m", "\x9b2J", "\ud800"),
    *("nan", "1e3", "null", "..", "../..", "/etc/passwd", "~", "a" * 10_000, "scratch", "base", "all", "none"),
    *(":", "a:b", "a:b:c", ":x", "json:dumps", "os:path", "math:nan", "no.such:thing", "lmcollapse.cli:main", "1:2"),
    *([], [1], [[]], ["a", None], list(range(300)), {}, {"kind": "x"}, {"kind": 3}, {"kind": None}, {1: 2}, {None: 1}),
    *({"name": "scratch"}, {"": {}}, {"a.b": 1}, {"kind": ["mix"]}, DEEP, b"\xff\x00", {"kind": "mix", "x": DEEP}),
]
"""What stands in the place of a value."""

SNIPPETS = [
    "a: &a [*a]\n",
    "a: &a {b: *a}\n",
    "policy: &p {kind: mix, human_fraction: *p}\n",
    "x: &x {<<: *x}\n",
    "seed: &s [1, *s]\n",
    "? [a, b]\n: c\n",
    "? {a: b}\n: c\n",
    "? &k [*k]\n: c\n",
    "<<: 3\n",
    "<<: [1, 2]\n",
    "<<: {generations: 2}\n",
    "---\na: 1\n---\nb: 2\n",
    "%YAML 9.9\n---\na: 1\n",
    "!!python/object/apply:os.system ['true']\n",
    "seed: !!python/name:os.system\n",
    "seed: !!binary notbase64\n",
    "seed: !!binary aGVsbG8=\n",
    "seed: !!set {a, b}\n",
    "seed: !!omap [a: 1]\n",
    "seed: !!pairs [a: 1]\n",
    "seed: !!int abc\n",
    "seed: !!float abc\n",
    "seed: !!timestamp x\n",
    "seed: !!bool x\n",
    "seed: !!null x\n",
    "seed: !unknown x\n",
    "seed: *nowhere\n",
    "seed: 2020-99-99\n",
    "seed: 2020-01-01\n",
    "seed: 2020-01-01 99:99:99\n",
    "seed: 1:99:99\n",
    "seed: 0x\n",
    "seed: 0b2\n",
    "seed: 1__0\n",
    "seed: 0o9\n",
    "seed: 1e99999\n",
    f"seed: {'9' * 5000}\n",
    f"seed: 0x{'f' * 5000}\n",
    "seed: .nan\n",
    'seed: "\\ud800"\n',
    'seed: "\\udfff\\ud800"\n',
    'seed: "\\x1b[2J"\n',
    '"\\x1b[2J": 1\n',
    '"\\ud800": 1\n',
    "null: 1\n",
    "true: 1\n",
    "1: 1\n",
    "2020-01-01: 1\n",
    ".nan: 1\n",
    "\ta: 1\n",
    "a: 'b\n",
    "a: |\n",
    "extends: .\n",
    "extends: c.yaml\n",
    "extends: /\n",
    "extends: ''\n",
    "extends: nowhere.yaml\n",
    'extends: "a\\0b"\n',
    f"extends: {'a' * 5000}\n",
    "extends: ~\n",
    "extends: /dev/null\n",
    "substrate: [causal_lm]\n",
    "substrate: {kind: x}\n",
    "substrate: null\n",
    "substrate: 3\n",
    "sweep: {seeds: 1000000000}\n",
    "sweep: {seeds: -1}\n",
    "sweep: {seeds: [1, 1]}\n",
    "sweep: {seeds: [-1, 99999999999999999999999]}\n",
    "sweep: {grid: {seed: [1, 2]}}\n",
    "sweep: {grid: {sweep: [1, 2]}}\n",
    "sweep: {grid: {'': [1, 2]}}\n",
    "sweep: {grid: {a..b: [1, 2]}}\n",
    "sweep: {conditions: {'': {}, ' ': {}}}\n",
    "sweep: {conditions: {a/b: {}, a b: {}}}\n",
    "sweep: {conditions: {..: {}, /: {}}}\n",
]
"""Files that YAML's own corners are in."""


def bomb(draw: random.Random) -> str:
    """Aliases of aliases: a few lines that stand for more than any memory holds."""
    width, height = draw.choice([9, 3]), draw.choice([9, 20, 40])
    lines = ["a0: &a0 [x, x, x]" if draw.random() < 0.5 else "a0: &a0 {x: 1, y: 2}"]
    for level in range(1, height):
        inside = [f"*a{level - 1}"] * width
        if draw.random() < 0.5:
            lines.append(f"a{level}: &a{level} [{', '.join(inside)}]")
        else:
            lines.append(f"a{level}: &a{level} {{{', '.join(f'k{i}: {each}' for i, each in enumerate(inside))}}}")
    return "\n".join([*lines, draw.choice([f"seed: *a{height - 1}", f"policy: *a{height - 1}", "seed: 1"]), ""])


def nested(draw: random.Random) -> str:
    """Deeper than anybody means."""
    depth = draw.choice([20, 100, 500, 3000, 50_000])
    kind = draw.choice(["[", "{a: ", "block", "- ", "quote"])
    if kind == "block":
        depth = min(depth, 500)
        return "".join(" " * level + "a:\n" for level in range(depth))
    if kind == "- ":
        return "seed:\n  " + "- " * depth + "1\n"
    closing = {"[": "]", "{a: ": "}"}.get(kind, "") if draw.random() < 0.5 else ""
    return "policy: " + (kind if kind != "quote" else "? ") * depth + "1" + closing * depth + "\n"


def large_sweep(draw: random.Random) -> str:
    """More runs than anybody can make."""
    keys = ["policy.human_fraction", "generations", "rows", "dimensions", "ddof", "chains"]
    values = {key: list(range(1, draw.choice([10, 40, 100]))) for key in keys[: draw.choice([2, 4, 6])]}
    seeds = draw.choice([10**9, 10**18, 10**30, 10**6, 2000])
    return yaml.safe_dump({"substrate": "gaussian", "policy": "mix", "sweep": {"seeds": seeds, "grid": values}})


def mutated(given: Any, draw: random.Random, values: list[Any] = VALUES) -> Any:
    """A nested mapping with a few things changed."""
    tree = copy.deepcopy(given)
    for _ in range(draw.choice([1, 1, 1, 2, 3, 5])):
        places = list(_places(tree))
        if not places:
            return draw.choice(values)
        place, key = draw.choice(places)
        what = draw.randrange(8)
        if what == 0:
            del place[key]
        elif what == 1 and isinstance(place, dict) and isinstance(key, str):
            place[_misspelt(key, draw)] = place.pop(key)
        elif what == 2:
            other, there = draw.choice(places)
            place[key] = copy.deepcopy(other[there]) if there in _keys(other) else None
        elif what == 3:
            place[key] = [place[key]]
        elif what == 4 and isinstance(place, dict):
            place[draw.choice(["kind", "name", "words", "seed", "x", "", "sweep", "extends"])] = draw.choice(values)
        else:
            place[key] = copy.deepcopy(draw.choice(values))
    return tree


def _keys(place: Any) -> Any:
    return place.keys() if isinstance(place, dict) else range(len(place))


def _places(tree: Any, depth: int = 0) -> Any:
    if isinstance(tree, dict | list) and depth < 20:
        for key in list(_keys(tree)):
            yield tree, key
            yield from _places(tree[key], depth + 1)


def _misspelt(key: str, draw: random.Random) -> str:
    if not key:
        return "x"
    place = draw.randrange(len(key))
    return draw.choice([key[:place] + key[place + 1 :], key + "s", key.upper(), f"{key}\x1b[1m", key[::-1], f"{key}.a"])


def edited(content: bytes, draw: random.Random) -> bytes:
    """Bytes with a few of them changed."""
    data = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 5, 30])):
        place = draw.randrange(len(data) + 1)
        what = draw.randrange(6)
        if what == 0 and data:
            data[min(place, len(data) - 1)] = draw.randrange(256)
        elif what == 1:
            data[place:place] = draw.choice(
                [b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\t", b"\r", b"&a ", b"*a"]
            )
        elif what == 2:
            del data[place : place + draw.randrange(1, 40)]
        elif what == 3:
            del data[place:]
        elif what == 4:
            other = draw.randrange(len(data) + 1)
            data[place:place] = data[other : other + draw.randrange(1, 60)]
        else:
            data[place:place] = draw.choice([b"[", b"{", b"}", b":", b"- ", b"'", b'"', b"!!", b"%", b"|", b"\n", b"#"])
    return bytes(data)


def dumped(tree: Any) -> bytes:
    """As a file holds it; what YAML's own writer cannot write is left as Python shows it."""
    try:
        return yaml.dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")
    except Exception:
        return repr(tree).encode("utf-8", "backslashreplace")


def override(tree: Mapping[str, Any], draw: random.Random) -> str:
    """One word after the file."""
    malformed = [
        "=",
        "a",
        "a..b=1",
        ".a=1",
        "a.=1",
        "a=",
        "=1",
        "seed=&a [*a]",
        "seed=[" * 500,
        "seed={a: *b}",
        "a=\ud800",
    ]
    malformed += ["seed=" + "[" * 5000, "seed=" + "9" * 5000, "policy.kind.x.y.z=1", ".".join("a" * 3000) + "=1"]
    malformed += ["sweep.seeds=3", "sweep.grid.seed=[1]", "\x1b[31m=1", "seed=\x1b[31m", "seed=!!python/name:os.system"]
    malformed += [
        "seed=" + bomb(draw),
        "generations=1e3",
        "kind=mix",
        "model.name=/",
        "corpus.path=/dev/null",
        "a\nb=1",
    ]
    if draw.random() < 0.4:
        return draw.choice(malformed)
    keys = [".".join(map(str, path)) for path in _paths(tree)] or ["seed"]
    key = draw.choice([*keys, *EXTRA])
    value = draw.choice(VALUES)
    try:
        text = yaml.dump(value, default_flow_style=True, allow_unicode=True).removesuffix("\n...\n").strip()
    except Exception:
        text = str(value)
    return f"{key}={text}".replace("\0", "\\0")


EXTRA = ["train.epochs", "sampling.temperature", "policy.human_fraction", "model", "model.name", "population.members"]
EXTRA += [
    "curation.candidates",
    "detector",
    "detector.kind",
    "measures",
    "measures.words",
    "corpus.train_words",
    "start",
]


def _paths(tree: Any, above: tuple[Any, ...] = ()) -> Any:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield (*above, key)
            yield from _paths(value, (*above, key))


def content(draw: random.Random) -> tuple[bytes, Any, bool]:
    """A file, the tree that it was made from, and whether a sweep was meant."""
    kind = draw.randrange(20)
    if kind == 0:
        return draw.choice(SNIPPETS).encode("utf-8", "surrogatepass"), {}, draw.random() < 0.5
    if kind == 1:
        return bomb(draw).encode(), {}, draw.random() < 0.3
    if kind == 2:
        return nested(draw).encode(), {}, draw.random() < 0.3
    if kind == 3:
        return large_sweep(draw).encode(), {}, True
    if kind == 4:
        nothing = [
            b"",
            b" ",
            b"\n\n",
            b"#",
            b"---",
            b"...",
            b"null",
            b"[]",
            b"3",
            b"\xff\xfe\x00",
            b"\0\0\0",
            b"\xef\xbb\xbf",
        ]
        return draw.choice([*nothing, draw.randbytes(200), ("seed: 1\n").encode("utf-16")]), {}, False
    if kind <= 6:
        given = draw.choice(list(REPRODUCTIONS.values()))
        return dumped(mutated(given, draw)), given, True
    file = draw.choice(list(SHIPPED))
    given = yaml.safe_load(SHIPPED[file])
    sweep = "sweep" in given
    base = given.pop("extends", None)
    if base is not None:
        given = {**yaml.safe_load(SHIPPED[(file.parent / base).resolve()]), **given}
        given.pop("extends", None)
    if kind <= 10:
        text = SHIPPED[file] if base is None else yaml.safe_dump(given)
        changed = edited(text.encode(), draw)
        return (
            (changed + draw.choice(SNIPPETS).encode("utf-8", "surrogatepass") if kind == 10 else changed),
            given,
            sweep,
        )
    return dumped(mutated(given, draw)), given, sweep


def bound(folder: Path, draw: random.Random) -> Case:
    """A configuration or a sweep that is read, bound and checked, and not run."""
    data, tree, sweep = content(draw)
    file = folder / "in" / "c.yaml"
    file.write_bytes(data)
    tree = tree if isinstance(tree, Mapping) else {}
    overrides = [override(tree, draw) for _ in range(draw.choice([0, 0, 0, 1, 1, 2, 4]))]
    words = [word.encode("utf-8", "surrogateescape" if word >= "\udc80" else "replace").decode() for word in overrides]
    words = [word for word in words if not word.startswith("-")]
    out = ["--out", str(folder / "out" / "run")]
    if draw.random() < 0.05:
        name = draw.choice([*NAMES, "nature", "all ", "", "\x1b[31m", "../x"])
        return Case(folder, ["reproduce", name, *words, *out], stand_ins=nothing_is_run)
    if draw.random() < (0.9 if sweep else 0.1):
        return Case(folder, ["sweep", str(file), *words, *out, "--no-figures"], stand_ins=nothing_is_run)
    if draw.random() < 0.2:
        return Case(folder, ["run", str(file), *words, "--help"], stand_ins=nothing_is_run)
    if draw.random() < 0.1:
        return Case(folder, ["advise", str(file), *words, *out, "--dry-run"], stand_ins=nothing_is_run)
    return Case(folder, ["run", str(file), *words, *out, "--no-figures"], stand_ins=nothing_is_run)


def nothing_is_run() -> None:
    """Everything up to the first step."""
    from lmcollapse import advise, loop
    from lmcollapse.cli import asking, running

    def checked(config: Any, out: Path, *_: Any) -> Path:
        config.build_substrate().check(config.start)
        return out

    def planned(sweep: Any, *_: Any, **__: Any) -> None:
        sweep.check()

    patch.object(loop, "run", checked).start()  # unlike an assignment it fails where there is nothing of that name
    patch.object(asking, "carried_out", planned).start()
    patch.object(running, "carried_out", planned).start()
    patch.object(advise, "estimate", lambda runs: None).start()
    patch.object(advise, "described", lambda runs, found: []).start()


SMALL: Mapping[str, dict[str, Any]] = {
    "gaussian": {"chains": 4, "rows": 20, "dimensions": 2},
    "gaussian_mixture": {"chains": 2, "rows": 60},
    "kde": {"chains": 2, "rows": 30},
    "discrete": {"chains": 4, "rows": 30},
    "linear_regression": {"chains": 4, "rows": 30},
}
"""Simple models that are run in a moment."""
NUMBERS = [10**6, 10**9, 10**12, 10**18, 2**63 - 1, 2**31, 2**32 + 1, 1, 2, 3, 1e-300, 1e300, 0.999999999, 1e-9, -1, 0]
POLICIES: list[Any] = [
    *("replace", "accumulate", "accumulate_subsample", {"kind": "mix", "human_fraction": 0.3}, "fresh", "human"),
    *({"kind": "mix", "human_keep": 0.2}, {"kind": "filling", "start": 0.1, "end": 0.6}),
]


def run(folder: Path, draw: random.Random, human: Path) -> Case:
    """A small configuration, mutated and run."""
    substrate = draw.choice([*SMALL, "ngram"])
    given: dict[str, Any] = {"substrate": substrate, "generations": 3, "seed": draw.randrange(100)}
    if substrate == "ngram":
        given |= {"generations": 2, "order": 2, "vocabulary": 300, "smoothing": "kneser_ney", "measures": FEW}
        given |= {"corpus": {"kind": "files", "path": str(human), "heldout_fraction": 0.3, "document": "paragraph"}}
    else:
        given |= SMALL[substrate]
    given["policy"] = draw.choice(POLICIES)
    if draw.random() < 0.3:
        given[draw.choice(list(given))] = draw.choice(NUMBERS)
    file = folder / "in" / "c.yaml"
    file.write_bytes(dumped(mutated(given, draw) if draw.random() < 0.7 else given))
    out = folder / "out" / "run"
    words = [override(given, draw)] if draw.random() < 0.15 else []
    words = [word for word in words if not word.startswith("-") and word.isprintable()]
    then = [["verify", str(out)]]
    return Case(
        folder,
        ["run", str(file), *words, "--out", str(out), "--no-figures"],
        then,
        seconds=4,
        may_go_on=True,
        right=_whole,
    )


def _whole(case: Case, done: Any) -> str | None:
    """A run that was not refused ends well, and so does its verification."""
    return None if done.status == 0 else f"exit status 1: {done.stdout[-300:]} {done.stderr[-300:]}"


FEW = dict.fromkeys(("mauve", "frechet", "semantic_diversity", "self_bleu", "survival", "verbatim", "divergence"))
"""Measures that a small run leaves out."""

Maker = Callable[[Path, random.Random], Case]
