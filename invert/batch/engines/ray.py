"""Shards on a Ray cluster (extra: ray): Ray Data over their descriptions, one model an actor.

What travels through Ray are descriptions of shards and reports, never pictures: a worker reads its shard and writes its
output itself, so all nodes have to see the same folders. An actor that dies is started again by Ray and gets its shard
again; the dead one's lock is then taken over, and what was published counts as done.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from invert.batch.engines import OnReport, Workers, load
from invert.batch.engines.local import POLL
from invert.batch.shards import Shard
from invert.batch.work import DONE, HELD, STOPPED, Job, Report, attempt
from invert.errors import InputError

STORE_BYTES = 100 << 20  # of Ray's object store on this machine: no picture passes through it


class ShardActor:
    """Holds one model and does one shard after the other."""

    def __init__(self, workers: Workers, job: Job) -> None:
        self.solver, self.job = load(workers, ""), job

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Descriptions of shards → their reports, both as JSON."""
        return {"report": [json.dumps(asdict(self.done(json.loads(text)))) for text in batch["shard"]]}

    def done(self, fields: dict[str, Any]) -> Report:
        """The report of a shard; one that another process holds is waited for."""
        if isinstance(self.solver, Report):
            return self.solver
        shard = Shard(**{**fields, "groups": tuple(fields["groups"])})
        while (report := attempt(shard, self.solver, self.job)).status == HELD:
            time.sleep(POLL)
        return report


def _connect(workers: int) -> None:
    """To the cluster of RAY_ADDRESS, or to one of this machine, with room for reports alone."""
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not os.environ.get("RAY_ADDRESS"):
        cores = max(workers, os.cpu_count() or 1)
        quiet |= {"num_cpus": cores, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    ray.init(**quiet)


def _sizes(workers: Workers, resources: Mapping[str, float]) -> tuple[int, float]:
    """How many workers there are, and the cards of each; InputError where the cluster cannot hold one."""
    cards = resources.get("GPU", 0.0)
    gpus = float(cards > 0) if workers.gpus is None else workers.gpus
    if gpus > cards:
        raise InputError(f"`gpus` is {gpus:g}, but the cluster has {cards:g}: give fewer, or 0 for processors")
    room = cards / gpus if gpus else resources.get("CPU", 1.0)
    return len(workers.devices) or max(1, int(room)), gpus


def run(shards: Sequence[Shard], workers: Workers, job: Job, on_report: OnReport) -> None:
    """As `local.run`, on the cluster that RAY_ADDRESS names, or on one of this machine that ends with this process."""
    import ray
    import ray.data

    waiting = []
    for shard in shards:
        if job.is_done(shard):
            on_report(Report(shard.name, DONE))
        else:
            waiting.append({"shard": json.dumps(asdict(shard))})
    if not waiting:
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if not ray.is_initialized():
        _connect(len(workers.devices))
    count, gpus = _sizes(workers, ray.cluster_resources())
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    dataset = ray.data.from_items(waiting, override_num_blocks=len(waiting)).map_batches(
        ShardActor,
        fn_constructor_args=(workers, job),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(count, len(waiting))),
        num_gpus=gpus or None,
        num_cpus=None if gpus else 1,
    )
    for row in dataset.iter_rows():
        report = Report(**json.loads(row["report"]))
        on_report(report)
        if report.status == STOPPED:
            return
