"""Where the runs of a sweep are made: by this process, by local worker processes, by the machines of a Ray cluster.

Whatever the executor, a run is made by `sweeps.work` and held by the lock of its directory, so that all of them may be
at work on one sweep at the same time, and what one began another goes on with.
"""
