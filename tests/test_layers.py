"""Imports run one way, and heavy libraries stay where they are used."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import lmcollapse

LAYERS = [
    {"spool"},
    {"types"},
    {"options", "yaml_files"},
    {"cache", "catalog", "files", "processes"},
    {"parquet", "progress", "records", "sharing"},
    {"corpora", "curation", "detectors", "metrics", "policies", "scorers", "smollm2", "texts"},
    {"substrates"},
    {"config"},
    {"store"},
    {"manifest", "normals", "readings", "scenes", "theory"},
    {"chains", "unlabelled"},
    {"steps"},
    {"spans"},
    {"costs", "loop", "results"},
    {"measure", "sweeps", "tidy", "trajectories"},
    {"pairs"},
    {"executors", "forecast"},
    {"advise", "reproductions"},
    {
        "evaluate",
        "evaluation_module",
        "export",
        "figures",
        "filtering",
        "sampling",
        "selfcheck",
        "status",
        "summaries",
        "verdicts",
        "verify",
    },
    {"report", "watch"},
    {"cli"},
    {"__main__"},
]
"""Modules and component folders; each imports only from the lines before its own, and from its own folder."""

HOMES = {
    "torch": ("processes", "substrates.causal_lm", "substrates.vae", "smollm2"),
    "transformers": ("substrates.causal_lm", "smollm2"),
    "tokenizers": ("substrates.causal_lm",),
    "accelerate": ("substrates.causal_lm",),
    "datasets": ("corpora", "evaluation_module"),
    "evaluate": ("evaluation_module",),
    "sklearn": ("corpora", "detectors", "metrics"),
    "matplotlib": ("figures",),
    "PIL": ("parquet",),
    "ray": ("executors.by_ray",),
}
"""Heavy packages, and the only modules or folders that import them."""

ROOT = Path(lmcollapse.__file__).parent


def module_name(file: Path) -> str:
    """`corpora/docs.py` as "corpora.docs", `corpora/__init__.py` as "corpora"."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(file): file for file in sorted(ROOT.rglob("*.py")) if file != ROOT / "__init__.py"}
RANKS = {unit: rank for rank, units in enumerate(LAYERS) for unit in units}


def imports(name: str) -> Iterator[str]:
    """Everything that a module imports, at its top or inside a function, by full name."""
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None and node.level == 0, f"{name}: relative import in line {node.lineno}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def unit(name: str) -> str:
    """The module or component folder, as LAYERS has it."""
    return name.partition(".")[0]


def test_every_module_has_a_layer() -> None:
    assert {unit(name) for name in MODULES} <= set(RANKS)


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_one_way(name: str) -> None:
    own = (imported.removeprefix("lmcollapse.") for imported in imports(name) if imported.startswith("lmcollapse."))
    used = {unit(imported) for imported in own} & set(RANKS) - {unit(name)}
    assert not {other for other in used if RANKS[other] >= RANKS[unit(name)]}


@pytest.mark.parametrize("name", MODULES)
def test_heavy_packages_stay_at_home(name: str) -> None:
    for package in {imported.partition(".")[0] for imported in imports(name)} & set(HOMES):
        assert any(f"{name}.".startswith(f"{home}.") for home in HOMES[package]), f"{name} imports {package}"


def test_the_vocabulary_needs_numpy_only() -> None:
    packages = {imported.partition(".")[0] for imported in {*imports("types"), *imports("spool")}}
    assert packages - sys.stdlib_module_names == {"numpy", "lmcollapse"}


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name not in ("test", "dev")}
    lines = [*project["dependencies"], *(line for some in extras.values() for line in some)]
    declared = {normal(re.split(r"[<>=~! \[]", line)[0]) for line in lines}
    packages = {imported.partition(".")[0] for name in MODULES for imported in imports(name)}
    provided = packages_distributions()
    for package in packages - sys.stdlib_module_names - {"lmcollapse"}:
        assert declared & set(map(normal, provided[package])), f"{package} is no dependency in pyproject.toml"


def normal(distribution: str) -> str:
    """A distribution's name as package registries compare it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


@pytest.mark.parametrize("module", ["cli", "loop", "smollm2"])
def test_heavy_packages_are_not_loaded_early(module: str) -> None:
    code = f"import sys, lmcollapse.{module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {*HOMES, "pandas", "scipy"}
