"""Shards one after the other in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from invert.batch.engines import OnReport, Workers
from invert.batch.shards import Shard
from invert.batch.work import DONE, HELD, STOPPED, Job, Report, Solver, attempt

POLL = 2.0  # seconds between two looks at shards that others hold


def run(shards: Sequence[Shard], workers: Workers, job: Job, on_report: OnReport) -> None:
    """Do every shard that is not done; those of other processes are waited for, and taken over where these die."""
    solver: Solver | None = None
    held: list[Shard] = []

    def loaded() -> Solver:
        nonlocal solver
        solver = solver or workers.make(workers.devices[0])
        return solver

    for shard in shards:
        if not _tried(shard, loaded, job, on_report, held):
            return
    while held:
        time.sleep(POLL)
        waiting, held = held, []
        for shard in waiting:
            if not _tried(shard, loaded, job, on_report, held):
                return


def _tried(shard: Shard, loaded: Callable[[], Solver], job: Job, on_report: OnReport, held: list[Shard]) -> bool:
    """Do one shard, or put it among those held by others; False where no other shard can be done."""
    if job.is_done(shard):
        on_report(Report(shard.name, DONE))
        return True
    report = attempt(shard, loaded(), job)
    if report.status == HELD:
        held.append(shard)
    else:
        on_report(report)
    return report.status != STOPPED
