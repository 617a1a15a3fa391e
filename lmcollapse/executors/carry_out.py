"""The runs of a sweep, made by the executor that was chosen."""

from __future__ import annotations

from lmcollapse.executors.where import Where
from lmcollapse.sweeps import Outcome, Sweep, work
from lmcollapse.types import Progress


def carry_out(sweep: Sweep, where: Where, progress: Progress | None = None) -> Outcome:
    """Make every run of a sweep that nobody else is making, there.

    Raises UserError for what cannot work there, before any compute is spent.
    """
    where.check()
    if where.executor == "workers":
        from lmcollapse.executors.by_workers import by_workers

        return by_workers(sweep, where, progress)
    if where.executor == "ray":
        from lmcollapse.executors.by_ray import by_ray

        return by_ray(sweep, where, progress)
    return work(sweep, progress, retry=where.retry)
