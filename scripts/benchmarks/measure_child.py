"""One call of `lmcollapse.measure.measure` in a process of its own: what it took and its peak memory, as JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lmcollapse.catalog import find
from lmcollapse.measure import measure, text_measures
from lmcollapse.options import options_of
from lmcollapse.types import Silent


class Stopwatch(Silent):
    """Progress that remembers how long each stage took, and each unit of it."""

    def __init__(self) -> None:
        self.stages: list[list[float]] = []

    @contextmanager
    def stage(self, label: str, total: int | None = None, unit: str = "") -> Iterator[Callable[..., None]]:
        """See `Progress`."""
        ticks: list[float] = []
        last = time.perf_counter()

        def advance(units: int = 1, **figures: float) -> None:
            nonlocal last
            now = time.perf_counter()
            ticks.append(now - last)
            last = now

        yield advance
        if total is None:
            advance()
        self.stages.append(ticks)


def without_embeddings() -> list[str]:
    """The measures of a corpus that look at words and characters."""
    return [name for name in text_measures() if "embedding" not in options_of(find("measure", name)).model_fields]


def peak() -> int:
    """The most memory that this process has held, in bytes."""
    # getrusage may give the peak of the process that started this one
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(corpus: str, reference: str, words: str) -> None:
    """Measure, and print."""
    chosen = without_embeddings()
    watch = Stopwatch()
    began = time.perf_counter()
    measure(Path(corpus), Path(reference), words=int(words), measures=chosen, progress=watch)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "peak": peak(), "measures": chosen, "stages": watch.stages}))


if __name__ == "__main__":
    main(*sys.argv[1:])
