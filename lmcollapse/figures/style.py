"""What all figures share: sizes and type for a printed column, colours that everyone can tell apart, the legend, files.

Figures are made through matplotlib's objects, without pyplot, and with one style whatever the user's own settings are.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib import colormaps, style
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation, MaxNLocator, NullLocator

from lmcollapse.files import write_atomically

SINGLE, DOUBLE = 3.35, 6.9
"""Widths of one and of two columns of a paper, in inches."""

styled = style.context(
    [
        "default",
        {
            "font.size": 8,
            "axes.titlesize": 8,
            "axes.labelsize": 8,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "legend.fontsize": 7,
            "axes.linewidth": 0.6,
            "xtick.major.width": 0.6,
            "ytick.major.width": 0.6,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "0.9",
            "grid.linewidth": 0.6,
            "axes.axisbelow": True,
            "lines.linewidth": 1.2,
            "figure.constrained_layout.w_pad": 0.07,
            "savefig.dpi": 200,
            "pdf.fonttype": 42,  # TrueType: text stays text, as publishers ask
            "svg.hashsalt": "lmcollapse",  # else every file has names of its own
        },
    ]
)
"""Decorates every function that draws or saves."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, jfly.uni-koeln.de/color, without its yellow, which is too pale for a line on white."""
MARKERS = "osD^vPX"
DASHES = ("-", "--", ":", "-.")
PALE = 0.92
"""How far along the colour map the last generation is; its very end is too pale for print."""


def line_styles(runs: Sequence[str], generations: int) -> dict[str, dict[str, Any]]:
    """A colour and a marker for each run; after seven runs they come again with another dash."""
    return {
        run: {
            "color": COLOURS[i % len(COLOURS)],
            "marker": MARKERS[i % len(COLOURS)],
            "markersize": 3.5 if generations <= 10 else 2.2,
            "linestyle": DASHES[i // len(COLOURS) % len(DASHES)],
        }
        for i, run in enumerate(runs)
    }


def sequence_colours(generations: Sequence[int]) -> dict[int, str]:
    """A colour for each generation, from dark to pale."""
    return {
        generation: to_hex(colormaps["viridis"](PALE * place / max(len(generations) - 1, 1)))
        for place, generation in enumerate(generations)
    }


def plain(name: str, width: float, lines: int) -> str:
    """A name within so many inches and lines: wrapped, what is too much left out of its middle, `$` no mathematics."""
    characters = int(12 * width)
    most = characters * lines
    if len(name) > most:
        name = name[: (most - 1) // 2] + "…" + name[-(most // 2) :]
    return textwrap.fill(name, characters).replace("$", r"\$")


def legend(figure: Figure, styles: dict[str, dict[str, Any]]) -> None:
    """The runs below the panels, in as many columns as fit; the figure grows by the legend's height."""
    width, height = figure.get_size_inches()
    handles = [Line2D([], [], **options) for options in styles.values()]
    labels = [plain(name, width - 0.5, lines=2) for name in styles]
    for columns in range(len(labels), 0, -1):
        drawn = figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
        extent = drawn.get_window_extent()
        if extent.width <= width * figure.dpi or columns == 1:
            break
        drawn.remove()
    figure.set_size_inches(width, height + extent.height / figure.dpi)


def generation_axis(axis: Axis, generations: int) -> None:
    """Whole generations only, whether there is one or a hundred."""
    ticks = MaxNLocator(6, integer=True).tick_values(0, max(generations - 1, 1))
    axis.set_ticks([tick for tick in ticks if 0 <= tick < generations])


def log_axis(axis: Axis, low: float, high: float) -> tuple[float, float]:
    """Ticks at 1, 2, 5, 10 …, closer ones or powers of ten where this suits; return the ticks around low and high."""
    first, last = math.floor(math.log10(low)), min(math.ceil(math.log10(high)), 308)
    factors: tuple[float, ...] = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    if high > 3 * low:
        factors = (1,) if high > 300 * low else (1, 2, 5)
    step = max(1, math.ceil((last - first) / 6))
    ticks = [factor * 10.0**n for n in range(first - first % step, last + 1, step) for factor in factors]
    axis.set_ticks(ticks)
    axis.set_minor_locator(NullLocator())
    if first >= -4 and high < 1e5:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    else:
        axis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(math.inf, math.inf)))
    below = max((tick for tick in ticks if tick <= low), default=low)  # a logarithm may round up to a whole number
    return below, min((tick for tick in ticks if tick >= high), default=high)


@styled
def save(figure: Figure, folder: Path, stem: str) -> list[Path]:
    """Write a figure as PNG, PDF and SVG, the same bytes every time."""
    files = []
    for kind, metadata in [("png", {"Software": None}), ("pdf", {"CreationDate": None}), ("svg", {"Date": None})]:
        content = BytesIO()
        figure.savefig(content, format=kind, metadata=metadata)
        files.append(folder / f"{stem}.{kind}")
        write_atomically(files[-1], content.getvalue())
    return files
