"""Prompts as people write them: what a search starts from, and what its prior may be learned from.

A corpus is encoded once per model and kept on disk, as the token index is; no image is charged for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from invert.corpus_file import read_corpus as read_corpus
from invert.encoding import Exhausted, encode_prompts, never
from invert.errors import InputError
from invert.given import listed
from invert.latents import LatentTable

if TYPE_CHECKING:
    from torch import Tensor

    from invert.models.clip import Clip


@dataclass(frozen=True)
class Corpus:
    """Distinct prompts.

    Attributes:
        prompts: may be empty.
        teaches_prior: whether they are written as prompts should be. Phrases from a template
            ("a photo of a …") are good to start from and say nothing of language.
        n_added: of the prompts, the last, which a user added: they are written as prompts should be.
    """

    prompts: tuple[str, ...] = ()
    teaches_prior: bool = True
    n_added: int = 0

    def __post_init__(self) -> None:
        prompts = (self.prompts,) if isinstance(self.prompts, str) else listed("prompts", self.prompts, "a list of texts")
        object.__setattr__(self, "prompts", prompts)

    @cached_property
    def added(self) -> dict[str, None]:
        """The prompts that a user added, in their order."""
        return dict.fromkeys(self.prompts[len(self.prompts) - self.n_added :])

    def extended(self, lines: Iterable[str]) -> Corpus:
        """This corpus and behind it a user's lines as prompts, without those that it has."""
        known = set(self.prompts)
        new = tuple(prompt for prompt in as_prompts(lines) if prompt not in known)
        return Corpus((*self.prompts, *new), self.teaches_prior, self.n_added + len(new))

    def sentences(self, most: int) -> list[str]:
        """At most so many prompts that language is learned from, from all parts alike; of a user's, half of them at least."""
        own = self.prompts[: len(self.prompts) - self.n_added] if self.teaches_prior else ()
        added = spread(tuple(self.added), max(most // 2, most - len(own)))
        return [*spread(own, most - len(added)), *added]


@dataclass(frozen=True, eq=False)
class EncodedCorpus:
    """Prompts and their unit latents (N, E), on the model's device or on disk."""

    prompts: tuple[str, ...]
    latents: LatentTable

    def nearest(self, target: Tensor, k: int) -> list[tuple[str, float]]:
        """The k prompts nearest to the unit target (E,), each with its cosine, best first."""
        return self.nearest_to_each(target[None], k)[0]

    def nearest_to_each(self, targets: Tensor, k: int) -> list[list[tuple[str, float]]]:
        """`nearest` of each of the unit targets (B, E)."""
        scores, order = self.latents.nearest(targets, k)
        return [
            [(self.prompts[i], score) for score, i in zip(*row, strict=True)]
            for row in zip(scores.tolist(), order.tolist(), strict=True)
        ]

    def followed_by(self, other: EncodedCorpus) -> EncodedCorpus:
        """These prompts and behind them those of the other."""
        return EncodedCorpus((*self.prompts, *other.prompts), self.latents.followed_by(other.latents))

    def of(self, chosen: Sequence[int]) -> EncodedCorpus:
        """Those of ascending indices."""
        return EncodedCorpus(tuple(self.prompts[i] for i in chosen), self.latents.of_rows(chosen))


def encode_corpus(clip: Clip, prompts: Sequence[str], exhausted: Exhausted = never) -> EncodedCorpus:
    """The prompts with their latents, read back from disk where the model encoded them before.

    Args:
        clip: the model.
        prompts: at least one.
        exhausted: whether time is up; prompts that are neither on disk nor reached are then left out.

    Raises:
        InputError: there are no prompts.
    """
    if not prompts:
        raise InputError("this model comes without prompts to start from: give a `corpus`")
    indices, latents = encode_prompts(clip, prompts, exhausted)
    whole = len(indices) == len(prompts)
    return EncodedCorpus(tuple(prompts) if whole else tuple(prompts[i] for i in indices), latents)


def as_prompts(lines: Iterable[str]) -> tuple[str, ...]:
    """Lines → distinct prompts in lower case, blank ones left out."""
    return tuple(dict.fromkeys(line.strip().lower() for line in lines if line.strip()))


def spread(prompts: Sequence[str], n: int) -> Sequence[str]:
    """At most n of the prompts, from all parts of the list alike."""
    return prompts if len(prompts) <= n else [prompts[i * len(prompts) // n] for i in range(n)]
