"""What a library's preprocessing makes of pictures: whether it brings them to a model's size as CLIP's own does, and which
numbers their pixels become.

Drawn images are fitted on their device where it does so, the shorter side resized by the bicubic filter, the middle cut out;
all others are preprocessed as files are. Pixels that come as tensors become the same numbers as those of files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL.Image import Resampling
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize

BICUBIC = (Resampling.BICUBIC, InterpolationMode.BICUBIC)  # as one library calls it and the other
ROUNDING = 1e-6  # of a rescale factor's 1/255 as files write it
SIDES = ("shortest_edge", "longest_edge", "height", "width")


def processor_fits(processor: Any, side: int) -> bool:
    """Of an image processor of transformers, for pictures (side, side)."""
    asked = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
    if not all(getattr(processor, name, False) for name in asked) or abs(processor.rescale_factor * 255 - 1) > ROUNDING:
        return False
    crops = sides(processor.crop_size) in ({"height": side, "width": side}, {"shortest_edge": side})
    return crops and sides(processor.size) == {"shortest_edge": side} and processor.resample in BICUBIC


def processor_normalizes(processor: Any) -> Callable[[Tensor], Tensor]:
    """Pixels (…, 3, H, W) in 0..1 → those that an image processor of transformers makes of the same picture.

    It begins from 0..255, and `do_rescale`, `rescale_factor` and `do_normalize` say what becomes of them.
    """
    scale = 255 * processor.rescale_factor if getattr(processor, "do_rescale", True) else 255.0
    scale = 1.0 if abs(scale - 1) < ROUNDING else scale
    if not getattr(processor, "do_normalize", True):
        return lambda pixels: pixels * scale
    mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in (processor.image_mean, processor.image_std))
    return lambda pixels: (pixels * scale - mean.to(pixels)) / std.to(pixels)


def transform_normalizes(preprocess: Any) -> Callable[[Tensor], Tensor]:
    """The same of a transform of torchvision."""
    return Compose([step for step in preprocess.transforms if isinstance(step, Normalize)])


def transform_fits(preprocess: Any, side: int) -> bool:
    """Of a transform of torchvision, as open_clip composes it."""
    resize, crop = [*preprocess.transforms, None, None][:2]
    if not isinstance(resize, Resize) or not isinstance(crop, CenterCrop) or resize.interpolation not in BICUBIC:
        return False
    return resize.size in (side, [side]) and tuple(crop.size) == (side, side)


def sides(size: Any) -> dict[str, int]:
    """The sides that a processor's size names; it is a dictionary or an object, by the library's version."""
    named = size if isinstance(size, dict) else {name: getattr(size, name, None) for name in SIDES}
    return {name: int(value) for name, value in named.items() if value is not None}
