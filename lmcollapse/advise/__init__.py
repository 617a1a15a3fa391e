"""How much human text must be kept? Runs of the shares and seeds that it takes, and an answer with an interval.

question.py says what is asked and refuses what cannot be answered, plan.py makes the runs, curve.py fits a curve to
them, conclusion.py says what follows, exact.py what theory says, detectors.py what a detector would be worth,
tables.py how it is told.
"""

from __future__ import annotations

from pathlib import Path

from lmcollapse import processes
from lmcollapse.advise.conclusion import Advice, conclude
from lmcollapse.advise.plan import Plan, carry_out, described, estimate, plan
from lmcollapse.advise.question import Question, check, check_reading, measure_of
from lmcollapse.config import Config
from lmcollapse.files import write_atomically, write_json
from lmcollapse.records import read_metrics
from lmcollapse.sweeps.work import OneOfMany
from lmcollapse.types import Progress, Silent

__all__ = ["Advice", "Plan", "Question", "advise", "conclude", "described", "estimate", "planned_runs"]

SHARES, RUNS, ADVICE = "shares.csv", "runs.csv", "advice.json"


def advise(config: Config, out: Path, question: Question | None = None, progress: Progress | None = None) -> Advice:
    """The smallest human share that keeps a measure, in the last generation, within a loss of the all-human baseline.

    Runs what is missing below `out`, so that the same call goes on where it was left, and writes `shares.csv`,
    `runs.csv` and `advice.json` there. Before it begins it says how long the rest takes, measured on generation 0.
    Raises UserError for a question that cannot be answered, as far as possible before any compute is spent.
    """
    question = question or Question()
    planned = planned_runs(config, out, question)
    measure = measure_of(config, question)
    watched = OneOfMany(progress or Silent(), measure)
    first = next(iter(planned.starts.values()), planned.cells[1])  # the baseline of chains is quicker than all others
    if estimate(planned).seconds is None:
        carry_out(first, planned, watched)
    for line in described(planned, estimate(planned)):
        watched.say(line)
    for cell in planned.cells:
        for made in (planned.starts.get(cell.seed), cell):
            if made is not None and (made is cell or not made.done):
                carry_out(made, planned, watched)
                check_reading(measure, read_metrics(made.path))
    found = conclude(planned)
    if processes.is_first():
        write_atomically(out / SHARES, found.shares.to_csv(index=False).encode())
        write_atomically(out / RUNS, found.runs.to_csv(index=False).encode())
        write_json(out / ADVICE, found.as_json())
    return found


def planned_runs(config: Config, out: Path, question: Question) -> Plan:
    """The plan of a question that can be answered; nothing is run."""
    check(config, question)
    return plan(config, out, question)
