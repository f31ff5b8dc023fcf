"""What an inversion gives back, the same for every method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor

from invert.meter import TraceStep


@dataclass(frozen=True)
class Token:
    """A token of the prompt."""

    text: str
    id: int


@dataclass(frozen=True)
class SoftToken:
    """An optimised embedding in words: its nearest token, or hyphenated combination of tokens.

    distance: Euclidean, embedding to row. has_word: False where it lies farther from every word than
    words lie from each other.
    """

    text: str
    distance: float
    has_word: bool


@dataclass(frozen=True)
class ConceptWords:
    """A k-means concept: the words near its centroid and the share of restarts that found it."""

    words: tuple[str, ...]
    share: float


@dataclass(frozen=True)
class Drawn:
    """An image that a generator drew of the prompt, and how near it comes to the picture that the prompt was found for.

    judge: cosine of the two images' latents under a model that nobody optimised against. pixels: root mean square
    difference, 0..1. colours: share of the picture that has another colour.
    """

    image: Image.Image
    seed: int
    judge: float
    pixels: float
    colours: float

    def to_json(self) -> dict[str, float]:
        return {name: value for name, value in vars(self).items() if name != "image"}


@dataclass(frozen=True)
class Result:
    """A prompt and how it was found."""

    prompt: str
    score: float  # cosine of the prompt's latent with the target
    tokens: list[Token]
    trace: list[TraceStep]
    alternatives: list[tuple[str, float]]  # distinct prompts with their cosines, the best first
    method: str
    model: str
    seed: int
    seconds: float
    forward_tokens: int  # positions through the text encoder
    backward_tokens: int
    image_passes: int
    soft_tokens: list[SoftToken] = field(default_factory=list)
    soft_score: float | None = None  # cosine of the best soft prompt, before any word was chosen
    concepts: list[ConceptWords] = field(default_factory=list)
    soft: Tensor | None = field(default=None, compare=False, repr=False)  # the best soft prompt's token rows (L, D)
    drawn: list[Drawn] = field(default_factory=list, repr=False)  # what the prompt draws, where that was asked for
    soft_drawn: list[Drawn] | None = field(default=None, repr=False)  # what the soft prompt draws; None: it cannot be read
    interrupted: bool = False

    def to_json(self) -> dict[str, Any]:
        """Everything but the trace, the soft rows and the images, as plain JSON types."""
        drawn = {"drawn": [image.to_json() for image in self.drawn]} if self.drawn else {}
        if self.drawn and self.soft_drawn is not None:
            drawn["soft_drawn"] = [image.to_json() for image in self.soft_drawn]
        return {
            "prompt": self.prompt,
            "score": self.score,
            "alternatives": [{"prompt": prompt, "score": score} for prompt, score in self.alternatives],
            "tokens": [token.text for token in self.tokens],
            "soft_score": self.soft_score,
            "soft_tokens": [vars(token) for token in self.soft_tokens],
            "concepts": [{"words": list(concept.words), "share": concept.share} for concept in self.concepts],
            "method": self.method,
            "model": self.model,
            "seed": self.seed,
            "seconds": self.seconds,
            "token_passes": {"forward": self.forward_tokens, "backward": self.backward_tokens},
            "image_passes": self.image_passes,
            "interrupted": self.interrupted,
            **drawn,
        }
