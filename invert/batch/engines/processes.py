"""Shards shared out among processes of this machine, one device each.

The driver hands out one shard at a time and holds nothing else. A worker that is killed leaves its lock behind, which the
next one to get the shard takes over; a shard that kills its worker again and again is given up. A worker whose driver
is killed ends after the shard in hand.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from invert.batch.engines import OnReport, Workers, load
from invert.batch.engines.local import POLL
from invert.batch.shards import Shard
from invert.batch.work import DONE, FAILED, HELD, STOPPED, Job, Report, attempt

ATTEMPTS = 3  # workers that a shard may kill, or that may end one after the other while they load


def run(shards: Sequence[Shard], workers: Workers, job: Job, on_report: OnReport) -> None:
    """As `local.run`, in as many processes as there are devices."""
    Driver(workers, job, on_report).run(shards)


def work(connection: Connection, workers: Workers, device: str, job: Job) -> None:
    """A worker: do the shards that come along the connection until it ends."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the lock in hand is given back
    try:
        solver = load(workers, device)
        if isinstance(solver, Report):
            connection.send(solver)
            return
        connection.send(None)
        while True:
            connection.send(attempt(connection.recv(), solver, job))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        pass  # the driver has gone, or ends


@dataclass
class Worker:
    """A process and the shard that it has in hand."""

    process: Any
    connection: Connection
    device: str
    shard: Shard | None = None
    ready: bool = False  # has loaded its model


@dataclass
class Driver:
    """Keeps the workers busy."""

    workers: Workers
    job: Job
    on_report: OnReport
    deaths: Counter[str] = field(default_factory=Counter)
    held: deque[tuple[float, Shard]] = field(default_factory=deque)  # when to look again, at what

    def run(self, shards: Sequence[Shard]) -> None:
        self.waiting = deque(shard for shard in shards if not self.told_done(shard))
        running = [self.start(device) for device in self.workers.devices[: len(self.waiting)]]
        try:
            while self.waiting or self.held or any(worker.shard for worker in running):
                self.give(running)
                for worker in self.heard(running):
                    if not self.listen(worker):
                        running.remove(worker)
                        running.append(self.start(worker.device))
        except StopRun:
            pass
        finally:
            self.end(running)

    def told_done(self, shard: Shard) -> bool:
        done = self.job.is_done(shard)
        if done:
            self.on_report(Report(shard.name, DONE))
        return done

    def start(self, device: str) -> Worker:
        """A process of its own interpreter: CUDA cannot be used in a copy of this one."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, self.workers, device, self.job), daemon=True)
        process.start()
        theirs.close()
        return Worker(process, ours, device)

    def give(self, running: list[Worker]) -> None:
        """A shard to every worker that has none."""
        while self.held and self.held[0][0] <= time.monotonic():
            self.waiting.append(self.held.popleft()[1])
        for worker in running:
            while worker.ready and worker.shard is None and self.waiting:
                shard = self.waiting.popleft()
                if self.told_done(shard):
                    continue
                worker.shard = shard
                try:
                    worker.connection.send(shard)
                except OSError:
                    break  # it died: `heard` will say so

    def heard(self, running: list[Worker]) -> list[Worker]:
        """The workers that have something to say, or have died."""
        by_connection = {worker.connection: worker for worker in running}
        return [by_connection[connection] for connection in wait(list(by_connection), POLL)]  # type: ignore[index]

    def listen(self, worker: Worker) -> bool:
        """Take a worker's message; False where it has died."""
        try:
            report = worker.connection.recv()
        except (EOFError, OSError):
            self.bury(worker)
            return False
        shard, worker.shard = worker.shard, None
        if report is None:  # it has loaded its model
            worker.ready = True
            self.deaths[""] = 0
        else:
            self.take(shard, report)
        return True

    def take(self, shard: Shard | None, report: Report) -> None:
        if report.status == HELD and shard is not None:
            self.held.append((time.monotonic() + POLL, shard))
            return
        self.on_report(report)
        if report.status == STOPPED:
            raise StopRun

    def bury(self, worker: Worker) -> None:
        """Count a death: of a worker that could not even load, or of one over a shard."""
        worker.process.join()
        worker.connection.close()
        code = worker.process.exitcode
        name = "" if worker.shard is None else worker.shard.name
        self.deaths[name] += 1
        if self.deaths[name] < ATTEMPTS:
            if worker.shard is not None:
                self.waiting.appendleft(worker.shard)
            return
        message = (
            f"{ATTEMPTS} workers ended (exit status {code}) {f'over {name}' if name else 'before they had loaded the model'}"
        )
        self.on_report(Report(name, FAILED if name else STOPPED, message))
        if not name:
            raise StopRun

    def end(self, running: list[Worker]) -> None:
        """Let the workers end; those that are in the middle of a shard are not waited for."""
        for worker in running:
            worker.connection.close()
            if worker.shard is not None or not worker.ready:
                worker.process.terminate()
        for worker in running:
            worker.process.join()


class StopRun(Exception):
    """No other shard can be done."""
