"""What every method is given and gives back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from invert.budget import Budget
from invert.bundle import ModelBundle
from invert.config import InvertConfig
from invert.corpus import EncodedCorpus
from invert.history import History
from invert.models.clip import Clip
from invert.project import Concept, Projection
from invert.scorer import PromptScorer

if TYPE_CHECKING:
    from invert.prior.rescoring import Rescorer


@dataclass(frozen=True, eq=False)
class InversionTask:
    """One prompt wanted.

    Attributes:
        bundle: the model, with the run's `corpus` and `ban` in it.
        target: unit latent (E,) float32 on the model's device.
        config: the run's options.
        rng: the only source of randomness, on the CPU.
        budget: counts what is spent.
        history: records steps and better prompts.
        images: what the target was made of, none where it is a text's; only methods that caption or
            denoise images themselves look at them.
        language: a language model beside the prior, where one was asked for.
        captions: sentences that say what they show, where a captioner was asked.
        doubt: why the model may not know what they show; "" where it does, or nothing can tell.
    """

    bundle: ModelBundle
    target: Tensor
    config: InvertConfig
    rng: torch.Generator
    budget: Budget
    history: History
    images: tuple[Image.Image, ...] = ()
    captions: tuple[str, ...] = ()
    language: Rescorer | None = None
    doubt: str = ""

    @property
    def clip(self) -> Clip:
        return self.bundle.clip

    def scorer(self) -> PromptScorer:
        """A scorer on the task's target that spends the task's budget."""
        return PromptScorer(self.clip, self.target, self.budget)

    def encoded_corpus(self) -> EncodedCorpus:
        """The corpus with its latents; of a user's corpus as much as is encoded within the run's seconds."""
        if self.config.corpus:
            return self.bundle.corpus_within(lambda: self.budget.out_of_time)
        return self.bundle.encoded_corpus

    def randint(self, n: int) -> int:
        """An integer in 0..n-1 from the task's rng."""
        return int(torch.randint(n, (), generator=self.rng))

    def random_ids(self, shape: tuple[int, ...]) -> Tensor:
        """Token ids of that shape, drawn evenly from the lexicon's tokens."""
        allowed = self.bundle.token_index.token_ids
        return allowed[torch.randint(len(allowed), shape, generator=self.rng).to(allowed.device)]

    def decode(self, ids: Iterable[int]) -> str:
        """Token ids as text."""
        return self.clip.tokenizer.decode(list(ids)).strip()

    def banned(self) -> tuple[str, ...]:
        """The phrases that no prompt may hold, in lower case."""
        return tuple(text.strip().lower() for text in self.config.ban)

    def allows(self, text: str) -> bool:
        """Whether a text holds none of the banned phrases; words alone never come up where methods choose them."""
        held = f" {' '.join(text.lower().split())} "
        return not any(f" {phrase} " in held for phrase in self.banned())


@dataclass(frozen=True, eq=False)
class InversionOutput:
    """What a method found.

    Attributes:
        prompts: distinct, best first, each with its cosine.
        soft_score: cosine of the best soft prompt, before any word was chosen.
        projections: its embeddings as tokens.
        concepts: what the restarts agree on.
        soft: the best soft prompt's input embeddings (L, D).
        shortened: of each of the task's captions what earns something, and its cosine; where the method looks.
    """

    prompts: list[tuple[str, float]]
    soft_score: float | None = None
    projections: list[Projection] = field(default_factory=list)
    concepts: list[Concept] = field(default_factory=list)
    soft: Tensor | None = None
    shortened: list[tuple[str, float]] = field(default_factory=list)
