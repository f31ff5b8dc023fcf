"""What an inversion gives back, the same for every method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

from invert.captions import Captioned, WordGain
from invert.history import HistoryEntry

if TYPE_CHECKING:
    from invert.diffusion.polish import Polished
    from invert.models.clip import Clip


@dataclass(frozen=True)
class Token:
    """A token of the prompt."""

    text: str
    id: int


def tokens_of(clip: Clip, prompt: str) -> list[Token]:
    """The tokens that a model reads a prompt as."""
    return [Token(clip.tokenizer.text(token), token) for token in clip.tokenizer.encode(prompt)]


@dataclass(frozen=True)
class SoftToken:
    """An optimized embedding in words: its nearest token, or hyphenated combination of tokens.

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
class GeneratedImage:
    """An image that a generator drew of the prompt, and how near it comes to the picture that the prompt was found for.

    judge: cosine of the two images' latents under a model that nobody optimized against. pixels: root mean square
    difference, 0..1. colors: share of the picture that has another color. problem: why the image shows nothing
    ("withheld by the safety checker"), else "".
    """

    image: Image.Image
    seed: int
    judge: float
    pixels: float
    colors: float
    problem: str = ""

    def to_json(self) -> dict[str, float | str]:
        """Everything but the image; a problem only where there is one."""
        return {name: value for name, value in vars(self).items() if name != "image" and value != ""}


@dataclass(frozen=True)
class Result:
    """A prompt and how it was found."""

    prompt: str
    score: float  # cosine of the prompt's latent with the target
    tokens: list[Token]
    history: list[HistoryEntry]
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
    soft: Tensor | None = field(default=None, compare=False, repr=False)  # the best soft prompt's input embeddings (L, D)
    drawn: list[GeneratedImage] = field(default_factory=list, repr=False)  # what the prompt draws, where that was asked for
    soft_drawn: list[GeneratedImage] | None = field(
        default=None, repr=False
    )  # what the soft prompt draws; None: it cannot be read
    polished: Polished | None = field(default=None, compare=False, repr=False)  # the prompt's embeddings, polished by a denoiser
    polished_drawn: list[GeneratedImage] | None = field(default=None, repr=False)  # what they draw; None: not polished
    soft_obstacle: str = ""  # why the soft prompt is not drawn though the prompt is
    interrupted: bool = False
    judge: float | None = None  # the prompt's cosine with the picture under a model that nobody optimized, where there is one
    language_tokens: int = 0  # positions through a language model
    captions: list[Captioned] = field(default_factory=list)  # what a captioner said, and what became of it
    words: tuple[WordGain, ...] = ()  # where it was asked: what each word of the prompt earned
    soft_widths: tuple[int, ...] = ()  # where several models are joined: the width of each one's part of `soft`
    model_scores: dict[str, dict[str, float]] = field(default_factory=dict)  # there: prompt → model → its own cosine
    doubt: str = ""  # why the model may not know what the picture shows; "" where it does, or nothing can tell

    def reordered(self, order: Sequence[int], tokenize: Callable[[str], list[Token]]) -> Result:
        """This result with its distinct prompts in that order; the first becomes its prompt."""
        alternatives = [self.alternatives[i] for i in order]
        prompt, score = alternatives[0]
        return replace(self, prompt=prompt, score=score, tokens=tokenize(prompt), alternatives=alternatives)

    @property
    def embedding(self) -> Tensor | None:
        """Token embeddings (L, D) for a generator: the polished ones, else the soft prompt's, else None."""
        return self.soft if self.polished is None else self.polished.embeddings

    def limited(self, top: int, interrupted: bool = False) -> Result:
        """This result with its first `top` prompts."""
        return replace(self, alternatives=self.alternatives[:top], interrupted=self.interrupted or interrupted)

    def to_json(self) -> dict[str, Any]:
        """Everything but the history, the soft prompt's embeddings and the images, as plain JSON types."""
        drawn = {"drawn": [image.to_json() for image in self.drawn]} if self.drawn else {}
        if self.drawn and self.soft_drawn is not None:
            drawn["soft_drawn"] = [image.to_json() for image in self.soft_drawn]
        if self.drawn and self.polished_drawn is not None:
            drawn["polished_drawn"] = [image.to_json() for image in self.polished_drawn]
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
            **({"language_tokens": self.language_tokens} if self.language_tokens else {}),
            "interrupted": self.interrupted,
            **({} if self.judge is None else {"judge": self.judge}),
            **({"captions": [caption.to_json() for caption in self.captions]} if self.captions else {}),
            **({"words": [vars(gain) for gain in self.words]} if self.words else {}),
            **({"doubt": self.doubt} if self.doubt else {}),
            **({"model_scores": self.model_scores[self.prompt]} if self.prompt in self.model_scores else {}),
            **drawn,
        }
