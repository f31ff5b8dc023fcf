"""Says when a picture is unlike all that picturebook was trained on, so that its prompt is a guess.

In: pictures' unit latents. Out: a sentence for each, or "". A classifier with one hidden layer tells pictures with objects
of the world from those without: photographs, faces, pages of text ("outlier exposure", Hendrycks et al., arXiv 1812.04606).
It reads the latents, and how they lie to captions of each object alone ("maximum concept matching", Ming et al., arXiv
2211.13445). `scripts/calibrate_doubt.py` fits it to the CLIP, and stores it beside the weights.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from invert.picturebook import models
from invert.zero_shot import ZeroShot

FILE = models.WEIGHTS / "doubt.safetensors"
BEST, SCALES = 5, (50.0, 20.0)  # largest cosines, and sharpnesses of the soft maximum over all, that are read
SENTENCE = (
    "unlike all that picturebook was trained on; it knows pictographs, and for other pictures a real model is wanted: "
    "invert photo.jpg --model ViT-L-14/openai --bundle english"
)


@cache
def weights(file: Path = FILE) -> dict[str, Tensor]:
    """The classifier: "hidden.weight" (H, F) and "hidden.bias" (H,), "weight" (H,) and "bias" ()."""
    return load_file(file)


@torch.no_grad()
def described(latents: Tensor, names: ZeroShot) -> Tensor:
    """Unit latents (B, E) → (B, F) float32, what the classifier reads: they, and ten numbers of their cosines with the names."""
    latents = latents.float()
    cosines = latents @ names.latents.T
    best = cosines.topk(BEST, dim=1).values
    lead = best[:, :1] - best[:, 1:2]
    soft = [(scale * cosines).logsumexp(1, keepdim=True) / scale for scale in SCALES]
    return torch.cat([latents, best, lead, *soft, cosines.mean(1, keepdim=True), cosines.std(1, keepdim=True)], dim=1)


@torch.no_grad()
def familiarity(rows: Tensor, classifier: dict[str, Tensor]) -> Tensor:
    """Described pictures (B, F) → (B,) float32, above zero where the picture is like those of training."""
    at = {name: value.to(rows.device, torch.float32) for name, value in classifier.items()}
    hidden = (rows @ at["hidden.weight"].T + at["hidden.bias"]).relu()
    return hidden @ at["weight"] + at["bias"]


def sentences(names: ZeroShot, latents: Tensor) -> list[str]:
    """Unit latents of pictures (B, E) → a sentence for each that is unlike training's, "" for the others."""
    return ["" if known else SENTENCE for known in (familiarity(described(latents, names), weights()) > 0).tolist()]


def fingerprint(state: dict[str, Tensor]) -> str:
    """A hash of a stored CLIP's state dict: a classifier that was fitted to another one means nothing."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + state[name].numpy().tobytes())
    return digest.hexdigest()[:16]
