"""What each generation was trained on, by who wrote it, as a table and as stacked bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup, escape

from lmcollapse.figures.style import sequence_colours
from lmcollapse.records import RECORD, read_metrics, read_record
from lmcollapse.report.gather import Gathered, Told
from lmcollapse.report.text import visible
from lmcollapse.report.written import some
from lmcollapse.steps import folder_of
from lmcollapse.types import HUMAN, UserError

WIDTH, LINE, BAR, LEFT, RIGHT = 420, 17, 12, 30, 84
MODELS = "#440154"
"""The colour of rows of which it is not known which generation wrote them."""
BARS = 20
"""Generations that are drawn."""


@dataclass(frozen=True)
class Set:
    """The training set of a generation.

    rows : None for simple models, of which only the human share is known.
    origins : rows (or shares) by who wrote them, HUMAN (-1) for people, None for any model.
    """

    generation: int
    rows: int | None
    human_fraction: float
    origins: Mapping[int | None, float]

    @property
    def words(self) -> str:
        """The origins, those that follow each other with as many rows taken together."""
        if self.rows is None:
            return ""
        return ", ".join(f"{_who(first, last)}: {rows:,.0f}" for first, last, rows in _runs(self.origins))


@dataclass(frozen=True)
class Training:
    """The training sets of a run."""

    condition: int
    label: str
    seed: int
    sets: list[Set]
    bars: Markup


def training(gathered: Gathered) -> list[Training]:
    """Of the first run of each condition. UserError for records that cannot be read."""
    found = []
    for number, one in enumerate(gathered.conditions):
        run = one.first
        chosen = some(run.finished, BARS)
        sets = _of_chains(run, chosen) if run.kind == "chains" else [_of_generation(run, g) for g in chosen]
        found.append(Training(number, one.label, run.seed, sets, _bars(one.label, sets)))
    return found


def _of_generation(run: Told, generation: int) -> Set:
    record = read_record(run.path / folder_of(generation) / "train")
    try:
        assert record is not None
        facts = record["facts"]
        origins: dict[int | None, float] = {int(origin): int(rows) for origin, rows in facts["origins"].items()}
        return Set(generation, int(facts["rows"]), float(facts["human_fraction"]), dict(sorted(origins.items())))
    except (AssertionError, KeyError, TypeError, ValueError):
        raise UserError(
            f"{run.path / folder_of(generation) / 'train' / RECORD} is missing or damaged; the same `lmcollapse run` "
            "makes it again"
        ) from None


def _of_chains(run: Told, generations: list[int]) -> list[Set]:
    rows = read_metrics(run.path)
    shares = [(g, rows[g].get("human_fraction")) for g in generations]
    return [Set(g, None, share, {HUMAN: share, None: 1 - share}) for g, share in shares if share is not None]


def _who(first: int | None, last: int | None) -> str:
    if first == HUMAN:
        return "human"
    return f"generation {first}" if first == last else f"generations {first}–{last}"


def _runs(origins: Mapping[int | None, float]) -> list[tuple[int | None, int | None, float]]:
    """Origins as (first, last, rows of each), generations in a row with as many rows taken together."""
    found: list[tuple[int | None, int | None, float]] = []
    for origin, rows in origins.items():
        before = found[-1] if found else None
        together = (
            before is not None
            and None not in (origin, before[1])
            and origin - 1 == before[1] != HUMAN  # type: ignore[operator]
            and before[2] == rows
        )
        if together and before is not None:
            found[-1] = (before[0], origin, rows)
        else:
            found.append((origin, origin, rows))
    return found


def _bars(label: str, sets: list[Set]) -> Markup:
    """A bar a generation, as long as its training set: human rows first, then those of each generation."""
    most = max((sum(one.origins.values()) for one in sets), default=1) or 1
    last = max((one.generation for one in sets), default=0)
    colours = sequence_colours(range(last + 1))
    height = LINE * len(sets) + 4
    parts = [
        f'<svg class="bars" viewBox="0 0 {WIDTH} {height}" role="img" xmlns="http://www.w3.org/2000/svg">',
        f"<title>Training sets of {escape(visible(label))} by origin</title>",
    ]
    for place, one in enumerate(sets):
        top = LINE * place + 2
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{top + BAR - 2}" text-anchor="end">{one.generation}</text>')
        at = float(LEFT)
        for origin, rows in one.origins.items():
            size = (WIDTH - LEFT - RIGHT) * rows / most
            if size <= 0:
                continue
            paint = 'class="people"' if origin == HUMAN else f'fill="{MODELS if origin is None else colours[origin]}"'
            parts.append(f'<rect {paint} x="{at:.1f}" y="{top}" width="{size:.1f}" height="{BAR}"/>')
            at += size
        share = f"{100 * one.human_fraction:.3g} %"
        parts.append(f'<text class="tick" x="{at + 5:.1f}" y="{top + BAR - 2}">{share} human</text>')
    return Markup("".join([*parts, "</svg>"]))
