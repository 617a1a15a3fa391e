"""Data policies: which rows a generation trains on.

A policy sees how many rows there are of each origin and a random generator of its own; it never sees what is in the
rows, so it serves every substrate. Generation 0 trains on the whole human part under every policy (the loop sees to
that), so a policy is only asked from generation 1 on.
"""
