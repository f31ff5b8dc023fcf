"""Augment training pictures, so that the models also read pictures that the renderer did not draw.

Every function takes and returns images (B, 3, S, S) in 0..1 on any device; randomness comes from the
generator passed in.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from invert.picturebook.render import blur, luminance

# The luminance table of ITU-T T.81 annex K.1, the usual JPEG quantizer at quality 50.
JPEG_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip


@cache
def _dct(device: torch.device) -> Tensor:
    """The orthonormal 8-point DCT-II matrix, (8, 8)."""
    n = torch.arange(8, device=device)
    basis = torch.cos(math.pi / 8 * (n[None, :] + 0.5) * n[:, None]) * 0.5
    basis[0] /= math.sqrt(2)
    return basis


def jpeg(images: Tensor, coarseness: float) -> Tensor:
    """Quantize 8×8 DCT blocks as JPEG does; coarseness 1 is quality 50. S must divide by 8."""
    b, c, s, _ = images.shape
    basis = _dct(images.device)
    table = torch.tensor(JPEG_TABLE, device=images.device) * (coarseness / 255)
    blocks = images.reshape(b, c, s // 8, 8, s // 8, 8).transpose(3, 4)  # (B, 3, S/8, S/8, 8, 8)
    spectrum = basis @ blocks @ basis.T
    blocks = basis.T @ ((spectrum / table).round() * table) @ basis
    return blocks.transpose(3, 4).reshape(b, c, s, s).clamp(0, 1)


def color_jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation by ± 20 % each, per picture."""
    factors = 0.8 + 0.4 * torch.rand(3, len(images), 1, 1, 1, generator=generator, device=images.device)
    brightness, contrast, saturation = factors
    gray = luminance(images)
    images = gray + (images - gray) * saturation
    mean = gray.mean((2, 3), keepdim=True)
    return ((images - mean) * contrast + mean * brightness).clamp(0, 1)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Jitter every picture; blur, add noise to, and JPEG-compress some of them."""
    images = color_jitter(images, generator)
    draws = torch.rand(3, len(images), generator=generator, device=images.device)
    for row, chance, damage in (
        (0, 0.1, lambda part: blur(part, 0.7)),
        (1, 0.2, lambda part: part + 0.04 * torch.randn(part.shape, generator=generator, device=part.device)),
        (2, 0.15, lambda part: jpeg(part, 0.7)),
    ):
        mine = (draws[row] < chance).nonzero()[:, 0]
        if len(mine):
            images[mine] = damage(images[mine])
    return images.clamp(0, 1)
