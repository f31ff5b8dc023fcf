"""Samples from Python, NumPy's (H, W[, C]) or torch's ([C, ]H, W) → a Pillow image of 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from invert.errors import InputError
from invert.images.decoding import check_size
from invert.images.pixels import BAND, SAMPLED, range_of, to_8_bits

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def image_of_array(source: Any, called: str) -> Image.Image:
    """The samples as L, LA, RGB or RGBA; `called` names them in messages.

    Channels are the last axis of an array and the first of a tensor, unless only the other one has 1 to 4 entries.
    """
    samples, channels_first = _samples(source, called)
    shape = tuple(samples.shape)
    if samples.dtype.kind not in "buif":
        raise InputError(f"{called} has samples of type {samples.dtype}: give integers or floats")
    if samples.ndim == 3:
        samples = _channels_last(samples, channels_first)
    if samples.ndim not in (2, 3) or (samples.ndim == 3 and samples.shape[2] not in MODES):
        raise InputError(f"{called} has shape {shape}: give (height, width) or (height, width, channels) with 1 to 4 channels")
    check_size((samples.shape[1], samples.shape[0]))
    pixels = _scaled(samples)
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _samples(source: Any, called: str) -> tuple[np.ndarray, bool]:
    if isinstance(source, np.ndarray):
        if np.ma.is_masked(source):
            raise InputError(f"{called} has masked samples, and masks are not followed: fill them first, by its method filled")
        return source, False
    tensor = source.detach()
    if tensor.is_complex() or tensor.is_quantized or tensor.layout.__str__() != "torch.strided":
        raise InputError(f"{called} is a tensor of type {tensor.dtype}, {tensor.layout}: give dense integers or floats")
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()  # NumPy has no bfloat16
    return tensor.cpu().numpy(), True


def _channels_last(samples: np.ndarray, channels_first: bool) -> np.ndarray:
    first, last = samples.shape[0] in MODES, samples.shape[2] in MODES
    return np.moveaxis(samples, 0, 2) if first and (channels_first or not last) else samples


def _scaled(samples: np.ndarray) -> np.ndarray:
    if samples.dtype == np.uint8:
        return np.ascontiguousarray(samples)
    step = max(1, int((samples.size / SAMPLED) ** 0.5))
    full = range_of(samples[::step, ::step].ravel())
    pixels = np.empty(samples.shape, np.uint8)
    rows = max(1, BAND // samples.shape[1])
    for top in range(0, len(samples), rows):
        pixels[top : top + rows] = to_8_bits(samples[top : top + rows], full)
    return pixels
