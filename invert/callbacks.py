"""How a caller follows one inversion, and ends it early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from invert.given import function
from invert.history import HistoryEntry

OnBest = Callable[[str, float], None]  # every better prompt and its objective
OnStep = Callable[[HistoryEntry], None]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class Callbacks:
    """What is called on the way; None for nothing. Raises InputError where one is no function."""

    on_best: OnBest | None = None
    on_step: OnStep | None = None
    stop: Stop | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            function(one.name, getattr(self, one.name))
