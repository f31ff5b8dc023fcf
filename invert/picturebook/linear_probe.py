"""Linear probe of a scene's attributes on latents, trained beside the contrastive loss.

In: scenes and captions; out: labels (B, 9) for objects, tints, layout, pattern, colors and style, and the probe's loss.
Attributes that a caption does not state are masked for the text tower.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invert.picturebook.world import COLORS, CORNERS, LAYOUTS, PATTERNS, STYLES, Scene, objects

IGNORED = -100  # cross_entropy's label for "not said"


class LinearProbe(nn.Module):
    """Predict every attribute of a latent (B, E): one linear layer, its logits split by attribute."""

    def __init__(self, width: int) -> None:
        super().__init__()
        things, hues = len(objects()), len(COLORS) + 1
        self.sizes = [things, things + 1, hues, hues, len(LAYOUTS) + len(CORNERS), len(PATTERNS), hues, hues, len(STYLES)]
        self.weights = [1.0, 1.0, 0.4, 0.4, 0.4, 0.3, 0.3, 0.3, 0.3]
        self.linear = nn.Linear(width, sum(self.sizes))

    def loss(self, latent: Tensor, labels: Tensor) -> Tensor:
        """labels: (B, 9) int64, IGNORED where the caption does not say; what no caption says adds nothing.

        On the CPU they cost no wait for the device.
        """
        parts, said = self.linear(latent).split(self.sizes, 1), (labels != IGNORED).any(0).tolist()
        labels = labels.to(latent.device)
        losses = [
            weight * F.cross_entropy(part, labels[:, k], label_smoothing=0.02)
            for k, (part, weight) in enumerate(zip(parts, self.weights, strict=True))
            if said[k]  # else the mean of no numbers is NaN
        ]
        return torch.stack(losses).sum() if losses else 0 * parts[0].sum()


def attributes(scene: Scene) -> list[int]:
    """The scene's labels, in the order of `LinearProbe.sizes`."""
    hues = ["", *COLORS]
    second = len(scene.objects) > 1
    background = [IGNORED] * 3  # a photograph has no pattern or color that a caption names
    if scene.colors:
        other = hues.index(scene.colors[1]) if len(scene.colors) > 1 else 0
        background = [PATTERNS.index(scene.pattern), hues.index(scene.colors[0]), other]
    layout = LAYOUTS.index(scene.layout) if not scene.corner else len(LAYOUTS) + CORNERS.index(scene.corner)
    return [
        scene.objects[0],
        scene.objects[1] if second else len(objects()),
        hues.index(scene.tints[0]),
        hues.index(scene.tints[1]) if second else 0,
        layout,
        *background,
        STYLES.index(scene.style),
    ]


def mask_unstated(labels: Tensor, scenes: list[Scene], captions: list[str]) -> Tensor:
    """Mask the labels that a caption does not state, for the text tower's probe loss."""
    labels = labels.clone()
    for i, (scene, text) in enumerate(zip(scenes, captions, strict=True)):
        words = set(text.split())
        for k, index in enumerate(scene.objects):
            thing = objects()[index]
            if not (words.issuperset(thing.name.split()) or words.issuperset(thing.plural.split() or ["?"])):
                labels[i, k] = IGNORED
        whole = "on" in words and text.rstrip(",").endswith(("background", *STYLES))
        if not whole:
            labels[i, 2:5] = labels[i, 6:8] = IGNORED
        if scene.pattern not in words and not whole:
            labels[i, 5] = IGNORED
        if not words.issuperset(scene.style.split()) and not whole:
            labels[i, 8] = IGNORED
    return labels
