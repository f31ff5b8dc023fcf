"""What a method spends, counted the same way for every method, and the limit on it.

The unit is the token pass: one position of one prompt through the whole text tower, forward or
backward. Time and image-encoder passes are counted beside it. A method asks `exhausted` between
batches and stops by itself; the best prompt so far survives an interrupt because it lives here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TraceStep:
    """One step of a method's history."""

    stage: str  # "soft", "search", …
    step: int  # counted within the stage
    score: float  # cosine of the best latent at this step
    prompt: str = ""  # the discrete prompt that scores it; "" while tokens are still soft


@dataclass
class Meter:
    """Counts token passes and seconds; remembers the best prompt and the history."""

    max_token_passes: int | None = None
    max_seconds: float | None = None
    on_best: Callable[[str, float], None] | None = None  # told of every better prompt (progress, notes)
    forward_tokens: int = 0
    backward_tokens: int = 0
    image_passes: int = 0
    best_prompt: str = ""
    best_value: float = float("-inf")
    trace: list[TraceStep] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    def spend(self, forward: int = 0, backward: int = 0, images: int = 0) -> None:
        """Add what was just run: positions forward and backward, pictures."""
        self.forward_tokens += forward
        self.backward_tokens += backward
        self.image_passes += images

    @property
    def token_passes(self) -> int:
        return self.forward_tokens + self.backward_tokens

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @property
    def exhausted(self) -> bool:
        """Whether the budget of token passes or of seconds is spent."""
        if self.max_token_passes is not None and self.token_passes >= self.max_token_passes:
            return True
        return self.max_seconds is not None and self.seconds >= self.max_seconds

    def record(self, stage: str, step: int, score: float, prompt: str = "") -> None:
        self.trace.append(TraceStep(stage, step, score, prompt))

    def offer(self, prompt: str, value: float) -> None:
        """Keep the prompt if it is the best so far."""
        if value > self.best_value:
            self.best_prompt, self.best_value = prompt, value
            if self.on_best is not None:
                self.on_best(prompt, value)
