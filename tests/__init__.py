"""Tests of lmcollapse."""
