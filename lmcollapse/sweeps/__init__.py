"""Many runs from one file: every condition with every seed, and what they have in common made once.

plan.py turns a file into runs, work.py makes those that nobody else is making, mending.py finds damaged steps.
"""

from lmcollapse.sweeps.mending import mend
from lmcollapse.sweeps.plan import LOGS, SWEEP, Cell, Sweep, begun, known_runs, load_sweep, plan, runs_in
from lmcollapse.sweeps.work import Outcome, failure, forget_failures, note_failure, work

__all__ = [
    "LOGS",
    "SWEEP",
    "Cell",
    "Outcome",
    "Sweep",
    "begun",
    "failure",
    "forget_failures",
    "known_runs",
    "load_sweep",
    "mend",
    "note_failure",
    "plan",
    "runs_in",
    "work",
]
