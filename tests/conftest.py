"""What holds for every test: two threads, no network, and a cache of the session's own.

Set LMCOLLAPSE_CACHE to keep the cache between sessions (the embedded corpus and SmolLM2 take a while to make).
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# no test is about time, and a busy machine is slow now and then
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_cache = tempfile.TemporaryDirectory(prefix="lmcollapse-cache-")

# before anything imports torch or a hub client, and inherited by the processes that tests start
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # threads that wait for each other while other tests want the cores
os.environ["LMCOLLAPSE_CACHE"] = os.environ.get("LMCOLLAPSE_CACHE") or _cache.name
os.environ["HF_HUB_OFFLINE"] = "1"


def _refuse_network(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook: a connection to anything but this machine fails as it would without a network."""
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise ConnectionError(f"tests have no network: {address}")


sys.addaudithook(_refuse_network)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small configuration and its run, made by the command line; several files look at it."""
    from tests.small import lmcollapse, write_config

    folder = tmp_path_factory.mktemp("finished")
    result = lmcollapse("run", write_config(folder), "--out", folder / "run")
    assert result.returncode == 0, result.stderr
    assert "generation 1: perplexity" in result.stdout  # plain lines, since output is no terminal
    assert "tokens/s" in result.stdout
    assert "\x1b" not in result.stdout
    return folder


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind: with SmolLM2 in it the cache is half a gigabyte."""
    _cache.cleanup()
