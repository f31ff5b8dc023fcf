"""What the trainings of picturebook's models minimize: pictures against captions, and against the names of all objects."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from invert.picturebook.world import LAYOUTS

NAMING_SCALE = 40.0  # of the cosines of pictures and names; about what the temperature has become


def duplicate_mask(captions: list[str]) -> Tensor:
    """Return (B, B) bool: true where two different pictures share a caption, so that neither is a negative."""
    first: dict[str, int] = {}
    index = torch.tensor([first.setdefault(text, i) for i, text in enumerate(captions)])
    return (index[:, None] == index) & ~torch.eye(len(captions), dtype=torch.bool)


def contrastive_loss(picture: Tensor, text: Tensor, logit_scale: Tensor, ignored: Tensor) -> Tensor:
    """CLIP's loss (Radford et al., arXiv 2103.00020) over latents (B, E) whose i-th rows belong together.

    ignored: (B, B) bool, pairs that are not contrasted.
    """
    logits = logit_scale.exp().clamp(max=100) * F.normalize(picture, dim=1) @ F.normalize(text, dim=1).T
    logits = logits.masked_fill(ignored, -torch.inf)
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def naming_loss(picture: Tensor, names: Tensor, labels: Tensor) -> Tensor:
    """Contrast pictures (B, E) with the names of all objects.

    names: unit latents (2, N, E) of one thing and of two alike. labels: (B, 9) int64 of `attributes`, N for no second thing;
    where a picture shows two different things, each of them counts half.
    """
    count = names.shape[1]
    pair = labels[:, 4] == LAYOUTS.index("two")
    cosines = torch.einsum("be,kne->bkn", F.normalize(picture, dim=1), names)
    logits = NAMING_SCALE * torch.where(pair[:, None], cosines[:, 1], cosines[:, 0])
    shown = F.one_hot(labels[:, :2], count + 1).sum(1)[:, :count].float()
    return F.cross_entropy(logits, shown / shown.sum(1, keepdim=True))
