"""An urn that waits where a test wants to look at it, or dies there: what happens to runs while others make them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmcollapse.types import HUMAN, Corpus
from tests.urn import Urn

GATE = "URN_GATE"
"""In the environment: a file; while it is there no fit to what a model wrote begins."""
DEADLY = "URN_DEADLY"
"""In the environment, at any value: a fit to human and synthetic rows together is the end of its process."""


class GatedUrn(Urn):
    """The same numbers as the urn's."""

    def fit(self, base: Path, train: Corpus, *rest: Any) -> Any:
        origins = set(train.generation.tolist())
        if DEADLY in os.environ and {HUMAN, 0} <= origins:
            os.kill(os.getpid(), signal.SIGKILL)
        if origins != {HUMAN} and GATE in os.environ:
            wait_until(lambda: not Path(os.environ[GATE]).exists())
        return super().fit(base, train, *rest)


def wait_until(holds: Callable[[], bool], seconds: float = 120) -> None:
    """Until it holds; an assertion fails where it never does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)
