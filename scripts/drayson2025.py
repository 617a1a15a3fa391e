"""Drayson et al. 2025 (arXiv 2502.15654), again: detector.

Small on two cores, at the paper's size with `--scale paper`; `lmcollapse/reproductions/` has the runs and the claims.
"""

import sys

from lmcollapse.cli import main

NAMES = ("detector",)

if __name__ == "__main__":
    for name in NAMES:
        main(["reproduce", name, *sys.argv[1:]])
