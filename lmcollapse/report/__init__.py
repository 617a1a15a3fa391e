"""What runs show, as one page that a browser opens without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lmcollapse.files import write_atomically
from lmcollapse.report.curves import curves
from lmcollapse.report.findings import findings
from lmcollapse.report.gather import gather
from lmcollapse.report.page import render
from lmcollapse.report.provenance import provenance
from lmcollapse.report.question import asked
from lmcollapse.report.training import training
from lmcollapse.report.words_lost import words_lost
from lmcollapse.report.written import strips, written
from lmcollapse.types import UserError


def report(runs: Sequence[Path], out: Path) -> Path:
    """Write what runs show into one HTML page, and return its path; the same runs give the same bytes.

    Runs that differ in their seed alone are taken together; of one that is still going on, what is finished is told.

    runs : run directories; those of populations stand for all of their members.
    out : the file that is written; its directory is made where it is missing.

    Raises UserError for a directory that holds no run, a run without a finished generation, damaged files, and where
    `out` cannot be written.
    """
    gathered = gather(runs)
    paths = [run.path for run in gathered.runs]
    drawn = curves(gathered)
    page = render(
        drawn,
        asked=asked(gathered),
        gathered=gathered,
        findings=findings(gathered, paths, drawn),
        written=written(gathered),
        strips=strips(gathered),
        words_lost=words_lost(gathered),
        training=training(gathered),
        provenance=provenance(gathered),
    )
    if out.is_dir():
        raise UserError(f"{out} is a directory; give a file with --out, as in --out {out / 'report.html'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, page)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); give another file with --out") from None
    return out
