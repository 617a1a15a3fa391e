"""What finished runs say: the loss of each share, the smallest share that is enough, and what would tell more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lmcollapse.advise.curve import Answer, Curve, answer, between, fit, seeds_to_decide, undecided
from lmcollapse.advise.detectors import worth
from lmcollapse.advise.exact import exact_curve, exact_losses, exact_share
from lmcollapse.advise.plan import Cell, Plan
from lmcollapse.advise.question import Question, Scale, kind_of, measure_of, scale_of
from lmcollapse.results import names, table
from lmcollapse.types import UserError


@dataclass(frozen=True)
class Advice:
    """What the runs say.

    measure, loss, policy, generations, keep : what was asked; the measure is that of the last generation.
    shares : one row a share: `share`, `seeds`, `value` (mean over seeds), `loss` with its 95 % interval `low` and
        `high`, `fitted`, the band `band_low` and `band_high`, `exact` (by theory, NaN where it has none). Losses
        are relative.
    runs : one row a run: `share`, `seed`, `value`, `loss`.
    answer : the smallest human share that is enough.
    exact : the same by theory, where it is known.
    theory : `share` and `loss` by theory, at as many shares as a figure needs.
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
    theory: pd.DataFrame | None
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
        enough = f"at most {high:g}" if high < 1 else "no share below 1 is shown to be enough"
        too_little = f"more than {low:g}" if self.answer.shown else "none is shown to be too little"
        return f"about {share}; {too_little}, {enough}"

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


def conclude(planned: Plan) -> Advice:
    """What finished runs say."""
    config, question = planned.config, planned.question
    measure = measure_of(config, question)
    scale = scale_of(measure)
    shares = np.array(question.grid)
    values = _values(planned.cells, measure, config.generations - 1)
    baseline = values.loc[1.0].to_numpy()
    if unknown := int(np.isnan(baseline).sum()):
        raise UserError(
            f"{measure} of the all-human baseline has no value in generation {config.generations - 1} for {unknown} of "
            f"{len(baseline)} seeds, so that nothing can be compared with it; `lmcollapse status {planned.out}` says "
            "what has become of these runs"
        )
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
    runs = values.reset_index().melt(id_vars="share", var_name="seed", value_name="value")
    return Advice(
        measure=measure,
        scale=scale,
        loss=question.loss,
        policy=kind_of(config, question),
        generations=config.generations,
        keep=question.keep,
        shares=per_share,
        runs=runs.assign(loss=scale.relative(losses).ravel(order="F")),
        curve=curve,
        answer=found,
        exact=exact_share(config, question),
        theory=exact_curve(config, question),
        detectors=worth((found.share, found.low, found.high), question.keep),
        next_steps=_next_steps(curve, found, threshold, question),
    )


def _values(cells: Sequence[Cell], measure: str, generation: int) -> pd.DataFrame:
    """The measure in a generation: a row a share, a column a seed; NaN where a run has none."""
    paths = [cell.path.resolve() for cell in cells if cell.done]
    found = table(paths)
    found = found[(found["measure"] == measure) & (found["generation"] == generation)]
    named = dict(zip(names(paths), paths, strict=True))
    values = {named[run]: value for run, value in zip(found["run"], found["value"], strict=True)}
    rows = [(cell.share, cell.seed, values.get(cell.path.resolve())) for cell in cells]
    frame = pd.DataFrame(rows, columns=["share", "seed", "value"]).astype({"value": float})
    return frame.pivot(index="share", columns="seed", values="value")


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
