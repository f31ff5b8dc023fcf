"""What a method spends, counted alike for every method, and the limit on it.

The unit is the token pass: one position of one prompt through the whole text tower, forward or
backward. Time and image-encoder passes are counted beside it. A method asks `exhausted` between
batches and stops by itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields

from invert.given import function, number, whole, wrong


@dataclass
class Budget:
    """Counts token passes and seconds against their limits.

    Attributes:
        max_token_passes: forward plus backward; None for no limit.
        max_seconds: wall time since the budget was made; None for no limit.
        stop: asked with them: True ends the method as a spent budget does, with the best prompt so far; None for no such wish.
        language_tokens: positions through a language model, which are no token passes.
        passes_per_position: text towers that every position runs through: 2 where two models are joined.

    Raises:
        InputError: a value is of a wrong kind, or a limit or a count is below 0.
    """

    max_token_passes: int | None = None
    max_seconds: float | None = None
    passes_per_position: int = 1
    forward_tokens: int = 0
    backward_tokens: int = 0
    image_passes: int = 0
    language_tokens: int = 0
    began: float = field(default_factory=time.perf_counter)
    stop: Callable[[], bool] | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            if one.name == "stop":
                function("stop", self.stop)
                continue
            value = getattr(self, one.name)
            if value is None and one.default is None:
                continue
            value = (number if one.name in ("max_seconds", "began") else whole)(one.name, value)
            if not 0 <= value < math.inf:
                raise wrong(one.name, value, "a number of at least 0")
            setattr(self, one.name, value)

    def spend(self, forward: int = 0, backward: int = 0, images: int = 0) -> None:
        """Add what was just run: positions forward and backward, pictures."""
        self.forward_tokens += forward * self.passes_per_position
        self.backward_tokens += backward * self.passes_per_position
        self.image_passes += images

    @property
    def token_passes(self) -> int:
        return self.forward_tokens + self.backward_tokens

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @property
    def stopped(self) -> bool:
        """Whether the caller wants no more."""
        return self.stop is not None and self.stop()

    @property
    def out_of_time(self) -> bool:
        """Whether the seconds are spent, or the caller wants no more."""
        return self.stopped or (self.max_seconds is not None and self.seconds >= self.max_seconds)

    @property
    def exhausted(self) -> bool:
        """Whether the token passes or the seconds are spent, or the caller wants no more."""
        if self.max_token_passes is not None and self.token_passes >= self.max_token_passes:
            return True
        return self.out_of_time
