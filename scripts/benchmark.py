#!/usr/bin/env python3
"""Every benchmark of the project: `scripts/benchmark.py measure --cases self_bleu,numbering --json found.json`.

A subcommand is a module of `benchmarks/` with a docstring and `CASES`, functions from `Settings` to rows. What the
cases are and what bounds them: `docs/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.racing import Row, Settings, say
from rich.console import Console
from rich.table import Table

from lmcollapse.manifest import hardware, versions
from lmcollapse.processes import prepare

SUBCOMMANDS = ("measure", "sample", "fit", "generation", "chains", "scaling")
RIVALS = ("nltk", "sacrebleu", "fast-bleu", "mauve-text", "torch", "transformers", "ctranslate2", "vllm")
"""Packages that are timed beside the project, or are skipped where they are missing."""

Case = Callable[[Settings], Iterable[Row]]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the chosen cases, print their rows as a table and write them as JSON where that is asked for."""
    os.environ.setdefault("GOMP_SPINCOUNT", "300000")  # libgomp's own: nothing else should run on the machine now
    prepare()  # all sides alike
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in SUBCOMMANDS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in modules.items():
        command = commands.add_parser(name, help=module.__doc__, description=module.__doc__)
        command.add_argument("--cases", help=f"some of {','.join(module.CASES)}; by default all")
        command.add_argument("--rounds", type=int, default=3, help="medians of so many rounds (%(default)s)")
        command.add_argument("--size", type=float, default=1.0, help="share of each case's size, for a quick look")
        command.add_argument(
            "--full", action="store_true", help="time slow rivals on all of it, not on a part scaled up"
        )
        command.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    given = parser.parse_args(argv)
    cases: dict[str, Case] = modules[given.command].CASES
    chosen = given.cases.split(",") if given.cases else list(cases)
    if unknown := [name for name in chosen if name not in cases]:
        parser.error(f"unknown case {', '.join(unknown)}; known: {', '.join(cases)}")
    if given.rounds < 1 or given.size <= 0:
        parser.error("--rounds is a number from 1 on, --size one above 0")
    rows: list[Row] = []
    for name in chosen:
        say(f"{given.command} · {name}")
        rows += cases[name](Settings(given.rounds, given.size, given.full))
    console = Console(highlight=False, soft_wrap=True)
    console.print("\n".join((*environment(), "")), markup=False)
    console.print(table(rows))
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def environment() -> list[str]:
    """The machine and the versions that numbers depend on, in two lines."""
    machine = hardware()
    used = {name: number for name, number in versions().items() if name in ("python", "lmcollapse", "numpy", "pyarrow")}
    for package in RIVALS:
        try:
            used[package] = version(package)
        except PackageNotFoundError:
            continue
    return [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}",
        ", ".join(f"{name} {number}" for name, number in used.items()),
    ]


def table(rows: Iterable[Row]) -> Table:
    """Rows as a person reads them; columns that none of them fills are left out."""
    rows = list(rows)
    columns: dict[str, list[str]] = {
        "case": [row.case for row in rows],
        "side": [row.side for row in rows],
        "precision": [row.precision or "" for row in rows],
        "value": [figure(row.value) for row in rows],
        "unit": [row.unit for row in rows],
        "ratio": ["" if row.ratio is None else figure(row.ratio) for row in rows],
        "of roofline": ["" if row.roofline is None else f"{row.roofline:.0%}" for row in rows],
    }
    columns = {heading: cells for heading, cells in columns.items() if any(cells)}
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns:
        numeric = heading in ("value", "ratio", "of roofline")
        shown.add_column(heading, justify="right" if numeric else "left", no_wrap=True)
    for cells in zip(*columns.values(), strict=True):
        shown.add_row(*cells)
    return shown


def figure(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
