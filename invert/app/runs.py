"""A search that somebody watches: what its history tells, as a generator, and a way to stop it.

The search runs in a thread of its own and calls back at every step; the generator waits for these calls and hands on
what has come since it was last asked, so that a slow reader never holds the search up.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event
from typing import TypeAlias

from invert.callbacks import OnBest, OnStep
from invert.history import HistoryEntry
from invert.result import Result


@dataclass(frozen=True)
class Better:
    """A better prompt than all before, and its objective."""

    prompt: str
    objective: float


Update: TypeAlias = HistoryEntry | Better


def watched(search: Callable[[OnBest, OnStep], Result], stop: Event) -> Generator[list[Update], None, Result]:
    """Every update of the search, as they come; the value of the generator is its result.

    Args:
        search: called with the two callbacks of `Inverter.invert`.
        stop: set when nobody reads any more, so that the search, which asks it, ends.
    """
    updates: SimpleQueue[Update | None] = SimpleQueue()  # None: there will be no more

    def on_best(prompt: str, objective: float) -> None:
        updates.put(Better(prompt, objective))

    with ThreadPoolExecutor(1, "search") as pool:
        future = pool.submit(search, on_best, updates.put)
        future.add_done_callback(lambda _: updates.put(None))
        try:
            more = True
            while more:
                new, more = waiting(updates)
                if new:
                    yield new
        finally:
            stop.set()
    return future.result()


def waiting(updates: SimpleQueue[Update | None]) -> tuple[list[Update], bool]:
    """All that wait, one at least, and whether more will come."""
    new = [updates.get()]
    while not updates.empty():
        new.append(updates.get())
    return [update for update in new if update is not None], new[-1] is not None


class Sessions:
    """Which visitor's search runs, so that nobody can stop another's."""

    def __init__(self) -> None:
        self._running: dict[str, Event] = {}

    @contextmanager
    def running(self, session: str) -> Iterator[Event]:
        """Within the context this visitor's search runs; the event, once set, ends it."""
        self._running[session] = event = Event()
        try:
            yield event
        finally:
            event.set()
            if self._running.get(session) is event:
                del self._running[session]

    def stop(self, session: str) -> bool:
        """End the visitor's search with its best prompt so far; False where none runs."""
        event = self._running.get(session)
        if event is None or event.is_set():
            return False
        event.set()
        return True
