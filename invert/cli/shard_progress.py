"""How a run of shards goes: a bar on a terminal, and the counts that its last sentence tells."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from invert.batch.shards import Shard
from invert.batch.work import DONE, Report

SPEED_SECONDS = 600  # over which the time left is told: a shard takes long
MOST_FAILURES = 10  # that are told


class ShardProgress:
    """Takes reports; a context manager.

    Attributes:
        done: shards, those of earlier runs among them.
        earlier: shards of earlier runs.
        pictures, errors: of this run.
        failures: the first sentences on shards that were not done.
    """

    def __init__(self, total: int, is_done: Callable[[Shard], bool], shards: Iterable[Shard]) -> None:
        self.before = {shard.name for shard in shards if is_done(shard)}
        self.earlier = self.done = len(self.before)
        self.pictures = self.errors = 0
        self.failures: list[str] = []
        columns = (
            TextColumn("shards"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(elapsed_when_finished=True), TextColumn("[red]{task.fields[bad]}"),
        )  # fmt: skip
        console = Console(stderr=True, highlight=False)
        self.bar = Progress(*columns, console=console, speed_estimate_period=SPEED_SECONDS, disable=not console.is_terminal)
        self.task = self.bar.add_task("shards", total=total, completed=self.done, speed="", bad="")

    def __enter__(self) -> ShardProgress:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar away, so that a sentence may follow."""
        self.bar.stop()

    def __call__(self, report: Report) -> None:
        if report.status != DONE:
            if len(self.failures) < MOST_FAILURES:
                self.failures.append(report.message)
        elif report.shard not in self.before:
            self.done += 1
            self.pictures += report.pictures
            self.errors += report.errors
        elapsed = self.bar.tasks[self.task].elapsed or 0
        speed = f"{self.pictures / elapsed:.1f} pictures/s" if elapsed and self.pictures else ""
        self.bar.update(self.task, completed=self.done, speed=speed, bad=f"{self.errors:,} bad" if self.errors else "")
