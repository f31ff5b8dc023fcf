"""`python -m experiments.harness.stub_run OUT INPUT…`: the shards of the inputs on a stub model, as a process that can be killed.

Exit status: 0 all are done, 1 some are not, 2 the run could not go on.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from experiments.harness.stub_solver import MakeStub
from invert.batch.engines import Workers, local, processes
from invert.batch.engines import ray as ray_engine
from invert.batch.shards import plan
from invert.batch.sweeping import sweep, written_in
from invert.batch.work import DONE, STOPPED, Job, Report
from invert.errors import InputError

ENGINES = {"local": local.run, "processes": processes.run, "ray": ray_engine.run}


def resident_mib() -> float:
    """What this process holds in memory. `experiments.harness.memory` tells it too, but brings torch along."""
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


def main(
    out: Path,
    inputs: list[str],
    engine: str = "local",
    workers: int = 1,
    seconds: Annotated[float, typer.Option(help="Of a batch.")] = 0.0,
    batch: int = 16,
    size: Annotated[int, typer.Option(help="Pictures of a shard of a folder.")] = 1000,
    watch: Annotated[int, typer.Option(help="Print memory (MiB) and processor seconds whenever so many shards are done.")] = 0,
) -> None:
    """Run and say what became of the shards that are not done."""
    job = Job(str(out), "stub")
    status = reports = 0

    def on_report(report: Report) -> None:
        nonlocal status, reports
        reports += 1
        if watch and reports % watch == 0:
            print("watch", reports, f"{resident_mib():.1f} {time.process_time():.3f}", flush=True)
        if report.status != DONE:
            print(report.message, file=sys.stderr, flush=True)
            status = max(status, 2 if report.status == STOPPED else 1)

    try:
        before = written_in(out)
        shards = plan(inputs, out, size=size, done=job.is_done)
        ENGINES[engine](shards, Workers(MakeStub(seconds, batch=batch), ("",) * workers), job, on_report)
        sweep(shards, job, before=before)
    except InputError as error:
        print(error, file=sys.stderr)
        status = 2
    raise typer.Exit(status)


if __name__ == "__main__":
    typer.run(main)
