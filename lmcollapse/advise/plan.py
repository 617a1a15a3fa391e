"""The runs that an answer needs: which there are, what is left of them, how long that takes and how large it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lmcollapse.advise.question import Question, at_share, kind_of, variant, with_policy
from lmcollapse.config import Config
from lmcollapse.costs import cost, costs, in_bytes, size_of
from lmcollapse.loop import run
from lmcollapse.progress import span
from lmcollapse.records import LOCK, read_metrics
from lmcollapse.sharing import Peers
from lmcollapse.steps import BEFORE
from lmcollapse.store import Part
from lmcollapse.sweeps.work import OneOfMany
from lmcollapse.types import Ended, UserError


@dataclass(frozen=True)
class Cell:
    """One run: a human share and a seed. share : None for generation 0 alone, which all shares of a seed begin with."""

    share: float | None
    seed: int
    config: Config
    path: Path

    @property
    def name(self) -> str:
        """As a person following it reads it."""
        return f"seed {self.seed}" if self.share is None else f"share {self.share:g}, seed {self.seed}"

    @property
    def done(self) -> int:
        """Generations that are finished."""
        return len(read_metrics(self.path))


@dataclass(frozen=True)
class Plan:
    """All runs. In a directory a seed: `generation_0`, and `share_S` for each share.

    cells : seed by seed, the baseline first.
    starts : by seed, the run of generation 0 alone; none for chains, which take no time to speak of.
    """

    config: Config
    question: Question
    out: Path
    cells: tuple[Cell, ...]
    starts: Mapping[int, Cell]

    @property
    def generations(self) -> int:
        """That are fitted, once all that runs have in common is made once."""
        common = len(self.cells) - len(self.starts) if self.starts else 0
        return len(self.cells) * self.config.generations - common


@dataclass(frozen=True)
class Estimate:
    """What is left to be done. seconds, size : None where nothing was measured yet.

    generations : that are still to be fitted.
    size : bytes of the whole directory in the end.
    """

    generations: int
    seconds: float | None
    size: float | None


def plan(config: Config, out: Path, question: Question) -> Plan:
    """The runs of a question, in the order in which they are made.

    The baseline is the same policy at a share of 1. For `mix` that is the policy `human` to the byte: all rows of the
    human part, and as many optimizer steps as at every other share; so all runs differ in one number alone.
    """
    if (out / LOCK).exists():
        raise UserError(f"{out} is a run; advice has a directory of its own, with many runs: give another with --out")
    cells, starts = [], {}
    mixed, first = with_policy(config, question), variant(config, generations=1, policy={"kind": "human"})
    for seed in range(config.seed, config.seed + question.seeds):
        folder = out / f"seed_{seed}"
        if not config.of_chains:
            starts[seed] = Cell(None, seed, first.model_copy(update={"seed": seed}), folder / "generation_0")
        for share in reversed(question.grid):
            cells.append(Cell(share, seed, at_share(mixed, share, seed=seed), folder / f"share_{share:g}"))
    return Plan(config, question, out, tuple(cells), starts)


def carry_out(cell: Cell, plan: Plan, progress: OneOfMany) -> None:
    """Make a run, or go on with it. One that ends early has no value in the last generation, and others go on."""
    progress.name = cell.name
    peers = Peers(tuple(made.path for made in (*plan.starts.values(), *plan.cells)), plan.out / ".locks")
    try:
        run(cell.config, cell.path, progress, Part(peers=peers))
    except Ended as error:
        progress.say(f"{cell.name}: {error}; its loss counts as unknown")


def estimate(plan: Plan) -> Estimate:
    """What is left, and how long and how large that is by what the generations that are there took.

    Later generations tell of the rest; where there are none, generation 0 does. Human text, base model and references
    are made once a seed.
    """
    first = [cost for start in plan.starts.values() for cost in costs(start.path)]
    later = [cost for cell in plan.cells for cost in costs(cell.path)[1 if plan.starts else 0 :]]
    shared = 1 if plan.starts else 0
    left = sum(cell.config.generations - max(cell.done, shared) for cell in plan.cells)
    to_start = sum(1 - start.done for start in plan.starts.values())
    measured = later or first
    if not measured:
        return Estimate(left + to_start, None, None)
    before = [cost([start.path / name for name in BEFORE]) for start in plan.starts.values() if start.done]
    seconds, size = (
        left * _mean(measured, part) + to_start * (_mean(first, part) + _mean(before, part)) for part in (0, 1)
    )
    return Estimate(left + to_start, seconds, size + size_of(plan.out))


def described(plan: Plan, expected: Estimate) -> list[str]:
    """The plan in lines for a person: how many runs and generations, how long, how large."""
    question, generations = plan.question, plan.config.generations
    shares = ", ".join(f"{share:g}" for share in question.grid)
    lines = [
        f"human shares {shares} ({kind_of(plan.config, question)}), {question.seeds} seeds: {len(plan.cells)} runs "
        f"of {generations:,} generations in {plan.out}",
        f"{plan.generations:,} generations to fit, {expected.generations:,} of them left"
        + (", generation 0 once a seed" if plan.starts else ""),
    ]
    if expected.seconds is None or expected.size is None:
        return [*lines, "how long and how large: not measured yet, nothing is there; the first run will tell"]
    took = span(expected.seconds) if expected.generations else "nothing is left to do"
    return [
        *lines,
        f"about {took} left, {in_bytes(expected.size)} on disk in the end" if expected.generations else took,
    ]


def _mean(costs: list[tuple[float, float]], part: int) -> float:
    return sum(cost[part] for cost in costs) / len(costs) if costs else 0.0
