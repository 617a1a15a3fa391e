"""Published results, run again: each paper's experiment as a sweep, its claims as tests, its figure redrawn.

A reproduction is two files: NAME.yaml has the sweep at both scales, NAME.py the claims and what the figure shows.
"""
