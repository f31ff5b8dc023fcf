"""A picture whose soft prompts are looked for, with the models and the prompts in words that all ways to find one share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from experiments.harness.hidden_states import HiddenStates
from experiments.harness.pictures import Picture
from invert.budget import Budget
from invert.config import PolishConfig, SoftConfig
from invert.diffusion.generator import Generator
from invert.diffusion.polish import polish, rows_of_prompt
from invert.history import History
from invert.inverter import Inverter
from invert.scorer import PromptScorer
from invert.soft import SoftPrompts, optimize


@dataclass(frozen=True, eq=False)
class Lab:
    """What all pictures share."""

    inverter: Inverter
    generator: Generator
    states: HiddenStates
    seed: int = 0
    config: PolishConfig = field(default_factory=PolishConfig)

    @cached_property
    def word_distance(self) -> float:
        """Median distance of a token's row to its nearest other row: the unit of trust regions."""
        index = self.inverter.bundle.token_index
        return float(index.nearest(index.embeddings, 2)[1][:, 1].median())


@dataclass(frozen=True, eq=False)
class Subject:
    """A picture with the prompts that were found for it."""

    lab: Lab
    picture: Picture
    target: Tensor
    hard: str
    retrieved: str

    def rng(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.lab.seed)

    def rows(self, prompt: str) -> Tensor:
        return rows_of_prompt(self.lab.generator, prompt)

    @cached_property
    def mixture(self) -> SoftPrompts:
        """The soft prompts of `invert`'s own soft stage."""
        return descend_from_random(self, SoftConfig(), 6)


Variant = Callable[[Subject], Tensor]  # to token embeddings (L, D)


def descend_from_random(subject: Subject, config: SoftConfig, restarts: int) -> SoftPrompts:
    bundle = subject.lab.inverter.bundle
    start = torch.randint(len(bundle.token_index), (restarts, 16), generator=subject.rng()).to(bundle.clip.device)
    scorer = PromptScorer(bundle.clip, subject.target, Budget())
    return optimize(scorer, bundle.token_index, start, config, History())


def best(soft: SoftPrompts) -> Tensor:
    return soft.embeddings[int(soft.scores.argmax())]


def polished(subject: Subject, start: Tensor | None = None, config: PolishConfig | None = None) -> Tensor:
    """What `invert --embedding` writes."""
    lab = subject.lab
    rows = subject.rows(subject.hard) if start is None else start
    return polish(lab.generator, [subject.picture.image], rows, subject.rng(), config or lab.config).embeddings
