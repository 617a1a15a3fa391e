"""One fit in a process of its own: how much memory it takes on top of what is there before it."""

from __future__ import annotations

import gc
import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.fit import ours, trainer
from benchmarks.sample import SMALL

STEPS = 3


def memory(field: str) -> int:
    """Bytes that the process holds (VmRSS), or has held at most since that was last forgotten (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def main(side: str) -> None:
    """Fit once for libraries to be there, in little memory, and then in earnest."""
    shape = SMALL(prompt=1, new=1, beams=None, documents=1)
    before = 0
    for vocabulary, batch in ((300, 1), (50257, 32)):
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forget the peak
        before = memory("VmRSS")
        sized = replace(shape, vocabulary=vocabulary)
        if side == "ours":
            ours(sized, "bfloat16", STEPS, 0, batch=batch)
        else:
            trainer(sized, STEPS, 0, batch=batch, bf16=side == "trainer-bf16")
    print(json.dumps({"peak": memory("VmHWM") - before}))


main(sys.argv[1])
