"""Retrieval: the caption of a corpus that lies nearest to the target, and a start for CLIP Interrogator.

picturebook's corpus are captions of training scenes, drawn by seed; a held-out scene's own caption is
never among them. Other models take the 1,000 ImageNet classes that open_clip ships. A corpus is encoded
once per model and kept, as a user of retrieval would; that is not charged to the single image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from invert.clip import Clip
from invert.methods import Problem, Solution
from invert.picturebook.grammar import caption
from invert.picturebook.world import draw_scenes

CORPUS_SIZE = 8_192  # captions
CORPUS_SEED = 1


@dataclass(frozen=True)
class Corpus:
    """Captions and their unit latents (N, E)."""

    captions: tuple[str, ...]
    latents: Tensor


def retrieve(problem: Problem) -> Solution:
    """The corpus's nearest captions, best first."""
    found = nearest_captions(problem.clip, problem.target, problem.config.top)
    problem.meter.offer(*found[0])
    return Solution(found)


def nearest_captions(clip: Clip, target: Tensor, k: int) -> list[tuple[str, float]]:
    """The k captions nearest to the unit target (E,), each with its cosine, best first."""
    corpus = encoded_corpus(clip)
    scores, order = (corpus.latents @ target).topk(min(k, len(corpus.captions)))
    return [(corpus.captions[i], score) for score, i in zip(scores.tolist(), order.tolist(), strict=True)]


@lru_cache(maxsize=2)
def encoded_corpus(clip: Clip) -> Corpus:
    """The model's corpus, encoded once."""
    captions = corpus_captions(clip)
    return Corpus(captions, clip.encode_text(captions).float())


def corpus_captions(clip: Clip) -> tuple[str, ...]:
    """Distinct captions of training scenes for picturebook, of ImageNet's classes for any other model."""
    if clip.known_tokens is not None:
        return tuple(dict.fromkeys(caption(scene) for scene in draw_scenes(CORPUS_SIZE, CORPUS_SEED)))
    from open_clip import IMAGENET_CLASSNAMES

    return tuple(dict.fromkeys(f"a photo of a {name}" for name in IMAGENET_CLASSNAMES))
