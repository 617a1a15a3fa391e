"""Shumailov et al. 2024 (arXiv 2305.17493), again: nature-lm, nature-gaussian, nature-gmm, nature-vae.

Small on two cores, at the paper's size with `--scale paper`; `lmcollapse/reproductions/` has the runs and the claims.
"""

import sys

from lmcollapse.cli import main

NAMES = ("nature-lm", "nature-gaussian", "nature-gmm", "nature-vae")

if __name__ == "__main__":
    for name in NAMES:
        main(["reproduce", name, *sys.argv[1:]])
