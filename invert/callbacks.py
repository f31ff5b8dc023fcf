"""How a caller follows one inversion, and ends it early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from invert.history import HistoryEntry

OnBest = Callable[[str, float], None]  # every better prompt and its objective
OnStep = Callable[[HistoryEntry], None]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class Callbacks:
    """What is called on the way; None for nothing."""

    on_best: OnBest | None = None
    on_step: OnStep | None = None
    stop: Stop | None = None
