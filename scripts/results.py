"""Write docs/results.md, and its figures, from the tidy tables in docs/tables/reproductions.

`python scripts/results.py RUNS` first takes over what `lmcollapse reproduce` has left in RUNS/NAME-small/results.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lmcollapse.figures.reproductions import draw
from lmcollapse.figures.style import save
from lmcollapse.reproductions.reproduce import NAMES, find
from lmcollapse.reproductions.results import ABOUT, FINDINGS, TABLE, Judged, as_markdown, load

DOCS = Path(__file__).parent.parent / "docs"
TABLES = DOCS / "tables" / "reproductions"
FIGURES = DOCS / "figures" / "reproductions"

INTRODUCTION = """# Published results, again

Each section is one `lmcollapse reproduce NAME` at its small scale: two cores, embedded data, no GPU. Its figure and its
verdicts follow from a small tidy table in `tables/reproductions/NAME/results.csv` alone: `lmcollapse reproduce NAME
--tables docs/tables/reproductions/NAME` makes them again, `scripts/results.py` this whole page.

Conditions of one seed share generation 0 and all random numbers. A value is the mean over seeds, its interval the 95 %
t-interval over seeds; differences between conditions are taken seed by seed. A claim *holds* where the whole interval
lies on the side that it names, *does not hold* where all of it lies on the other, and is *undecided* else. Claims are
tested one by one: of twenty that are wrong, one may seem to hold. What the papers report was read from public notes on
them, not from their own data.
"""


def take_over(runs: Path) -> None:
    """Copy the small tables of finished reproductions."""
    for name in NAMES:
        source = runs / f"{name}-small" / "results"
        if (source / ABOUT).is_file():
            (TABLES / name).mkdir(parents=True, exist_ok=True)
            for file in (TABLE, FINDINGS, ABOUT):
                shutil.copyfile(source / file, TABLES / name / file)


def summary(all_judged: list[Judged]) -> Iterator[str]:
    """One line a reproduction."""
    yield "| reproduction | claims that hold | that do not | undecided | seeds | minutes of computing |"
    yield "|---|---|---|---|---|---|"
    for judged in all_judged:
        counts = Counter(finding.verdict for finding in judged.findings)
        name, about = judged.reproduction.name, judged.about
        verdicts = " | ".join(str(counts[verdict]) for verdict in ("holds", "does not hold", "undecided"))
        yield f"| [{name}](#{name}) | {verdicts} | {about['seeds']} | {about['seconds'] / 60:.1f} |"
    yield ""


def page(all_judged: list[Judged]) -> str:
    """The page, without a trailing blank line."""
    parts = [INTRODUCTION, *summary(all_judged)]
    for judged in all_judged:
        parts += as_markdown(judged, [f"figures/reproductions/{judged.reproduction.name}.png"])
    return "\n".join(parts).rstrip() + "\n"


def main() -> None:
    """Tables, figures, page."""
    if sys.argv[1:]:
        take_over(Path(sys.argv[1]))
    all_judged = [load(find(name), TABLES / name) for name in NAMES if (TABLES / name / ABOUT).is_file()]
    FIGURES.mkdir(parents=True, exist_ok=True)
    for judged in all_judged:
        for file in save(draw(judged), FIGURES, judged.reproduction.name):
            if file.suffix != ".png":
                file.unlink()
    (DOCS / "results.md").write_text(page(all_judged), encoding="utf-8")


if __name__ == "__main__":
    main()
