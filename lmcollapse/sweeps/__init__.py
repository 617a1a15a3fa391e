"""Many runs from one file: every condition with every seed, and what they have in common made once.

plan.py turns a file into runs, work.py makes those that nobody else is making.
"""

from lmcollapse.sweeps.plan import SWEEP, Cell, Sweep, load_sweep, plan, runs_in
from lmcollapse.sweeps.work import Outcome, work

__all__ = ["SWEEP", "Cell", "Outcome", "Sweep", "load_sweep", "plan", "runs_in", "work"]
