"""What a method found on its way, step by step, and the best prompt so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

COSINE = "cosine"  # of the prompt's latent with the target
OBJECTIVE = "objective"  # cosine with the terms for language, length, required words and, in the last choice, what is named
DENOISING_ERROR = "denoising error"  # mean squared error of the U-Net's prediction; lower is better
LOWER_IS_BETTER = frozenset({DENOISING_ERROR})


def labeled(objective: float, metric: str) -> str:
    """A candidate's objective as people read it: "cosine 0.312", "denoising error 0.087"."""
    return f"{metric} {-objective if metric in LOWER_IS_BETTER else objective:.3f}"


@dataclass(frozen=True)
class HistoryEntry:
    """One step of a method."""

    stage: str  # "soft", "search", …
    step: int  # counted within the stage
    value: float  # the best of this step
    prompt: str = ""  # the prompt of that value; "" while tokens are still soft
    metric: str = COSINE  # what the value is


@dataclass
class History:
    """The steps of one inversion and its best prompt, which survives an interrupt because it is kept here.

    Attributes:
        on_best: called with every better prompt and its objective; last with what is chosen, where another scale chose it.
        on_step: called with every step.
        best_objective: higher is better; methods differ in what they maximize, so compare it within one method.
    """

    on_best: Callable[[str, float], None] | None = None
    entries: list[HistoryEntry] = field(default_factory=list)
    best_prompt: str = ""
    best_objective: float = float("-inf")
    on_step: Callable[[HistoryEntry], None] | None = None

    def record(self, stage: str, step: int, value: float, prompt: str = "", metric: str = COSINE) -> None:
        entry = HistoryEntry(stage, step, value, prompt, metric)
        self.entries.append(entry)
        if self.on_step is not None:
            self.on_step(entry)

    def report_choice(self, prompt: str, objective: float) -> None:
        """Keep the prompt that is chosen in the end, by an objective that those before cannot be compared with."""
        if prompt != self.best_prompt:
            self.best_objective = float("-inf")
            self.report_candidate(prompt, objective)

    def report_candidate(self, prompt: str, objective: float) -> None:
        """Keep the prompt if it is the best so far."""
        if objective > self.best_objective:
            self.best_prompt, self.best_objective = prompt, objective
            if self.on_best is not None:
                self.on_best(prompt, objective)
