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
    folder = _cache().joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cache folder {folder} cannot be made ({error.strerror}); set LMCOLLAPSE_CACHE to a folder that can"
        ) from None
    return folder


def _cache() -> Path:
    if named := os.environ.get("LMCOLLAPSE_CACHE"):
        return Path(named)
    if of_user := os.environ.get("XDG_CACHE_HOME"):
        return Path(of_user) / "lmcollapse"
    try:
        return Path.home() / ".cache" / "lmcollapse"
    except RuntimeError:  # a user whom the machine does not know, as in a container
        raise UserError(
            "there is no home directory for the cache; set LMCOLLAPSE_CACHE to a folder that can be written"
        ) from None
