"""Figures for papers, drawn from the tidy table alone; matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lmcollapse.catalog import CATALOG, find
from lmcollapse.types import UserError

if TYPE_CHECKING:
    import pandas as pd

By = Literal["condition", "run"]
CONDITIONS = "conditions.csv"
TABLES = (".parquet", ".csv")


def plot(given: Sequence[Path], out: Path, by: By = "condition") -> list[Path]:
    """Draw every figure of the catalogue from one run, from several laid over each other, or from their table alone.

    Returns the files: `results.parquet` and `results.csv`, which have every number that is shown (`lmcollapse.tidy`);
    of several seeds `conditions.csv`, means and paired differences (`pairs.by_condition`); each figure as PNG, PDF and
    SVG.

    given : run directories, or one table that an earlier call wrote.
    out : directory for the files; made where it is missing, files of the same names are replaced.
    by : whether three or more seeds of a condition are one line, or every run is.

    Raises UserError where `results.table` does, for a table that is none, and where `out` cannot be written.
    """
    from lmcollapse.figures.style import save
    from lmcollapse.files import write_atomically
    from lmcollapse.pairs import by_condition
    from lmcollapse.tidy import write_table

    found = table_of(given)
    drawn, conditions = draw(found, by), by_condition(found)
    try:
        out.mkdir(parents=True, exist_ok=True)
        files = write_table(found, out)
        if len(conditions):
            files.append(out / CONDITIONS)
            write_atomically(files[-1], conditions.to_csv(index=False, lineterminator="\n").encode())
        return [*files, *(file for stem, figure in drawn.items() for file in save(figure, out, stem))]
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); give another directory with --out") from None


def draw(found: pd.DataFrame, by: By = "condition") -> dict[str, Any]:
    """Every figure of the catalogue that there is something for in a tidy table, by the stem of its files."""
    if by == "run":
        found = found.assign(condition=found["run"])
    return {stem: figure for name in CATALOG["figure"] for stem, figure in find("figure", name)(found).items()}


def table_of(given: Sequence[Path]) -> pd.DataFrame:
    """The tidy table of run directories, or the one that is given."""
    from lmcollapse.tidy import read_table, tidy

    tables = [path for path in given if path.suffix in TABLES and not path.is_dir()]
    if not tables:
        return tidy(given)
    if len(given) > 1:
        raise UserError(f"{tables[0]} is a table and there are others beside it; give one table, or run directories")
    return read_table(tables[0])
