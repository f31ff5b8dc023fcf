"""The prior that knows no language: all prompts are alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from invert.lexicon import Lexicon, Prompt


@dataclass(frozen=True, eq=False)
class UniformPrior:
    """See `invert.prior.Prior`."""

    lexicon: Lexicon

    @property
    def per_token(self) -> float:
        return 0.0

    def log_prob(self, prompt: Prompt) -> float:
        return 0.0

    def slot_log_probs(self, prompt: Prompt, slot: int, insert: bool) -> Tensor:
        return torch.zeros(len(self.lexicon))

    def likely_words(self, prompt: Prompt, slot: int, n: int) -> list[int] | None:
        return None

    def cut_points(self, first: Prompt, second: Prompt) -> Iterator[tuple[int, int]]:
        return iter(())

    def contexts(self, prompt: Prompt) -> None:
        return None
