"""The cache folder: what can be made again at any time and is kept because making it takes a while."""

from __future__ import annotations

import os
from pathlib import Path

from lmcollapse.types import UserError


def cache_folder(*parts: str) -> Path:
    """The folder `parts` of the cache, made where it is missing.

    The cache is what the environment variable LMCOLLAPSE_CACHE names; else `lmcollapse` in $XDG_CACHE_HOME or ~/.cache.
    Raises UserError where the folder cannot be made.
    """
    named = os.environ.get("LMCOLLAPSE_CACHE")
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lmcollapse"
    folder = (Path(named) if named else usual).joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cache folder {folder} cannot be made ({error.strerror}); set LMCOLLAPSE_CACHE to a folder that can"
        ) from None
    return folder
