"""Suresh et al. 2024 (arXiv 2412.17646), again: rate.

Small on two cores, at the paper's size with `--scale paper`; `lmcollapse/reproductions/` has the runs and the claims.
"""

import sys

from lmcollapse.cli import main

NAMES = ("rate",)

if __name__ == "__main__":
    for name in NAMES:
        main(["reproduce", name, *sys.argv[1:]])
