"""How much human text must be kept? Runs of the shares and seeds that it takes, and an answer with an interval.

question.py says what is asked and refuses what cannot be answered, plan.py makes the runs, curve.py draws the conclusion,
detectors.py says what a detector would be worth.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmcollapse import processes
from lmcollapse.advise.curve import Answer, Curve, answer, between, fit, seeds_to_decide, undecided
from lmcollapse.advise.detectors import worth
from lmcollapse.advise.plan import Cell, Plan, carry_out, described, estimate, plan
from lmcollapse.advise.question import (
    Question,
    Scale,
    check,
    check_reading,
    kind_of,
    measure_of,
    policy_of,
    scale_of,
    variant,
)
from lmcollapse.config import Config
from lmcollapse.files import write_atomically, write_json
from lmcollapse.results import names, table
from lmcollapse.store import read_metrics
from lmcollapse.theory import expected
from lmcollapse.types import Floats, Progress, Silent, UserError

SHARES, RUNS, ADVICE = "shares.csv", "runs.csv", "advice.json"


@dataclass(frozen=True)
class Advice:
    """What the runs say.

    measure, loss, policy, generations, keep : what was asked; the measure is that of the last generation.
    shares : one row a share: `share`, `seeds`, `value` (mean over seeds), `loss` with its 95 % interval `low` and `high`,
        `fitted`, the band `band_low` and `band_high`, `exact` (by theory, NaN where none is known). Losses are relative.
    runs : one row a run: `share`, `seed`, `value`, `loss`.
    answer : the smallest human share that is enough.
    exact : the same by theory, where it is known.
    detectors : see `detectors.worth`.
    next_steps : what would narrow the interval; nothing where it is narrow.
    """

    measure: str
    scale: Scale
    loss: float
    policy: str
    generations: int
    keep: float
    shares: pd.DataFrame
    runs: pd.DataFrame
    curve: Curve
    answer: Answer
    exact: float | None
    detectors: pd.DataFrame
    next_steps: list[str]

    @property
    def sentence(self) -> str:
        """The answer in words."""
        smallest, largest = (float(share) for share in self.shares["share"].iloc[[0, -2]])
        low, high, share = self.answer.low, self.answer.high, f"{self.answer.share:.2g}"
        if high == 0:
            return "any share is enough, even none"
        if high <= smallest:
            return f"{smallest:g} is enough, and no smaller share was run"
        if self.answer.shown and low == largest:
            return f"more than {largest:g}"
        if high == 1:
            return f"about {share}, but no share below 1 is shown to be enough; " + (
                f"more than {low:g}" if self.answer.shown else "none is shown to be too little either"
            )
        return f"about {share}, " + (
            f"between {low:g} and {high:g}" if self.answer.shown else f"at most {high:g}; it may be none at all"
        )

    def as_json(self) -> dict[str, Any]:
        """All of it, JSON-able; what is not known is null."""
        found = self.answer
        return {
            "measure": self.measure,
            "worse": self.scale.worse,
            "loss": self.loss,
            "policy": self.policy,
            "generations": self.generations,
            "share": _finite(found.share),
            "low": found.low,
            "high": found.high,
            "low_is_too_little": found.shown,
            "sentence": self.sentence,
            "exact": self.exact,
            "next": self.next_steps,
            "keep": self.keep,
            **{
                name: [{key: _finite(value) for key, value in row.items()} for row in frame.to_dict("records")]
                for name, frame in (("shares", self.shares), ("runs", self.runs), ("detectors", self.detectors))
            },
        }


def advise(config: Config, out: Path, question: Question | None = None, progress: Progress | None = None) -> Advice:
    """The smallest human share that keeps a measure within a loss of what human text alone gives, after all generations.

    Runs what is missing below `out`, so that the same call goes on where it was left, and writes `shares.csv`,
    `runs.csv` and `advice.json` there. Before it begins it says how long the rest takes, measured on generation 0.
    Raises UserError for a question that cannot be answered, as far as possible before any compute is spent.
    """
    question, progress = question or Question(), progress or Silent()
    planned = planned_runs(config, out, question)
    first = next(iter(planned.starts.values()), planned.cells[0])
    if estimate(planned).seconds is None:
        carry_out(first, planned, progress)
    for line in described(planned, estimate(planned)):
        progress.say(line)
    for cell in planned.cells:
        start = planned.starts.get(cell.seed)
        if start is not None and not start.done:
            carry_out(start, planned, progress)
        if start is first or cell is planned.cells[0]:
            check_reading(measure_of(config, question), dict((read_metrics(first.path) or [{}])[0]))
        carry_out(cell, planned, progress)
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


def conclude(planned: Plan) -> Advice:
    """What finished runs say."""
    config, question = planned.config, planned.question
    measure = measure_of(config, question)
    scale = scale_of(measure)
    shares = np.array(question.grid)
    values = _values(planned.cells, measure, config.generations - 1)
    baseline = values.loc[1.0].to_numpy()
    if not (baseline > 0).all():
        raise UserError(
            f"{measure} of the all-human baseline is {', '.join(f'{value:.3g}' for value in baseline)} in generation "
            f"{config.generations - 1}: a relative loss needs values above 0; ask for another measure"
        )
    losses = scale.loss(values.to_numpy(), baseline)
    curve, threshold = fit(shares, losses), scale.threshold(question.loss)
    found = answer(curve, threshold)
    low, middle, high = (np.array([getattr(e, end) for e in curve.estimates]) for end in ("low", "value", "high"))
    per_share = pd.DataFrame(
        {
            "share": shares,
            "seeds": values.notna().sum(axis=1).to_numpy(),
            "value": values.mean(axis=1, skipna=False).to_numpy(),
            "loss": scale.relative(middle),
            "low": scale.relative(low),
            "high": scale.relative(high),
            "fitted": scale.relative(curve.fitted),
            "band_low": scale.relative(curve.low),
            "band_high": scale.relative(curve.high),
            "exact": exact_losses(config, question, shares),
        }
    )
    runs = values.stack(future_stack=True).rename("value").reset_index()
    return Advice(
        measure=measure,
        scale=scale,
        loss=question.loss,
        policy=kind_of(config, question),
        generations=config.generations,
        keep=question.keep,
        shares=per_share,
        runs=runs.assign(loss=scale.relative(losses).ravel()),
        curve=curve,
        answer=found,
        exact=exact_share(config, question),
        detectors=worth((found.share, found.low, found.high), question.keep),
        next_steps=_next_steps(curve, found, threshold, question),
    )


def exact_losses(config: Config, question: Question, shares: Floats) -> Floats:
    """The loss of each share by theory, relative; NaN where it is not known. Expected values stand for the measure."""
    measure, values = measure_of(config, question), []
    for share in (*shares, 1.0):
        there = expected(variant(config, policy=policy_of(config, question, float(share))), measure)
        values.append(np.nan if there is None else there[-1])
    scale = scale_of(measure)
    found: Floats = scale.relative(scale.loss(np.array(values[:-1]), np.array(values[-1])))
    return found


def exact_share(config: Config, question: Question) -> float | None:
    """The smallest share by theory, exact to the row: the losses are searched by halving, since they fall."""
    if np.isnan(exact_losses(config, question, np.array([1.0]))).any():
        return None
    rows = config.build_substrate().model_dump(mode="json")["rows"]
    low, high = -1, rows
    while high - low > 1:
        middle = (low + high) // 2
        enough = exact_losses(config, question, np.array([middle / rows]))[0] <= question.loss
        low, high = (low, middle) if enough else (middle, high)
    return float(high / rows)


def _values(cells: tuple[Cell, ...], measure: str, generation: int) -> pd.DataFrame:
    """The measure in a generation: a row a share, a column a seed; NaN where a run has none."""
    paths = [cell.path.resolve() for cell in cells]
    by_name = dict(zip(names(paths), cells, strict=True))
    found = table([cell.path for cell in cells])
    found = found[(found["measure"] == measure) & (found["generation"] == generation)]
    values = {by_name[run]: value for run, value in zip(found["run"], found["value"], strict=True)}
    rows = [(cell.share, cell.seed, values.get(cell, np.nan)) for cell in cells]
    return pd.DataFrame(rows, columns=["share", "seed", "value"]).pivot(index="share", columns="seed", values="value")


def _next_steps(curve: Curve, found: Answer, threshold: float, question: Question) -> list[str]:
    """What would narrow the interval: shares in between, or seeds where the interval of a share holds the threshold."""
    if not found.wide:
        return []
    lines = []
    places = undecided(curve, found)
    needed = {place: seeds_to_decide(curve, place, threshold) for place in places}
    decidable = {place: seeds for place, seeds in needed.items() if seeds is not None}
    if decidable:
        place = min(decidable, key=lambda place: decidable[place])
        lines.append(f"--seeds {decidable[place]}: as the seeds scatter, it decides share {curve.shares[place]:g}")
    elif places:
        listed = ", ".join(f"{curve.shares[place]:g}" for place in places)
        lines.append(f"the loss at {listed} is too near the one asked about for seeds to decide; ask for another loss")
    more = [share for share in between(found.low, found.high) if share not in question.grid]
    if more and not places:
        shares = ",".join(f"{share:g}" for share in sorted({*question.grid, *more}))
        lines.append(f"--shares {shares}: shares within the interval; what is there is kept")
    return lines


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
