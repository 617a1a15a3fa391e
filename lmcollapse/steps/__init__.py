"""Each step of the experiment as one artefact of the run directory: what it is made from, how it is made and read."""

from __future__ import annotations

from lmcollapse.steps.common import ARTEFACTS, BEFORE, LOGS, REFERENCE, RESERVE, folder_of
from lmcollapse.steps.fitting import Fitting
from lmcollapse.steps.measuring import Measuring, judged_file
from lmcollapse.steps.mixing import Mixing
from lmcollapse.steps.preparing import Preparing
from lmcollapse.steps.writing import Writing

__all__ = ["ARTEFACTS", "BEFORE", "LOGS", "REFERENCE", "RESERVE", "Steps", "folder_of", "judged_file"]


class Steps(Preparing, Mixing, Fitting, Writing, Measuring):
    """The steps of one experiment, in the order in which the loop takes them."""
