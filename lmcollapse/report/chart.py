"""One measure as an SVG that needs no script: what print and readers without JavaScript see, and what is first seen.

`page.js` draws the same from the same data, to the width of the window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from markupsafe import Markup, escape

from lmcollapse.report.text import visible

MARKERS = (
    "M-3,0a3,3 0 1,0 6,0a3,3 0 1,0 -6,0z",
    "M-2.7,-2.7h5.4v5.4h-5.4z",
    "M0,-3.8L3.8,0L0,3.8L-3.8,0z",
    "M0,-3.6L3.4,2.6H-3.4z",
    "M0,3.6L3.4,-2.6H-3.4z",
    "M-1.2,-3.4h2.4v2.2h2.2v2.4h-2.2v2.2h-2.4v-2.2h-2.2v-2.4h2.2z",
    "M-3.4,-2L-2,-3.4L0,-1.4L2,-3.4L3.4,-2L1.4,0L3.4,2L2,3.4L0,1.4L-2,3.4L-3.4,2L-1.4,0z",
)
"""Circle, square, diamond, triangles, plus and cross, as the figures have them; one for each colour."""
DASHES = ("", "6 3", "1.5 2.5", "6 3 1.5 3")
"""After as many conditions as there are colours, they come again with another dash."""
MARKED = 30
"""Generations up to which each has a marker."""
LOG_X_FROM = 60
"""Generations from which on they stand on a logarithmic axis of fits."""
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 8, 34

FACTORS, LEAST_TICKS = ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)), 4
"""On a logarithmic axis ticks stand at the first of these, times powers of ten, that gives as many; else evenly."""

Place = Callable[[float], float]


def style_of(condition: int) -> str:
    """The class that gives a condition its colour and dash."""
    return f"c{condition % len(MARKERS)} d{condition // len(MARKERS) % len(DASHES)}"


def ticks(low: float, high: float, log: bool) -> list[float]:
    """Round numbers between low and high: 1, 2, 5 times a power of ten."""
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        step = max(1, math.ceil((last - first) / 6))
        for factors in FACTORS:
            every = [factor * 10.0**n for n in range(first, last + 1, step) for factor in factors]
            found = [tick for tick in every if low <= tick <= high]
            if len(found) >= LEAST_TICKS:
                return found
        return ticks(low, high, False)
    raw = (high - low) / 5 or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    width = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    return [n * width for n in range(math.ceil(low / width - 1e-9), math.floor(high / width + 1e-9) + 1)]


def number(value: float) -> str:
    """A tick, or a value, as a person reads it."""
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3g}"
    shown = f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return shown.replace("-", "−")


def extent(measure: dict[str, Any], log: bool) -> tuple[float, float]:
    """What the vertical axis must hold."""
    rows = [row for run in measure["runs"] for row in run]
    rows += [row for mean in measure["means"] if mean for row in mean]
    rows += [row for name in ("drift", "theory") for row in measure[name] if row]
    rows += measure["human"]
    known = [value for row in rows for value in row if value is not None and (not log or value > 0)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    if log:
        return low / 1.1, high * 1.1
    low, high = min(0.0, 1.05 * low), max(0.0, 1.05 * high)
    return (low, high) if high > low else (low, low + 1)


def chart(
    measure: dict[str, Any], lines: Sequence[Any], generations: Sequence[int], *, width: int, height: int
) -> Markup:
    """A measure of all conditions over the generations."""
    log, log_x = measure["log"], generations[-1] >= LOG_X_FROM
    low, high = extent(measure, log)
    y = _scale(low, high, height - BOTTOM, TOP, log)
    first, last = (1, generations[-1] + 1) if log_x else (0, max(1, generations[-1]))
    across = _scale(first, last, LEFT + 6, width - RIGHT - 6, log_x)

    def x(generation: float) -> float:
        return across(generation + 1 if log_x else generation)

    xs = [x(generation) for generation in generations]
    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" xmlns="http://www.w3.org/2000/svg">',
        f"<title>{escape(visible(measure['label']))} by generation</title>",
        *_axes((low, high), (first, last), log, log_x, y, across, width, height),
        *_human(measure["human"], y, log, width),
        *_curves(measure, lines, xs, y, log),
        "</svg>",
    ]
    return Markup("".join(parts))


def _scale(low: float, high: float, start: float, end: float, log: bool) -> Place:
    change: Place = math.log if log else float
    a, b = change(low), change(high)
    return lambda value: start + (end - start) * (change(value) - a) / ((b - a) or 1)


def _axes(
    vertical: tuple[float, float],
    horizontal: tuple[float, float],
    log: bool,
    log_x: bool,
    y: Place,
    across: Place,
    width: int,
    height: int,
) -> Iterator[str]:
    for tick in ticks(*vertical, log):
        at = y(tick)
        yield f'<path class="grid" d="M{LEFT},{at:.1f}H{width - RIGHT}"/>'
        yield f'<text class="tick" x="{LEFT - 5}" y="{at + 3.5:.1f}" text-anchor="end">{number(tick)}</text>'
    for tick in ticks(*horizontal, log_x):
        if log_x or tick == round(tick):
            at, below = across(tick), height - BOTTOM + 15
            yield f'<text class="tick" x="{at:.1f}" y="{below}" text-anchor="middle">{tick:,g}</text>'
    word = "fits (generation + 1)" if log_x else "generation"
    yield f'<text class="tick" x="{(LEFT + width - RIGHT) / 2}" y="{height - 4}" text-anchor="middle">{word}</text>'
    yield f'<path class="axis" d="M{LEFT},{TOP}V{height - BOTTOM}H{width - RIGHT}"/>'


def _human(human: Sequence[Sequence[float | None]], y: Place, log: bool, width: int) -> Iterator[str]:
    for value, low, high in human:
        if low is not None and high is not None and (not log or low > 0):
            yield (
                f'<rect class="human" x="{LEFT}" y="{y(high):.1f}" width="{width - LEFT - RIGHT}" '
                f'height="{y(low) - y(high):.1f}"/>'
            )
        if value is not None and (not log or value > 0):
            yield f'<path class="humanline" d="M{LEFT},{y(value):.1f}H{width - RIGHT}"/>'


def _curves(measure: dict[str, Any], lines: Sequence[Any], xs: Sequence[float], y: Place, log: bool) -> Iterator[str]:
    def points(row: Sequence[float | None]) -> list[tuple[float, float] | None]:
        return [None if v is None or (log and v <= 0) else (x, y(v)) for x, v in zip(xs, row, strict=True)]

    for number_, (mean, drift, theory) in enumerate(
        zip(measure["means"], measure["drift"], measure["theory"], strict=True)
    ):
        own = [run for run, (condition, _) in zip(measure["runs"], lines, strict=True) if condition == number_]
        style = style_of(number_)
        yield f'<g class="{style}">'
        for _, low, high in [mean] if mean else own:
            yield _band(points(low), points(high))
        for value, _, _ in own:
            yield f'<path class="{"thin" if mean else "line"}" d="{_path(points(value))}"/>'
        for row, kind in ((drift, "drift"), (theory, "theory")):
            if row:
                yield f'<path class="{kind}" d="{_path(points(row))}"/>'
        shown = [mean[0]] if mean else [value for value, _, _ in own]
        if mean:
            yield f'<path class="line" d="{_path(points(mean[0]))}"/>'
        if len(xs) <= MARKED:
            marker = MARKERS[number_ % len(MARKERS)]
            for point in (point for row in shown for point in points(row) if point):
                yield f'<path class="marker" transform="translate({point[0]:.1f},{point[1]:.1f})" d="{marker}"/>'
        yield "</g>"


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    """A line with gaps where there is no value."""
    drawn, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        drawn.append(f"{pen}{point[0]:.1f},{point[1]:.1f}")
        pen = "L"
    return "".join(drawn)


def _band(low: Sequence[tuple[float, float] | None], high: Sequence[tuple[float, float] | None]) -> str:
    stretches: list[list[tuple[tuple[float, float], tuple[float, float]]]] = [[]]
    for a, b in zip(low, high, strict=True):
        if a is None or b is None:
            stretches.append([])
        else:
            stretches[-1].append((a, b))
    outlines = [
        "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in [*(a for a, _ in s), *(b for _, b in reversed(s))]) + "Z"
        for s in stretches
        if len(s) > 1
    ]
    return f'<path class="band" d="{"".join(outlines)}"/>' if outlines else ""
