"""The corpus `docs`: English prose out of the docstrings of installed packages.

Nothing is imported from those packages: their source files are found and read with `ast`.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import json
import platform
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated

from pydantic import Field

from lmcollapse.cache import cache_folder
from lmcollapse.corpora.parts import Share, divide
from lmcollapse.corpora.prose import prose
from lmcollapse.corpora.twins import Twins
from lmcollapse.files import regular, write_atomically
from lmcollapse.types import Documents, Human, UserError

FORMAT = 1
"""Changes whenever the same packages would give other text."""
STDLIB = "stdlib"
SKIPPED = {
    *("test", "tests", "idlelib", "lib2to3", "turtledemo", "encodings", "ensurepip"),
    *("site-packages", "dist-packages", "__pycache__"),
    *("_vendor", "_vendored", "vendored", "extern", "externals", "array_api_compat", "array_api_extra"),
}
"""Folders that document nothing of their own: tests, generated tables, what is another project's."""
MIN_PASSAGE_WORDS = 8
"""A docstring of fewer words ("Return the name.") makes no document."""

Files = Mapping[str, Sequence[tuple[str, Path]]]
"""The source files of each package as (module, path)."""


def docs(
    *,
    packages: tuple[str, ...] = (STDLIB, "numpy", "scipy", "pandas", "matplotlib"),
    passage_words: Annotated[int, Field(ge=20)] = 120,
    heldout_fraction: Share = 0.1,
) -> Human[Documents]:
    """English prose out of the docstrings of installed packages; needs no download.

    Code, tables, signatures and lists of names are dropped, and so are near-duplicates. The division is by module.
    The text is built once and kept in the cache, under the versions of Python and of the packages.

    packages : top-level packages to read; "stdlib" is the standard library with Python's own help topics.
    passage_words : a document is about that many words of one docstring, less where the docstring is shorter.
    heldout_fraction : share of the words that is held out, in whole modules.

    Raises UserError for a package that is not installed or has no source files.
    """
    names = sorted(set(packages))
    if not names:
        raise UserError("packages: none given; name at least one, for example stdlib")
    files = {name: list(_files(name)) for name in names}
    versions = {"python": platform.python_version()} | {
        name: _version(name, files[name]) for name in names if name != STDLIB
    }
    key = json.dumps([FORMAT, versions, names, passage_words, heldout_fraction])
    path = cache_folder("docs") / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.jsonl"
    human = _read(path)
    if human is None:
        human = _build(files, versions, passage_words, heldout_fraction)
        with contextlib.suppress(OSError):  # a cache that cannot be written to, or is full, is no cache
            _write(path, human)
    return human


def _files(package: str) -> Iterator[tuple[str, Path]]:
    """The source files of a package as (module, path), in the order of their names."""
    folder, prefix = _located(package)
    if folder.is_file():
        yield package, folder
        return
    found = sorted((path.relative_to(folder).parts, path) for path in folder.rglob("*.py"))
    wanted = [(parts, path) for parts, path in found if SKIPPED.isdisjoint(parts[:-1]) and parts[-1] != "conftest.py"]
    if not wanted:
        raise UserError(f"packages: '{package}' has no Python source files in {folder}; leave it out")
    for parts, path in wanted:
        yield ".".join([*prefix, *parts]).removesuffix(".py").removesuffix(".__init__"), path


def _located(package: str) -> tuple[Path, tuple[str, ...]]:
    """Where a package lies, and how the names of its modules begin; it is not imported."""
    if package == STDLIB:
        return Path(sysconfig.get_path("stdlib")), ()
    spec = importlib.util.find_spec(package) if package.isidentifier() else None  # a dotted name would be imported
    places = list(spec.submodule_search_locations or []) if spec else []
    if spec and spec.has_location and spec.origin:
        places.append(spec.origin)
    if not places:
        raise UserError(
            f"packages: '{package}' is no top-level package installed for {sys.executable}; install it or leave it out"
        )
    return Path(places[0]), (package,)


