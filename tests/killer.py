"""Kill a run at the points where it writes something durable, resume it, and compare the bytes. Run as a script.

usage: python -m tests.killer CONFIG REFERENCE WORK EVERY

EVERY : 1 for all of these points, 3 for every third.

A fork for each kill keeps it quick: this process itself never runs anything, so the children start clean. Prints one
JSON object: kills made, and the files that differed after the resumption.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

from lmcollapse import files
from lmcollapse.config import load
from lmcollapse.loop import run
from lmcollapse.verify.same import different_files


def in_child(work: Callable[[], None]) -> int:
    """Run in a forked child; its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(point: int, config: Path, out: Path) -> Callable[[], None]:
    """The run, dying at its so-many-th flush to disk; at -1 never."""

    def work() -> None:
        flush, flushes = files.flush, 0

        def counting(path: Path) -> None:
            nonlocal flushes
            flushes += 1
            if flushes == point:
                os.kill(os.getpid(), signal.SIGKILL)
            flush(path)

        files.flush = counting
        run(load(config), out)

    return work


def main() -> None:
    config, reference, folder = map(Path, sys.argv[1:4])
    kills, bad = 0, []
    for point in count(1, int(sys.argv[4])):
        out = folder / f"killed_{point}"
        code = in_child(killed_at(point, config, out))
        if code == 0:
            break
        assert code == -signal.SIGKILL, code
        kills += 1
        code = in_child(killed_at(-1, config, out))
        bad += [f"kill at {point}: exit {code}"] if code else []
        bad += [f"kill at {point}: {name}" for name in different_files(reference, out)]
        shutil.rmtree(out)
    print(json.dumps({"kills": kills, "bad": bad}))


if __name__ == "__main__":
    main()
