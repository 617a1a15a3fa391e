"""Commands that make the runs that a question takes, and answer it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, arg

from lmcollapse import processes
from lmcollapse.cli.common import ConfigFile, Executor, Json, Overrides
from lmcollapse.cli.running import carried_out
from lmcollapse.executors.where import Where
from lmcollapse.files import inside
from lmcollapse.types import UserError


def advise(
    config: ConfigFile,
    overrides: Overrides = (),
    *,
    measure: str | None = None,
    loss: float = 0.05,
    generations: int | None = None,
    shares: str = "0,0.01,0.03,0.1,0.3,1",
    seeds: int = 3,
    policy: Literal["mix", "fresh"] | None = None,
    keep: float = 0.9,
    out: Path | None = None,
    dry_run: bool = False,
    figures: bool = True,
    json_: Json = False,
) -> None:
    """How much human text must be kept? Runs the human shares and seeds that it takes, and goes on with them.

    Args:
        config: the experiment, a YAML file; its policy gives way to the shares.
        overrides: laid over the file, as in `lmcollapse run`.
        measure: what must be kept: perplexity, tail_coverage, any other reading; by default perplexity, of simple
            models their variance, heterozygosity or risk.
        loss: how much worse than with human text alone it may be in the last generation, relative.
        generations: how many models each run fits, generation 0 included; by default the configuration's.
        shares: human shares to run; 1, the baseline, always is.
        seeds: runs of each share, with the configuration's seed and those after it.
        policy: mix (human rows drawn from the human part) or fresh (rows that no generation has read before); by
            default fresh where human data come from a distribution, else mix.
        keep: least part of the human text that a detector must let through.
        out: directory of the runs; by default `runs/advise-` and the name of the configuration.
        dry_run: say how many runs it takes, how long and how large, and run nothing.
        figures: draw the figure into `figures/` at the end.
        json_: print one JSON object.
    """
    from lmcollapse.advise import Question, advise, described, estimate, planned_runs
    from lmcollapse.advise.tables import advice_table
    from lmcollapse.config import load
    from lmcollapse.progress import Terminal

    given = overrides if generations is None else (*overrides, f"generations={generations}")
    question = Question(measure, loss, _numbers("shares", shares), seeds, policy, keep)
    experiment = load(config, given)
    out = out or Path("runs") / f"advise-{config.stem}"
    if dry_run:
        planned = planned_runs(experiment, out, question)
        print("\n".join(described(planned, estimate(planned))))
        return
    if not processes.is_first():
        advise(experiment, out, question)
        return
    with Terminal(Console(stderr=json_, highlight=False)) as progress:
        found = advise(experiment, out, question, progress)
    if json_:
        print(json.dumps(found.as_json()))
    else:
        Console(highlight=False).print("", advice_table(found))
    if figures:
        from lmcollapse.figures.advise import draw
        from lmcollapse.figures.style import save

        inside(out / "figures", out).mkdir(exist_ok=True)
        for file in save(draw(found), out / "figures", "advise"):
            print(file, file=sys.stderr if json_ else sys.stdout)


def reproduce(
    name: Positional[Annotated[str, arg(metavar="NAME")]],
    overrides: Overrides = (),
    *,
    scale: Literal["small", "paper"] = "small",
    out: Path | None = None,
    where: Executor = Where(),  # noqa: B008
    tables: Path | None = None,
    json_: Json = False,
) -> None:
    """Run a published experiment again, and hold the paper's claims to what comes out.

    Stopped, it goes on with the same command. At the end stand the paper's figure, redrawn from a small tidy table, and
    a verdict on each claim, with its interval over seeds.

    Args:
        name: nature-lm, nature-gaussian, nature-gmm, nature-vae, accumulate, collapse-or-thrive, detector, diversity,
            rate; or all of them: all.
        overrides: laid over the sweep, as in `sweep.seeds=5` or `generations=3`.
        scale: small (two cores, embedded data, minutes) or paper (the paper's models, data and sizes: a GPU, the hub).
        out: directory of the runs; by default `runs/`, the name and the scale.
        where: what makes the runs.
        tables: a folder with results.csv and reproduction.json of an earlier reproduction: nothing is run, claims and
            figure are made from them again, in the directory `out`.
        json_: print one JSON object.
    """
    from dataclasses import asdict

    from lmcollapse.figures.reproductions import draw_all
    from lmcollapse.reproductions.reproduce import NAMES, find
    from lmcollapse.reproductions.results import findings_table, judge, load, write

    if name == "all":
        if out is not None or tables is not None:
            raise UserError("'all' goes with no --out and no --tables, since each has a directory of its own")
        for each in NAMES:
            reproduce(each, overrides, scale=scale, where=where, json_=json_)
        return
    reproduction = find(name)
    out = out or Path("runs") / f"{name}-{scale}"
    if tables is not None:
        judged = load(reproduction, tables)
        runs: list[Path] = []
    else:
        sweep = reproduction.sweep(out, scale, overrides)
        outcome = carried_out(sweep, where, stderr=json_)
        if outcome is None:
            return
        if outcome.elsewhere:
            print(f"other processes are making {', '.join(outcome.elsewhere)}; come back when they are done")
            return
        if outcome.failed:
            print(f"{name} is not judged without them; give the same command again, and they are", file=sys.stderr)
            sys.exit(1)
        runs = sweep.runs
        words = ["lmcollapse", "reproduce", name, *overrides, *(["--scale", scale] if scale != "small" else [])]
        judged = judge(reproduction, runs, scale, " ".join(words))
    write(judged, inside(out / "results", out))
    files = draw_all(judged, runs, out / "results")
    if json_:
        print(json.dumps({**judged.about, "findings": [asdict(finding) for finding in judged.findings]}))
        return
    console = Console(highlight=False)
    console.print(f"\n{reproduction.paper.authors}, {reproduction.paper.title} (arXiv {reproduction.paper.arxiv})\n")
    console.print(findings_table(judged.findings))
    for file in (out / "results" / "findings.csv", out / "results" / "results.csv", *files):
        print(file)


def _numbers(name: str, given: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in given.split(","))
    except ValueError:
        raise UserError(f"{name} is '{given}'; give numbers with commas between them, as in --{name} 0,0.1,1") from None
