"""Says when a picture is unlike all that picturebook was trained on, so that its prompt is a guess.

In: pictures' unit latents. Out: a sentence for each, or "". A linear classifier of latents tells pictures with objects of
the world from those without: photographs, faces, pages of text ("outlier exposure", Hendrycks et al., arXiv 1812.04606).
`scripts/calibrate_doubt.py` fits it to the image tower, and stores it beside the weights.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from invert.picturebook import models

FILE = models.WEIGHTS / "doubt.safetensors"
SENTENCE = (
    "unlike all that picturebook was trained on; it knows pictographs, and for other pictures a real model is wanted: "
    "invert photo.jpg --model ViT-L-14/openai --bundle english"
)


@cache
def weights(file: Path = FILE) -> dict[str, Tensor]:
    """The classifier: "weight" (E,) and "bias" ()."""
    return load_file(file)


@torch.no_grad()
def familiarity(latents: Tensor, classifier: dict[str, Tensor]) -> Tensor:
    """Unit latents (B, E) → (B,) float32, above zero where the picture is like those of training."""
    weight, bias = (classifier[name].to(latents.device, torch.float32) for name in ("weight", "bias"))
    return latents.float() @ weight + bias


def sentences(latents: Tensor) -> list[str]:
    """Unit latents of pictures (B, E) → a sentence for each that is unlike training's, "" for the others."""
    return ["" if known else SENTENCE for known in (familiarity(latents, weights()) > 0).tolist()]


def fingerprint(state: dict[str, Tensor]) -> str:
    """A hash of the image tower in a state dict: a classifier that was fitted to another tower means nothing."""
    digest = hashlib.sha256()
    for name in sorted(state):
        if name.startswith("visual."):
            digest.update(name.encode() + state[name].numpy().tobytes())
    return digest.hexdigest()[:16]
