"""The tidy table on disk: parquet for programs, CSV for everyone, both without loss."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmcollapse.files import local, write_atomically
from lmcollapse.types import UserError

TYPES: dict[str, Any] = {
    "run": "str",
    "seed": np.int64,
    "condition": "str",
    "generation": np.int64,
    "measure": "str",
    "at": np.float64,
    "value": np.float64,
    "low": np.float64,
    "high": np.float64,
}
COLUMNS = tuple(TYPES)
STEM = "results"


def write_table(found: pd.DataFrame, folder: Path) -> list[Path]:
    """Write `results.parquet` and `results.csv`, the same bytes every time; numbers keep all their digits."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {np.int64: pa.int64(), np.float64: pa.float64(), "str": pa.string()}
    columns = {name: pa.array(found[name].tolist(), kinds[kind]) for name, kind in TYPES.items()}
    content = BytesIO()
    pq.write_table(pa.table(columns), content, compression="zstd")
    files = [folder / f"{STEM}.parquet", folder / f"{STEM}.csv"]
    write_atomically(files[0], content.getvalue())
    write_atomically(files[1], found[list(COLUMNS)].to_csv(index=False, lineterminator="\n").encode())
    return files


def read_table(file: Path) -> pd.DataFrame:
    """What `write_table` wrote, from either file. UserError where it is no such table."""
    try:
        found = _read_csv(file) if file.suffix == ".csv" else pd.read_parquet(local(file))
    except FileNotFoundError:
        raise UserError(f"{file}: there is no such table; `lmcollapse plot RUN --out DIR` writes one") from None
    except (OSError, ValueError, OverflowError) as error:  # Arrow's and the CSV parser's errors are among them
        raise _refusal(file, str(error)) from None
    if set(found.columns) != set(COLUMNS):
        raise _refusal(file, f"its columns are {', '.join(map(str, found.columns))}")
    for name, kind in TYPES.items():
        if not _is_of(found[name], kind):
            wanted = {np.int64: "whole numbers", np.float64: "numbers", "str": "text"}[kind]
            raise _refusal(file, f"column '{name}' is {found[name].dtype}, not {wanted}")
    if found.empty:
        raise _refusal(file, "it has no rows")
    return found[list(COLUMNS)].astype(TYPES)


def _read_csv(file: Path) -> pd.DataFrame:
    # a run may be called "NA", and pandas' own parser may round the last digit away
    found = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8")
    for name, kind in TYPES.items():
        if name in found and kind is not np.float64:
            found[name] = found[name].astype(kind)
        elif name in found:
            found[name] = [float(text) if text else np.nan for text in found[name]]
    return found


def _is_of(column: pd.Series[Any], kind: Any) -> bool:
    if kind == "str":
        return bool(column.map(lambda value: isinstance(value, str)).all())
    if kind is np.int64:
        return pd.api.types.is_integer_dtype(column.dtype) and not column.isna().any()
    return pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)


def _refusal(file: Path, why: str) -> UserError:
    return UserError(
        f"{file}: no table of results ({' '.join(why.split())}); give one that `lmcollapse plot` wrote, with the "
        f"columns {', '.join(COLUMNS)}"
    )
