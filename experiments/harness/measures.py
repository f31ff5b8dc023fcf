"""How good a prompt is where the truth is known: words, objects, relation, and a held-out judge.

In: prompts, and the `Scene`s or pictures they were recovered from. Out: plain numbers per prompt. Every
experiment that rates prompts uses these, so that a figure means the same in each of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from invert.models.loading import load_clip
from invert.picturebook.grammar import content_words, mentioned_objects, paraphrases, relation
from invert.picturebook.world import Scene


def f1(said: Sequence[str], true: Sequence[str]) -> float:
    """F1 of two bags of words, in 0..1."""
    common = sum((Counter(said) & Counter(true)).values())
    return 2 * common / (len(said) + len(true)) if said or true else 1.0


def word_f1(prompt: str, scene: Scene) -> float:
    """F1 over content words against the caption of the same meaning that is nearest to the prompt.

    "A left of B" and "B right of A" say the same, so the truth is every paraphrase of the caption.
    """
    said = content_words(prompt)
    return max(f1(said, content_words(text)) for text in paraphrases(scene))


def objects_right(prompt: str, scene: Scene) -> bool:
    """Whether the prompt names exactly the scene's objects, no fewer and no others."""
    return {index for index, _, _ in mentioned_objects(prompt)} == set(scene.objects)


def objects_named(prompt: str, scene: Scene) -> float:
    """Share of the scene's objects that the prompt names, whatever else it names: favorable to long prompts."""
    mentioned = {index for index, _, _ in mentioned_objects(prompt)}
    return len(mentioned & set(scene.objects)) / len(set(scene.objects))


def relation_right(prompt: str, scene: Scene) -> bool:
    """Whether the prompt states the layout, with the right object on the left or above."""
    return relation(prompt) == relation(paraphrases(scene)[0])


class Judge:
    """The second CLIP: another architecture and seed, never optimized against."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.clip = load_clip("picturebook-judge", device)

    def similarity(self, prompts: Sequence[str], pictures: Sequence[Image.Image] | Tensor) -> Tensor:
        """Cosine (B,) of each prompt with its picture. pictures: PIL images, or (B, 3, 64, 64) in 0..1."""
        return (self.clip.encode_text(prompts) * self.clip.encode_image(pictures)).sum(1).cpu()
