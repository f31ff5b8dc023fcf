"""Prompts as people write them: what a search starts from, and what its prior may be learned from.

A corpus is encoded once per model and kept on disk, as the token index is; no image is charged for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from invert.cache import cache_folder, write_whole
from invert.corpus_file import read_corpus as read_corpus
from invert.errors import InputError

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
    """Prompts and their unit latents (N, E) float32 on the model's device."""

    prompts: tuple[str, ...]
    latents: Tensor

    def nearest(self, target: Tensor, k: int) -> list[tuple[str, float]]:
        """The k prompts nearest to the unit target (E,), each with its cosine, best first."""
        scores, order = (self.latents @ target).topk(min(k, len(self.prompts)))
        return [(self.prompts[i], score) for score, i in zip(scores.tolist(), order.tolist(), strict=True)]


def encode_corpus(clip: Clip, prompts: Sequence[str]) -> EncodedCorpus:
    """The prompts with their latents, read back from disk if the model encoded them before.

    Raises:
        InputError: there are no prompts.
    """
    from safetensors.torch import load_file, save_file

    if not prompts:
        raise InputError("this model comes without prompts to start from: give a `corpus`")
    file = cache_folder() / f"{_digest(clip, prompts)}.corpus.safetensors"
    try:
        latents = load_file(file)["latents"].to(clip.device)
        if len(latents) != len(prompts):
            raise ValueError("the file is of another corpus")
    except Exception:  # not there, damaged or misplaced: made again
        latents = clip.encode_text(prompts).float()
        write_whole(file, lambda path: save_file({"latents": latents.cpu().contiguous()}, path))
    return EncodedCorpus(tuple(prompts), latents)


def _digest(clip: Clip, prompts: Sequence[str]) -> str:
    """Of what the latents depend on: the prompts, and the model as seen in a few of their latents."""
    probe = clip.encode_text(prompts[:4]).float().cpu()
    return hashlib.sha256("\n".join(prompts).encode() + (probe * 1e4).round().int().numpy().tobytes()).hexdigest()[:16]


def as_prompts(lines: Iterable[str]) -> tuple[str, ...]:
    """Lines → distinct prompts in lower case, blank ones left out."""
    return tuple(dict.fromkeys(line.strip().lower() for line in lines if line.strip()))
