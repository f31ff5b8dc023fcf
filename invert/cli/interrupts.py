"""Ctrl-C, SIGTERM and a closed terminal: whatever was done is printed and written, the exit status is 128 + signal.

While modules are imported nothing is there to be saved, and an exception raised in the middle of an
import may be swallowed or turned into another one; the process ends at once then. Afterwards a signal is
a KeyboardInterrupt, which an inversion answers with its best prompt so far.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from invert.cli.terminal import complain

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
INTERRUPTED = 128 + signal.SIGINT  # exit status, as shells have it for Ctrl-C


class Interrupted(Exception):
    """A KeyboardInterrupt that nothing answered, past typer, which would end with 130 whatever the signal and say nothing."""


class Interrupts:
    """Which signal came, and whether anything could be lost by ending at once."""

    def __init__(self, wanted: str = "a prompt") -> None:
        """wanted: what the run is to bring, in sentences about runs that end before there was one."""
        self.wanted = wanted
        self.received: int | None = None
        self.importing = False

    @property
    def status(self) -> int:
        """The exit status of an interrupted run."""
        return INTERRUPTED if self.received is None else 128 + self.received

    @property
    def word(self) -> str:
        return "interrupted" if self.status == INTERRUPTED else "terminated"

    @property
    def sentence(self) -> str:
        """What is said of a run that nothing came of."""
        return f"{self.word} before there was {self.wanted}"

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        if self.importing:
            complain(self.sentence)
            os._exit(self.status)
        raise KeyboardInterrupt

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Within the context signals come here; those that the caller ignores (nohup) stay ignored."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {}
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, self.handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def while_importing(self) -> Iterator[None]:
        """Around heavy imports."""
        self.importing = True
        try:
            yield
        finally:
            self.importing = False
