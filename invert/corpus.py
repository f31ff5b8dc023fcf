"""Prompts as people write them: what a search starts from, and what its language is learned from.

picturebook's corpus are captions of training scenes, drawn by seed; a held-out scene's own caption is
never among them. Other models take the 1,000 ImageNet classes that open_clip ships, or a file of the
user's. A corpus is encoded once per model and kept on disk, as the FAISS index is; a single image is
not charged for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from safetensors.torch import load_file, save_file
from torch import Tensor

from invert.corpus_file import read_corpus as read_corpus
from invert.models.clip import Clip
from invert.picturebook.grammar import caption
from invert.picturebook.world import draw_scenes
from invert.vocabulary import cache_folder, write_whole

CORPUS_SIZE = 8_192  # captions
CORPUS_SEED = 1


@dataclass(frozen=True)
class Corpus:
    """Captions and their unit latents (N, E) float32 on the model's device."""

    captions: tuple[str, ...]
    latents: Tensor

    def nearest(self, target: Tensor, k: int) -> list[tuple[str, float]]:
        """The k captions nearest to the unit target (E,), each with its cosine, best first."""
        scores, order = (self.latents @ target).topk(min(k, len(self.captions)))
        return [(self.captions[i], score) for score, i in zip(scores.tolist(), order.tolist(), strict=True)]


@lru_cache(maxsize=4)
def encoded_corpus(clip: Clip, captions: tuple[str, ...] | None = None) -> Corpus:
    """The captions, or the model's own corpus, with their latents; read back from disk if encoded before."""
    chosen = captions or corpus_captions(clip)
    file = cache_folder() / f"{_digest(clip, chosen)}.corpus.safetensors"
    try:
        latents = load_file(file)["latents"].to(clip.device)
        if len(latents) != len(chosen):
            raise ValueError("the file is of another corpus")
    except Exception:  # not there, damaged or misplaced: made again
        latents = clip.encode_text(chosen).float()
        write_whole(file, lambda path: save_file({"latents": latents.cpu().contiguous()}, path))
    return Corpus(chosen, latents)


def _digest(clip: Clip, captions: Sequence[str]) -> str:
    """Of what the latents depend on: the captions, and the model as seen in a few of their latents."""
    probe = clip.encode_text(captions[:4]).float().cpu()
    return hashlib.sha256("\n".join(captions).encode() + (probe * 1e4).round().int().numpy().tobytes()).hexdigest()[:16]


def corpus_captions(clip: Clip) -> tuple[str, ...]:
    """Distinct captions of training scenes for picturebook, of ImageNet's classes for any other model."""
    if clip.known_tokens is not None:
        return tuple(dict.fromkeys(caption(scene) for scene in draw_scenes(CORPUS_SIZE, CORPUS_SEED)))
    from open_clip import IMAGENET_CLASSNAMES

    return tuple(dict.fromkeys(f"a photo of a {name}" for name in IMAGENET_CLASSNAMES))
