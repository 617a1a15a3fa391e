"""A pool of text whose origin nobody knows, scored and filtered by a detector."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lmcollapse.catalog import find
from lmcollapse.config import DetectorOptions
from lmcollapse.detectors import Known, Suspects, probabilities
from lmcollapse.detectors.actions import chosen, weights
from lmcollapse.files import local, parse_json, write_atomically
from lmcollapse.metrics.detection import auc, rate
from lmcollapse.metrics.intervals import NORMAL
from lmcollapse.options import bind, options_of
from lmcollapse.texts import Unit, file_of, read_texts
from lmcollapse.types import Bools, Floats, Progress, Silent, UserError

KINDS = (".parquet", ".jsonl", ".ndjson", ".json")
INSIDE = Path("corpus", "corpus.parquet")
"""What is read of a generation of a run."""
PROBABILITY, WEIGHT = "synthetic_probability", "weight"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Filtered:
    """What a detector made of a pool.

    rows, kept : rows of the pool, and how many were written (under `importance` some more than once).
    quantiles : of the probabilities of being synthetic.
    share : of the pool that is synthetic, with a 95 % interval, corrected for the detector's errors; None where these
        are not known.
    auc, true_positive_rate, false_positive_rate : of the detector on the known text that it did not learn from, with
        95 % intervals; None where there is no known text of both kinds.
    """

    rows: int
    kept: int
    quantiles: dict[str, float]
    share: tuple[float, float, float] | None
    auc: tuple[float, float, float] | None
    true_positive_rate: tuple[float, float, float] | None
    false_positive_rate: tuple[float, float, float] | None


def filter_pool(
    pool: Path,
    human: Path,
    detector: str,
    out: Path,
    *,
    synthetic: Path | None = None,
    options: Mapping[str, Any] | None = None,
    column: str = "text",
    document: Unit = "auto",
    keep_all: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Filtered:
    """Score every row of a pool and write those that are kept, with all their columns and the scores beside them.

    The same detectors and actions as in a run (`detector` in its configuration). The probabilities hold at even odds.

    pool : a text, parquet or JSON-lines file.
    human : text that is known to be human, likewise; none of it should be in the pool.
    detector : by name.
    out : a parquet or JSON-lines file, by its suffix; replaced whole where it is there.
    synthetic : text that is known to be synthetic, as like the pool's as can be; a generation of a run.
    options : of the detector, and of what is done with what it finds (action, threshold, bias, upsample, repeats).
    keep_all : write every row, with its probability and weight, and leave the choice to others.

    Raises UserError for what cannot be read or written, and for options that the detector does not have.
    """
    progress = progress or Silent()
    if out.suffix not in KINDS:
        raise UserError(f"{out}: give a name that ends in .parquet or .jsonl, which says how it is written")
    read = [file for given in (pool, human, synthetic) if given for file in (given, given / INSIDE)]
    if out.exists() and any(out.samefile(file) for file in read if file.exists()):
        raise UserError(f"{out} is one of the files that are read; give another one with --out")
    table, texts = _pool(pool, column, document)
    known = Known(
        list(read_texts(human, column, document)), list(read_texts(synthetic, column, document)) if synthetic else []
    )
    given = dict(options or {})
    how = bind(DetectorOptions, {k: v for k, v in given.items() if k in DetectorOptions.model_fields}, "detector")
    own = bind(
        options_of(find("detector", detector)),
        {k: v for k, v in given.items() if k not in DetectorOptions.model_fields},
        f"detector {detector}",
    )
    truth = np.repeat([False, True], [len(known.human), len(known.synthetic)])
    place = np.concatenate([np.full(len(texts), -1), np.arange(len(truth))])
    suspects = Suspects([*texts, *known.human, *known.synthetic], place, seed)
    judged = find("detector", detector)(suspects, known, progress, **own.model_dump())
    found = probabilities(detector, judged, len(suspects))
    of_pool, of_known = found[: len(texts)], found[len(texts) :]

    weight = weights(of_pool, how.action, how.threshold, how.bias)
    kept = chosen(weight, how.action, how.upsample, how.repeats, np.random.default_rng(seed))
    written = np.arange(len(texts)) if keep_all else kept
    table = table.append_column(PROBABILITY, pa.array(of_pool)).append_column(WEIGHT, pa.array(weight))
    _write(table.take(pa.array(written)), out)
    return _summary(of_pool, len(written), of_known, truth, how.threshold)


def _pool(pool: Path, column: str, document: Unit) -> tuple[pa.Table, list[str]]:
    """The rows of a pool with all their columns, and their texts."""
    texts = list(read_texts(pool, column, document))
    if not texts:
        raise UserError(f"{pool}: holds no text; give a text, parquet or JSON-lines file")
    pool = file_of(pool)
    if pool.suffix == ".parquet":
        table = pq.read_table(local(pool))
    elif pool.suffix in KINDS:
        with pool.open(encoding="utf-8") as lines:
            rows = [parse_json(line) for line in lines if line.strip()]
        try:
            table = pa.Table.from_pylist(rows)
        except (pa.ArrowException, OverflowError, UnicodeError, TypeError) as error:
            raise UserError(f"{pool}: a key holds values that do not go together ({error}); give it one type") from None
    else:
        table = pa.table({"text": texts})
    if taken := {PROBABILITY, WEIGHT} & set(table.column_names):
        raise UserError(f"{pool}: has a column '{min(taken)}' already; rename it, or give the pool without it")
    return table, texts


def _write(table: pa.Table, out: Path) -> None:
    if out.suffix == ".parquet":
        content = BytesIO()
        pq.write_table(table, content, compression="zstd")
        write_atomically(out, content.getvalue())
        return
    lines = [json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in table.to_pylist()]
    write_atomically(out, "".join(lines).encode())


def _summary(of_pool: Floats, kept: int, of_known: Floats, truth: Bools, threshold: float) -> Filtered:
    quantiles = {f"{q:g}": float(np.quantile(of_pool, q)) for q in QUANTILES}
    if truth.all() or not truth.any():
        return Filtered(len(of_pool), kept, quantiles, None, None, None, None)
    flagged = of_known >= threshold
    true, false = rate(flagged[truth]), rate(flagged[~truth])
    share = synthetic_share(of_pool >= threshold, flagged[truth], flagged[~truth])
    return Filtered(len(of_pool), kept, quantiles, share, auc(of_known, truth), true, false)


def synthetic_share(flagged: Bools, synthetic: Bools, human: Bools) -> tuple[float, float, float] | None:
    """Share of a pool that is synthetic, from the share that is flagged, corrected for the detector's errors.

    (flagged - false) / (true - false), cut to 0 and 1 (Rogan and Gladen 1978, Am. J. Epidemiol. 107, 71-76), with the
    interval by the delta method; None where the detector flags synthetic text no more often than human text.

    flagged, synthetic, human : whether each row of the pool, and of known text of either kind, is flagged.
    """
    p, true, false = (float(part.mean()) for part in (flagged, synthetic, human))
    gain = true - false
    if gain <= 0:
        return None
    value = (p - false) / gain
    parts = [
        p * (1 - p) / len(flagged),
        value**2 * true * (1 - true) / len(synthetic),
        (1 - value) ** 2 * false * (1 - false) / len(human),
    ]
    half = NORMAL * float(np.sqrt(sum(parts))) / gain
    low, middle, high = (min(1.0, max(0.0, x)) for x in (value - half, value, value + half))
    return middle, low, high


def as_lines(found: Filtered) -> list[str]:
    """A summary for the terminal."""

    def shown(name: str, estimate: tuple[float, float, float] | None) -> list[str]:
        if estimate is None:
            return []
        value, low, high = estimate
        return [f"{name:34} {value:.3f} [{low:.3f}, {high:.3f}]"]

    spread = "  ".join(f"{float(q):.0%}: {value:.3f}" for q, value in found.quantiles.items())
    return [
        f"{'rows':34} {found.rows:,}",
        f"{'written':34} {found.kept:,}",
        f"{'probabilities, by quantile':34} {spread}",
        *shown("synthetic share of the pool", found.share),
        *shown("detector's AUC on known text", found.auc),
        *shown("true positive rate", found.true_positive_rate),
        *shown("false positive rate", found.false_positive_rate),
    ]
