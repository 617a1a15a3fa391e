"""Benchmarks, one module a subcommand of `scripts/benchmark.py`."""
