"""`python -m lmcollapse` is `lmcollapse`."""

from lmcollapse.cli import main

main()
