"""How a run goes, on a terminal: pictures done, how many a second, the time that is left."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from invert.batch.find import Picture
from invert.batch.runner import Observer
from invert.cli.failures import internal_error
from invert.cli.flags import translated
from invert.errors import InputError

SPEED_SECONDS = 120  # over which the speed is taken: a search takes seconds a picture


class SpeedColumn(ProgressColumn):
    """Pictures a second, or seconds a picture where that is slow."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f} pictures/s" if speed >= 1 else f"{1 / speed:.1f} s/picture")


class Progress(Observer):
    """A bar on stderr where that is a terminal, else nothing; a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), SpeedColumn(),
            TimeRemainingColumn(elapsed_when_finished=True), TextColumn("[red]{task.fields[bad]}"),
        )  # fmt: skip
        console = console or Console(stderr=True, highlight=False)
        self.bar = Bar(*columns, console=console, speed_estimate_period=SPEED_SECONDS, disable=not console.is_terminal)
        self.failed = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar away, so that a sentence may follow."""
        self.bar.stop()

    def begin(self, total: int, done: int) -> None:
        self.task = self.bar.add_task("pictures", total=total, completed=done, bad="")
        self.bar.start()

    def advance(self, done: int, failed: int) -> None:
        self.failed += failed
        self.bar.update(self.task, advance=done, bad=f"{self.failed:,} bad" if self.failed else "")

    def describe(self, error: Exception, picture: Picture) -> str:
        if isinstance(error, InputError):
            return translated(str(error))
        if "--debug" in sys.argv:
            traceback.print_exception(error)
        return internal_error(error, f" while inverting {picture.path}")
