"""Kazdan et al. 2024 (arXiv 2410.16713), again: collapse-or-thrive.

Small on two cores, at the paper's size with `--scale paper`; `lmcollapse/reproductions/` has the runs and the claims.
"""

import sys

from lmcollapse.cli import main

NAMES = ("collapse-or-thrive",)

if __name__ == "__main__":
    for name in NAMES:
        main(["reproduce", name, *sys.argv[1:]])
