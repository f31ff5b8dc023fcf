"""Prompts as people write them: what a search starts from, and what its prior may be learned from.

A corpus is encoded once per model and kept on disk, as the token index is; no image is charged for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from invert.corpus_file import read_corpus as read_corpus
from invert.encoding import Exhausted, encode_prompts, never
from invert.errors import InputError
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
    """

    prompts: tuple[str, ...] = ()
    teaches_prior: bool = True


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
