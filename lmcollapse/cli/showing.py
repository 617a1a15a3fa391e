"""Commands that read run directories: how far they are, what came of them, whether they are what they say."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, arg

from lmcollapse.cli.common import Json, Runs, named, on_stderr, runs_of
from lmcollapse.types import UserError


def status(directory: Positional[Annotated[Path, arg(metavar="DIR")]] = Path("runs")) -> None:
    """Runs below a directory: how far each is, and its last measures.

    Args:
        directory: a run, or a directory of runs.
    """
    from lmcollapse.status import status, status_table

    Console(highlight=False).print(status_table(status(directory)))


def watch(
    directory: Positional[Annotated[Path, arg(metavar="DIR")]] = Path("runs"),
    *,
    every: float = 1.0,
    once: bool = False,
) -> None:
    """Follow a run or a sweep live: what is running and where, what failed and why, curves, time left. Ctrl-C ends it.

    Args:
        directory: a run, a sweep, or a directory of runs.
        every: seconds between two looks.
        once: show it one time, as it is shown to a file or a pipe.
    """
    from lmcollapse.watch import watch

    if not every > 0:
        raise UserError(f"--every is {every}; give seconds above 0")
    with contextlib.suppress(KeyboardInterrupt):
        watch(directory, Console(highlight=False), every=every, once=once)


def verdicts(
    runs: Runs,
    *,
    json_: Json = False,
) -> None:
    """Has it collapsed? Eight definitions of collapse on each run, and what its measures did: which warned first.

    Args:
        runs: run directories, or those of sweeps; three or more that differ in the seed alone are judged as one.
        json_: print one JSON object.
    """
    from lmcollapse.summaries import summaries, summaries_table
    from lmcollapse.verdicts import verdicts, verdicts_table

    given = runs_of(runs, "verdicts")
    judged, summary = verdicts(given), summaries(given)
    if json_:
        parts = {"verdicts": judged, "summaries": summary}
        print(json.dumps({name: json.loads(part.to_json(orient="records")) for name, part in parts.items()}))
    else:
        console = Console(highlight=False)
        console.print(verdicts_table(judged))
        console.print()
        console.print(summaries_table(summary))


def plot(
    runs: Runs,
    *,
    out: Path = Path("figures"),
    by: Literal["condition", "run"] = "condition",
) -> None:
    """Draw the figures of one run, or of several laid over each other, as PNG, PDF and SVG, with their tidy table.

    Args:
        runs: run directories, or those of sweeps; or a results.parquet or results.csv, and nothing else is read.
        out: directory of the figures.
        by: what has a line: a condition, where it has three or more seeds (mean and interval over them), or every run.
    """
    from lmcollapse.figures import TABLES, plot

    for file in plot(runs_of(runs, "plot", TABLES), out, by):
        print(file)


def report(runs: Runs, *, out: Path = Path("report.html")) -> None:
    """Write what runs show into one page for a browser: verdicts, curves, texts, words lost, how to run it again.

    Args:
        runs: run directories, or those of sweeps; runs that differ in their seed alone are taken together.
        out: the HTML file; it needs nothing beside it, and no network.
    """
    from lmcollapse.report import report

    print(report(runs_of(runs, "report"), out))


def verify(
    runs: Runs,
    *,
    json_: Json = False,
) -> None:
    """Is a run directory what it says it is? Every hash and share recomputed; exit status 1 where one does not match.

    Args:
        runs: run directories, or those of sweeps; they are only read, and verified as far as they go.
        json_: print one JSON object a run.
    """
    from lmcollapse.progress import printable
    from lmcollapse.sweeps import begun
    from lmcollapse.verify import verify

    named(runs, "verify")
    given, matches = [run for path in runs for run in begun(path)], True
    for run in given:
        with on_stderr() as progress:
            found = verify(run, progress)
        matches = matches and not found.mismatches
        if json_:
            print(json.dumps(found.as_json()))
            continue
        for line in ([f"{run}:"] if len(given) > 1 else []) + found.lines():
            print(printable(line))
    if not matches:
        sys.exit(1)


def export(
    run: Positional[Annotated[Path, arg(metavar="RUN")]],
    *,
    out: Path | None = None,
    account: str | None = None,
) -> None:
    """Write a run's corpora and models as folders for the Hugging Face hub, with cards; nothing is uploaded.

    Args:
        run: a run directory; finished generations are exported.
        out: directory of the export; by default `exports/` and the name of the run.
        account: user or organisation on the hub that will have them; the cards name each other by it.
    """
    from lmcollapse.export import export
    from lmcollapse.progress import printable
    from lmcollapse.sweeps import SWEEP

    if (run / SWEEP).is_file():
        raise UserError(f"{run} is the directory of a sweep; give one of its runs, a folder `seed_…` below it")
    with on_stderr() as progress:
        made = export(run, out, account=account, progress=progress)
    for note in made.notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    for folder, _, kind in made.folders:
        print(f"{kind}: {folder}")
    print("read the cards and add a licence; this uploads them:")
    for command in made.commands():
        print(f"  {command}")
