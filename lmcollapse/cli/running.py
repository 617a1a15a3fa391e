"""Commands that make runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from tyro.conf import Positional, arg

from lmcollapse import processes
from lmcollapse.cli.common import ConfigFile, Executor, Overrides, on_stderr
from lmcollapse.executors.where import Where
from lmcollapse.files import inside
from lmcollapse.types import Ended, UserError

if TYPE_CHECKING:
    from lmcollapse.sweeps import Outcome, Sweep


def run(
    config: ConfigFile,
    overrides: Overrides = (),
    *,
    out: Path | None = None,
    figures: bool = True,
) -> None:
    """Run an experiment, or go on with it where it was left.

    Args:
        config: the experiment, a YAML file; ready ones are in `configs/`.
        overrides: laid over the file; sections are reached with dots, as in `train.epochs=2`.
        out: directory of the run; by default `runs/` and the name of the configuration.
        figures: draw the figures into the run's `figures/` at the end.
    """
    from lmcollapse.config import load
    from lmcollapse.loop import run
    from lmcollapse.progress import Terminal
    from lmcollapse.records import members_of, read_metrics

    experiment = load(config, overrides)
    out = out or Path("runs") / config.stem
    if not processes.is_first():
        run(experiment, out)
        return
    try:
        with Terminal() as progress:
            run(experiment, out, progress)
    except Ended:  # what there is up to there is the result
        if figures and all(read_metrics(member) for member in members_of(out)):
            _draw(out)
        raise
    print(f"run: {out}")
    if figures:
        _draw(out)


def _draw(out: Path) -> None:
    """The figures of a run or of a sweep into its own `figures/`."""
    from lmcollapse.figures import plot
    from lmcollapse.sweeps import runs_in

    folder = inside(out / "figures", out)
    plot(runs_in(out), folder)
    print(f"figures: {folder}")


def sweep(
    file: Positional[Annotated[Path, arg(metavar="SWEEP.yaml")]],
    overrides: Overrides = (),
    *,
    out: Path | None = None,
    where: Executor = Where(),  # noqa: B008
    dry_run: bool = False,
    figures: bool = True,
) -> None:
    """Run every condition with every seed, and what they have in common once; or go on with it.

    The same command in a second terminal, or as a job on another machine that sees the directory, takes the runs that
    nobody else is making; `--executor` has several made at once.

    Args:
        file: a configuration with a section `sweep`: seeds, conditions, grid, keep_models.
        overrides: laid over the file, as in `sampling.temperature=1` or `sweep.seeds=5`.
        out: directory of the sweep; by default `runs/` and the name of the file.
        where: what makes the runs.
        dry_run: say what there is to do and, from a short calibration, how long it takes and how large it gets.
        figures: draw the figures into the sweep's `figures/` at the end.
    """
    from lmcollapse.sweeps import load_sweep

    planned = load_sweep(file, out or Path("runs") / file.stem, overrides)
    if dry_run:
        foretold(planned, where)
        return
    outcome = carried_out(planned, where)
    if outcome is None:
        return
    print(f"sweep: {planned.out}")
    if outcome.elsewhere:
        print(f"other processes are making {len(outcome.elsewhere)} of the runs: {', '.join(outcome.elsewhere)}")
    elif figures and planned.runs:
        _draw(planned.out)
    if outcome.failed:
        sys.exit(1)


def carried_out(planned: Sweep, where: Where, *, stderr: bool = False) -> Outcome | None:
    """What came of the runs of a sweep, failures told; None in a process that speaks not."""
    from lmcollapse.executors.carry_out import carry_out
    from lmcollapse.progress import Terminal, printable

    if not processes.is_first():
        carry_out(planned, where)
        return None
    with Terminal(Console(stderr=stderr, highlight=False)) as progress:
        outcome = carry_out(planned, where, progress)
    for name, why in outcome.failed.items():
        print(printable(f"failed: {name}: {why}"), file=sys.stderr)
    return outcome


def foretold(planned: Sweep, where: Where) -> None:
    """Print what a sweep stands for, how long it will take and how large it will be."""
    from lmcollapse.executors.where import as_a_worker
    from lmcollapse.forecast import described, forecast

    if processes.count() > 1:
        raise UserError("--dry-run measures one process; give the same command without torchrun")
    workers = as_a_worker(where)
    with on_stderr() as progress:
        found = forecast(planned, progress)
    print("\n".join(described(planned, found, workers)))
    if where.executor == "ray":
        print("how many of the runs the Ray cluster makes at once was not asked")
