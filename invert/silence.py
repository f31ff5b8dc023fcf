"""Warnings of libraries, hidden while they work for us.

Python's filters belong to the whole process, and `warnings.catch_warnings` in threads that overlap may leave one's filters in
place for good. Here the last thread to leave puts back what the first one found.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class _Hidden:
    def __init__(self) -> None:
        self.lock, self.threads = Lock(), 0
        self.before = warnings.catch_warnings()

    def enter(self) -> None:
        with self.lock:
            if not self.threads:
                self.before = warnings.catch_warnings()
                self.before.__enter__()
                warnings.simplefilter("ignore")
            self.threads += 1

    def leave(self) -> None:
        with self.lock:
            self.threads -= 1
            if not self.threads:
                self.before.__exit__(None, None, None)


_HIDDEN = _Hidden()


@contextmanager
def no_warnings() -> Iterator[None]:
    """Within the context no warning is shown or raised, in no thread."""
    if getattr(sys.flags, "context_aware_warnings", False):  # Python 3.14 and later can keep filters apart by thread
        with warnings.catch_warnings(action="ignore"):
            yield
        return
    _HIDDEN.enter()
    try:
        yield
    finally:
        _HIDDEN.leave()