def _version(package: str, files: Iterable[tuple[str, Path]]) -> str:
    """The version of an installed package; for one that was never installed as such, the hash of its files."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        digest = hashlib.sha256()
        for module, path in files:
            digest.update(f"{module} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        return f"sha256 {digest.hexdigest()}"


def _build(files: Files, versions: Mapping[str, str], passage_words: int, heldout_fraction: float) -> Human[Documents]:
    """Read everything. Near-duplicates go before the division, so none has its twin in the other part."""
    twins = Twins()
    texts: list[str] = []
    sources: list[str] = []
    modules: list[str] = []
    words = dict.fromkeys(files, 0)
    repeated = 0
    for package, of_package in files.items():
        for module, path in of_package:
            for source, docstring in docstrings(path.read_bytes(), module):
                found = list(prose(docstring))
                fresh = [paragraph for paragraph in found if not twins.repeats(" ".join(paragraph))]
                repeated += len(found) - len(fresh)
                for text in passages(fresh, passage_words):
                    texts.append(text)
                    sources.append(source)
                    modules.append(module)
                    words[package] += len(text.split())
    train, heldout = divide(Documents(texts, sources), heldout_fraction, modules)
    facts = {"versions": dict(versions), "words_by_package": words, "near_duplicate_paragraphs_dropped": repeated}
    return Human(train, heldout, facts)


def docstrings(source: bytes, module: str) -> Iterator[tuple[str, str]]:
    """The documentation in a source file as (dotted name of what it documents, text), in the order of the file.

    Beside docstrings proper these are the strings of several lines in the statements of modules and classes: there
    documentation is that is attached to compiled functions, shared between several, or kept as help topics.
    A file that is not valid Python has none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    yield from _documented(tree.body, module)


def _documented(body: Sequence[ast.AST], name: str) -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name}.{node.name}", ast.get_docstring(node, clean=False) or ""
        elif isinstance(node, ast.ClassDef):
            yield from _documented(node.body, f"{name}.{node.name}")
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if isinstance(node.value.value, str):
                yield name, node.value.value
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            for part in ("body", "handlers", "orelse", "finalbody"):
                yield from _documented(getattr(node, part, []), name)
        else:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and "\n" in inner.value:
                    yield name, inner.value


def passages(paragraphs: Iterable[list[str]], limit: int) -> Iterator[str]:
    """Paragraphs (lists of sentences) put together to passages of up to `limit` words, each one running text.

    A paragraph that is longer by itself is divided between sentences; what stays too short is left out. Blank lines
    between paragraphs are not kept: a weak model would soon write little else, and its collapse be one of layout.
    """
    pieces = [piece for sentences in paragraphs for piece in _packed(sentences, limit)]
    for passage in _packed(pieces, limit):
        if len(passage.split()) >= MIN_PASSAGE_WORDS:
            yield passage


def _packed(pieces: Iterable[str], limit: int) -> Iterator[str]:
    """Neighbouring pieces joined while that keeps them within `limit` words."""
    held: list[str] = []
    words = 0
    for piece in pieces:
        count = len(piece.split())
        if held and words + count > limit:
            yield " ".join(held)
            held, words = [], 0
        held.append(piece)
        words += count
    if held:
        yield " ".join(held)


def _write(path: Path, human: Human[Documents]) -> None:
    """Keep a corpus: a line with the hash of all that follows, one with its facts, then one line a document."""
    lines = [
        json.dumps([part, source, text], ensure_ascii=False) + "\n"
        for part, documents in (("train", human.train), ("heldout", human.heldout))
        for source, text in zip(documents.sources, documents.texts, strict=True)
    ]
    body = (json.dumps(human.facts) + "\n" + "".join(lines)).encode()
    write_atomically(path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def _read(path: Path) -> Human[Documents] | None:
    """A corpus that was kept; None where there is none, or where it is damaged and must be built again."""
    try:
        digest, _, body = regular(path).read_bytes().partition(b"\n")
    except OSError:
        return None
    if digest != hashlib.sha256(body).hexdigest().encode():
        return None
    facts, *lines = body.split(b"\n")[:-1]
    parts: dict[str, tuple[list[str], list[str]]] = {"train": ([], []), "heldout": ([], [])}
    for part, source, text in map(json.loads, lines):
        parts[part][0].append(text)
        parts[part][1].append(source)
    return Human(Documents(*parts["train"]), Documents(*parts["heldout"]), json.loads(facts))
