"""Text for people: what users wrote is shown as it is, but never as markup and never as control codes.

File names may hold line feeds, escape sequences, or characters that the terminal cannot encode; each
becomes a backslash escape, so that a line of output stays a line. JSON is exact and does not pass here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from invert.cli.flags import translated
from invert.escape import escaped

if TYPE_CHECKING:
    from rich.text import Text


class OutputError(Exception):
    """Standard output takes no more. broken: its reader has gone, which needs no sentence."""

    def __init__(self, message: str, broken: bool) -> None:
        super().__init__(message)
        self.broken = broken


def encoding_of(stream: TextIO | None) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def check_stdout() -> TextIO:
    """Standard output; OutputError where it is closed."""
    if sys.stdout is None:
        raise OutputError("standard output is closed: the prompts cannot be printed", broken=False)
    return sys.stdout


def say(text: str) -> None:
    """One line of result on stdout; OutputError where it cannot be written."""
    stream = check_stdout()
    try:
        stream.write(text.encode(encoding_of(stream), "backslashreplace").decode(encoding_of(stream)) + "\n")
        stream.flush()
    except BrokenPipeError as error:
        discard(stream)
        raise OutputError("the reader of standard output has gone", broken=True) from error
    except (OSError, ValueError) as error:  # a full disk; a closed file
        discard(stream)
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"cannot write the prompts to standard output: {reason}", broken=False) from error


def discard(stream: TextIO) -> None:
    """Let what the stream still holds go nowhere: Python would fail on it once more when it ends."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def complain(message: object) -> None:
    """One sentence on stderr, with parameters named as flags."""
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError):  # nobody can be told
        print(f"invert: {escaped(translated(str(message)), encoding_of(sys.stderr))}", file=sys.stderr, flush=True)


class NoteHandler(logging.Handler):
    """What the library logs, as notes on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(f"note: {record.getMessage()}")


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Within the context warnings of the library's log are shown as notes."""
    log, handler = logging.getLogger("invert"), NoteHandler(logging.WARNING)
    propagates, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagates


def as_text(text: str) -> Text:
    """User text for rich, which would read brackets in a plain string as markup."""
    from rich.text import Text

    return Text(escaped(text, encoding_of(sys.stderr)), no_wrap=True, overflow="ellipsis")


@contextlib.contextmanager
def progress(text: str) -> Iterator[Any]:
    """A status line on stderr, where that is a terminal; its `update` takes what `as_text` gives."""
    from rich.console import Console

    with Console(stderr=True, highlight=False).status(as_text(text)) as line:
        yield line


@contextlib.contextmanager
def bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """A function of what is done and of all there is, which shows both as a bar on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        tasks: dict[int, Any] = {}  # of lists by their lengths

        def show(done: int, total: int) -> None:
            if total not in tasks:
                tasks[total] = shown.add_task(escaped(text, encoding_of(sys.stderr)), total=total)
            shown.update(tasks[total], completed=done)

        yield show
