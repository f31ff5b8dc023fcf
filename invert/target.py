"""Images or a text → the unit latent that the prompt is pulled onto.

CLIP's image and text latents lie in two separate cones (the modality gap: Liang et al., arXiv
2203.02053). Three targets answer it: the image latent as it is (`raw`), the seed thread's addition
of the empty prompt's latent (`empty`), and a shift by the mean difference of text and image latents
(`gap`). Several images average to one target; a negative latent is moved away from.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from invert.config import TARGETS
from invert.errors import InputError
from invert.models.clip import Clip

log = logging.getLogger(__name__)
MOST_TOLD = 100  # prompts of a model that are remembered as told
_told: WeakKeyDictionary[Clip, set[tuple[str, str]]] = WeakKeyDictionary()
SMALLEST_REST = 1e-3  # norm of a target after a negative: below it, its direction is rounding error


@torch.no_grad()
def image_latents(clip: Clip, images: Sequence[Image.Image]) -> Tensor:
    """The images' unit latents (B, E) float32; InputError where there is no image."""
    if not images:
        raise InputError("there is no image to invert: give one or more")
    return clip.exact.encode_image(list(images)).float()


def image_latent(clip: Clip, images: Sequence[Image.Image]) -> Tensor:
    """The unit mean (E,) of the images' unit latents; InputError where there is no image."""
    return F.normalize(image_latents(clip, images).mean(0), dim=0)


@torch.no_grad()
def text_latent(clip: Clip, prompt: str, called: str = "") -> Tensor:
    """The unit latent (E,) of a prompt: the target of prompt distillation.

    called: what a note calls the prompt where the model does not read all of it; "" for no note.
    """
    if called:
        note_what_is_read(clip, prompt, called)
    return clip.exact.encode_text([prompt])[0].float()


def note_what_is_read(clip: Clip, prompt: str, called: str) -> None:
    """Say of a prompt that is longer than the model's context how much of it is read, once for each model and prompt."""
    tokens, most = len(clip.tokenizer.encode(prompt)), clip.max_prompt_tokens
    told = _told.setdefault(clip, set())
    if tokens <= most or (called, prompt) in told:
        return
    if len(told) >= MOST_TOLD:
        told.clear()
    told.add((called, prompt))
    log.warning("%s has %s tokens, of which %r reads the first %s: the rest counts for nothing", called, tokens, clip.name, most)


@torch.no_grad()
def modality_gap(clip: Clip, images: Sequence[Image.Image] | Tensor, prompts: Sequence[str]) -> Tensor:
    """Mean text latent minus mean image latent, (E,), over images and prompts of the same world."""
    clip = clip.exact
    pictures = clip.encode_image(images if isinstance(images, Tensor) else list(images))
    return clip.encode_text(list(prompts)).float().mean(0) - pictures.float().mean(0)


def apply_gap_correction(clip: Clip, latent: Tensor, kind: str, gap: Tensor | None = None) -> Tensor:
    """An image's unit latent (E,) → the unit target of one of TARGETS.

    gap: (E,) from `modality_gap`, needed by "gap" alone. Raises InputError for an unknown kind.
    """
    match kind:
        case "raw":
            return latent
        case "empty":
            return F.normalize(latent + text_latent(clip, ""), dim=0)
        case "gap":
            if gap is None:
                raise InputError(
                    "the target 'gap' needs the mean latents of this model: give example images as `gap_images`, "
                    'or use `target="raw"`'
                )
            return F.normalize(latent + gap, dim=0)
    raise InputError(f"unknown `target` {kind!r}: choose one of {', '.join(TARGETS)}")


def subtract_negative(target: Tensor, negative: Tensor, weight: float = 0.5) -> Tensor:
    """The unit target (E,) with `weight` times the negative's unit latent (E,) taken off.

    Raises InputError where nothing is left to pull on.
    """
    rest = target - weight * negative
    if rest.norm() < SMALLEST_REST:
        raise InputError("the negative says the same as the image: give another one, or a smaller weight")
    return F.normalize(rest, dim=0)
