"""One fit in a process of its own: how much memory it takes on top of what is there before it."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.fit import ours, trainer
from benchmarks.sample import SMALL

STEPS = 3


def main(side: str) -> None:
    """Fit once for libraries to be there, in little memory, and then in earnest."""
    shape = SMALL(prompt=1, new=1, beams=None, documents=1)
    for vocabulary, batch in ((300, 1), (50257, 32)):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sized = type(shape)(**{**vars(shape), "vocabulary": vocabulary})
        if side == "ours":
            ours(sized, "bfloat16", STEPS, 0, batch=batch)
        else:
            trainer(sized, STEPS, 0, batch=batch, bf16=side == "trainer-bf16")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"peak": peak * 1024}))


main(sys.argv[1])
