"""The page: everything above put into one HTML file that asks nothing of a network."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import lmcollapse
from lmcollapse.figures.style import COLOURS
from lmcollapse.report import chart
from lmcollapse.report.curves import Curves
from lmcollapse.report.text import embedded, visible
from lmcollapse.report.written import some

GLANCE = 6
"""Measures that are drawn small, before the one that can be explored."""
TABLE_ROWS = 24
"""Generations in the table of a curve."""


def render(curves: Curves, **parts: Any) -> bytes:
    """The page, the same bytes for the same parts.

    parts : what the template shows beside the curves.
    """
    css, script = _own("style.css").replace("/*colours*/", _colours()), _own("page.js")
    environment = Environment(
        loader=PackageLoader("lmcollapse.report", "."),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = some(len(curves.generations), TABLE_ROWS)
    first = curves.measures[0]
    page = environment.get_template("template.html").render(
        parts,
        curves=curves,
        data=Markup(embedded(_as_json(curves, shown))),
        glance=[(m["label"], _chart(curves, m, 330, 215)) for m in curves.measures[:GLANCE]],
        explored=_chart(curves, first, 640, 360),
        table=value_table(curves, first, shown),
        differences=difference_table(curves, first, shown) if curves.against else None,
        has=lambda part: any(one is not None for measure in curves.measures for one in measure[part]),
        style_of=chart.style_of,
        marker_of=lambda condition: chart.MARKERS[condition % len(chart.MARKERS)],
        css=Markup(css),
        script=Markup(script),
        policy=_policy(css, script),
        version=lmcollapse.__version__,
    )
    return page.encode()


def _finalize(value: Any) -> Any:
    """Whatever is shown and is not markup of our own shows what it holds, and steers nothing."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _own(name: str) -> str:
    return files("lmcollapse.report").joinpath(name).read_text(encoding="utf-8")


def _colours() -> str:
    """The figures' colours as classes; black turns white where the page is dark."""
    return "".join(f".c{n}{{--c:{'var(--ink)' if c == '#000000' else c}}}" for n, c in enumerate(COLOURS))


def _policy(css: str, script: str) -> str:
    """What a browser may do with the page: this style and this script, images that are in it, and nothing else."""

    def digest(content: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() + "'"

    return (
        f"default-src 'none'; style-src {digest(css)}; script-src {digest(script)}; img-src data:; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'"
    )


def _chart(curves: Curves, measure: dict[str, Any], width: int, height: int) -> Markup:
    return chart.chart(measure, curves.lines, curves.generations, width=width, height=height)


def _as_json(curves: Curves, shown: list[int]) -> dict[str, Any]:
    """What the script draws from; every name as it may be shown."""
    found = {
        **curves.as_json(),
        "conditions": curves.conditions,
        "against": curves.against,
        "shown": shown,
        "markers": chart.MARKERS,
        "marked": chart.MARKED,
        "logX": curves.generations[-1] >= chart.LOG_X_FROM,
    }
    safe: dict[str, Any] = _shown(found)
    return safe


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(key): _shown(part) for key, part in value.items()}
    return [_shown(part) for part in value] if isinstance(value, list | tuple) else value


Table = tuple[list[str], list[tuple[str, list[tuple[str, str]]]]]
"""Headings, and rows of a heading and cells; a cell is a value with its interval, and the values of its seeds."""


def value_table(curves: Curves, measure: dict[str, Any], shown: list[int]) -> Table:
    """A measure by generation: a column a condition where seeds are taken together, else one a run."""
    headings: list[str] = []
    columns: list[list[tuple[str, str]]] = []
    for number, (name, mean) in enumerate(zip(curves.conditions, measure["means"], strict=True)):
        own = [(run, line) for run, (of, line) in zip(measure["runs"], curves.lines, strict=True) if of == number]
        if mean:
            headings.append(name)
            seeds = [[_value(run[0][place]) for run, _ in own] for place in shown]
            columns.append([(_cell(mean, p), " · ".join(each)) for p, each in zip(shown, seeds, strict=True)])
        else:
            headings += [f"{name}, {line}" if len(own) > 1 else name for _, line in own]
            columns += [[(_cell(run, place), "") for place in shown] for run, _ in own]
    rows = [(str(curves.generations[p]), [column[i] for column in columns]) for i, p in enumerate(shown)]
    return headings, rows


def difference_table(curves: Curves, measure: dict[str, Any], shown: list[int]) -> Table:
    """Paired differences by generation, a column a condition."""
    found = [(name, of) for name, of in zip(curves.conditions, measure["differences"], strict=True) if of]
    alike = [len({seeds for seeds in of[3] if seeds is not None}) < 2 for _, of in found]
    headings = [
        f"{name} ({_of_seeds(next((seeds for seeds in of[3] if seeds is not None), None))})" if same else name
        for (name, of), same in zip(found, alike, strict=True)
    ]
    rows = [
        (
            str(curves.generations[place]),
            [
                (_cell(of, place), "" if same else _of_seeds(of[3][place]))
                for (_, of), same in zip(found, alike, strict=True)
            ],
        )
        for place in shown
    ]
    return headings, rows


def _of_seeds(seeds: float | None) -> str:
    return "" if seeds is None else f"{seeds:.0f} seed{'s' if seeds != 1 else ''}"


def _value(value: float | None) -> str:
    return "–" if value is None else chart.number(value)


def _cell(of: list[list[float | None]], place: int) -> str:
    low, high = of[1][place], of[2][place]
    return _value(of[0][place]) + (f" [{_value(low)}, {_value(high)}]" if None not in (low, high) else "")
