"""Figures for papers, drawn from run directories; matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lmcollapse.catalog import CATALOG, find
from lmcollapse.types import UserError


def plot(runs: Sequence[Path], out: Path) -> list[Path]:
    """Draw every figure of the catalogue from one run, or from several laid over each other; return the files.

    runs : run directories.
    out : directory for the figures, PNG and PDF; made where it is missing, files of the same names are replaced.

    Raises UserError where `results.table` does, and where `out` cannot be written.
    """
    from lmcollapse.figures.style import save

    drawn = {stem: figure for name in CATALOG["figure"] for stem, figure in find("figure", name)(runs).items()}
    try:
        out.mkdir(parents=True, exist_ok=True)
        return [file for stem, figure in drawn.items() for file in save(figure, out, stem)]
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); give another directory with --out") from None
