"""SigLIP 2's NaFlex image side: pictures of any shape as patches, packed into one tensor so that they can be stacked.

A packed picture is (N, 3·p²+3): each patch's pixels, then whether it is one, then the rows and columns of the picture
(the same in every patch). The library's own processor cuts the patches; its own vision tower reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from invert.models.fitting import processor_normalizes


class NaflexImages:
    """The three image functions of a `Clip` for transformers' Siglip2Model."""

    def __init__(self, vision: Callable[..., Any], processor: Any) -> None:
        """vision: Siglip2VisionModel. processor: its Siglip2ImageProcessor."""
        self.vision, self.processor, self.patch = vision, processor, processor.patch_size
        self.image_size = int(processor.max_num_patches**0.5) * self.patch  # a square of as many patches as there may be
        self.normal = processor_normalizes(processor)

    def preprocess(self, image: Image.Image) -> Tensor:
        """A picture → packed patches, as many as the processor takes at most."""
        found = self.processor(images=image.convert("RGB"), return_tensors="pt")
        # In float: pixels that are not rescaled are bytes, which would not hold the sizes of long pictures.
        return packed(found["pixel_values"].float(), found["pixel_attention_mask"], found["spatial_shapes"])[0]

    def normalize(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, S, S) in 0..1, whose side is a multiple of the patch's → packed patches."""
        normal, side = self.normal(pixels), pixels.shape[-1] // self.patch
        grid = normal.unflatten(2, (side, self.patch)).unflatten(4, (side, self.patch))  # (B, 3, rows, p, columns, p)
        patches = grid.permute(0, 2, 4, 3, 5, 1).reshape(len(pixels), side * side, -1)
        shapes = torch.full((len(pixels), 2), side, device=pixels.device)
        return packed(patches, torch.ones(patches.shape[:2], device=pixels.device), shapes)

    def encode(self, pictures: Tensor) -> Tensor:
        """Packed patches (B, N, 3·p²+3) → latents (B, E)."""
        patches, mask, shapes = pictures[..., :-3], pictures[..., -3], pictures[:, 0, -2:]
        found = self.vision(
            pixel_values=patches, pixel_attention_mask=mask.to(torch.int64), spatial_shapes=shapes.round().to(torch.int64)
        )
        return found.pooler_output


def packed(patches: Tensor, mask: Tensor, shapes: Tensor) -> Tensor:
    """patches (B, N, C), mask (B, N), shapes (B, 2) → (B, N, C + 3) in the patches' dtype."""
    sizes = shapes[:, None].expand(-1, patches.shape[1], -1)
    return torch.cat([patches, mask[..., None].to(patches), sizes.to(patches)], -1)
