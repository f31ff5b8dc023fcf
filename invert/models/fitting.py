"""Whether a library's preprocessing brings pictures to a model's size as CLIP's own does: drawn images are then fitted on
their device, the shorter side resized by the bicubic filter, the middle cut out. All others are preprocessed as files are."""

from __future__ import annotations

from typing import Any

from PIL.Image import Resampling
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

BICUBIC = (Resampling.BICUBIC, InterpolationMode.BICUBIC)  # as one library calls it and the other
SIDES = ("shortest_edge", "longest_edge", "height", "width")


def processor_fits(processor: Any, side: int) -> bool:
    """Of an image processor of transformers, for pictures (side, side)."""
    asked = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
    if not all(getattr(processor, name, False) for name in asked) or abs(processor.rescale_factor * 255 - 1) > 1e-6:
        return False
    crops = sides(processor.crop_size) in ({"height": side, "width": side}, {"shortest_edge": side})
    return crops and sides(processor.size) == {"shortest_edge": side} and processor.resample in BICUBIC


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
