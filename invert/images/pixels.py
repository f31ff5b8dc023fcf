"""Decoded samples of any type → opaque 8-bit pixels, reduced by a whole factor, in bands that take little memory.

Unsigned integers are read by the range of their type, or by the one that a TIFF declares (MaxSampleValue, 12 bits).
Floats and 32-bit integers have no customary range: theirs is the smallest of 1 (floats only), 255, 65,535 and 2³¹ − 1
(2³² − 1 unsigned) that 99 % of the finite samples exceed by no more than twice, so that no single sample darkens a picture.
Transparency is laid on white before anything is scaled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

BAND = 1 << 20  # pixels that are converted at a time
SAMPLED = 1 << 20  # samples by which a range is told
OVERSHOOT = 2.0
RANGES = (1.0, 255.0, 65535.0, 2.0**31 - 1)
LARGEST_UNSIGNED = 2.0**32 - 1  # in place of the last of them
BITS_PER_SAMPLE, PHOTOMETRIC, MAX_SAMPLE, SAMPLE_FORMAT = 258, 262, 281, 339  # TIFF's tags
SCALED_KEYS = {"L;2": 85, "L;4": 17}  # PNG's transparent value counts in the file's bits, Pillow's pixels in 8


@dataclass(frozen=True)
class Layout:
    """What the header says of the samples and the decoded picture does not.

    full: the largest value that a sample may have, None where it is to be told from the values.
    inverted: 0 is white. key: the transparent value or color, in the units of the decoded picture.
    deep_key: the transparent color of a picture whose lower bytes Pillow drops; low: those bytes.
    unsigned: 32-bit integers that Pillow reads as signed ones.
    """

    full: float | None = None
    inverted: bool = False
    key: Any = None
    unsigned: bool = False
    deep_key: tuple[int, int, int] | None = None
    low: Image.Image | None = None

    @classmethod
    def of(cls, image: Image.Image) -> Layout:
        """The layout of an image that is opened, before it is loaded."""
        tags = getattr(image, "tag_v2", None)
        key = image.info.get("transparency")
        raw = _rawmode(image)
        if raw == "RGB;16B" and isinstance(key, tuple):
            return cls(deep_key=key)
        if isinstance(key, int):
            key *= SCALED_KEYS.get(raw, 1)
        if image.format == "TIFF" and tags is not None:
            deep = image.mode == "F" or image.mode.startswith("I")
            unsigned = image.mode == "I" and _bits(tags) == 32 and not _is_signed(tags)
            return cls(_declared(image.mode, tags), deep and tags.get(PHOTOMETRIC) == 0, key, unsigned)
        whole = (image.format in ("PNG", "PPM") and image.mode != "F") or image.mode.startswith("I;16")  # F: a PFM of floats
        return cls(65535.0 if whole else None, False, key)

    def with_low_bytes(self, low: Image.Image) -> Layout:
        return replace(self, low=low)


def _rawmode(image: Image.Image) -> str:
    tile = getattr(image, "tile", None)
    args = tile[0][3] if tile and image.format == "PNG" else ""
    return args if isinstance(args, str) else str(args[0]) if args else ""


def _bits(tags: Any) -> int:
    return int(np.max(tags.get(BITS_PER_SAMPLE, 8)))


def _is_signed(tags: Any) -> bool:
    return 2 in np.atleast_1d(tags.get(SAMPLE_FORMAT, 1))


def _declared(mode: str, tags: Any) -> float | None:
    """The largest sample by a TIFF's tags."""
    bits = _bits(tags)
    largest = float(np.max(tags.get(MAX_SAMPLE, 0)))
    if mode.startswith("I") and bits <= 16:
        whole = 2.0 ** (bits - _is_signed(tags)) - 1
        return largest if 255 < largest < whole else whole
    return largest if largest > 0 and np.isfinite(largest) else None


def reduced(image: Image.Image, layout: Layout, factor: int) -> Image.Image:
    """A loaded image as opaque L, RGB, CMYK or LAB of 8 bits, each factor × factor pixels averaged into one."""
    full = layout.full
    if _is_deep(image) and full is None:
        full = _range_of(image, layout)
    transparent = _is_transparent(image, layout)
    if not transparent and image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image if factor == 1 else image.reduce(factor)
    if factor == 1:
        return _opaque(image, layout, full, None)
    small: Image.Image | None = None
    for top, box in _bands(image.size, factor):
        band = _opaque(image.crop(box), layout, full, box).reduce(factor)
        if small is None:
            small = Image.new(band.mode, (-(-image.width // factor), -(-image.height // factor)))
        small.paste(band, (0, top // factor))
    assert small is not None
    return small


def _bands(size: tuple[int, int], factor: int) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
    width, height = size
    rows = max(1, BAND // (width * factor)) * factor
    for top in range(0, height, rows):
        yield top, (0, top, width, min(height, top + rows))


def _is_deep(image: Image.Image) -> bool:
    return image.mode == "F" or image.mode.startswith("I")


def _is_transparent(image: Image.Image, layout: Layout) -> bool:
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or layout.key is not None or layout.deep_key is not None:
        return True
    return image.mode == "P" and image.palette is not None and image.palette.mode.endswith("A")


def _opaque(image: Image.Image, layout: Layout, full: float | None, box: tuple[int, int, int, int] | None) -> Image.Image:
    """A band (where box says; None: all) as 8 bits on white."""
    if _is_deep(image):
        samples = _samples(image, layout)
        gray = to_8_bits(samples, full or 1.0, layout.inverted)
        if isinstance(layout.key, int):
            gray[samples == layout.key] = 255
        return Image.fromarray(gray)
    if layout.deep_key is not None and layout.low is not None:
        return _without_deep_key(image, layout.low if box is None else layout.low.crop(box), layout.deep_key)
    if image.mode in ("1", "L") and isinstance(layout.key, int):
        key = layout.key
        gray_image = image.convert("L")
        visible = gray_image.point([0 if value == key else 255 for value in range(256)])
        return Image.composite(gray_image, Image.new("L", image.size, 255), visible)
    if _is_transparent(image, layout):
        return _on_white(image, layout)
    return image.convert("L" if image.mode == "1" else "RGB")


def _on_white(image: Image.Image, layout: Layout) -> Image.Image:
    if layout.key is not None and image.info.get("transparency") != layout.key:
        image = image.copy()
        image.info["transparency"] = layout.key
    if image.mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _without_deep_key(high: Image.Image, low: Image.Image, key: tuple[int, int, int]) -> Image.Image:
    """16-bit colors, of which one is transparent: it is compared in all its bits."""
    pixels = np.array(high)
    whole = pixels.astype(np.uint16) << 8 | np.asarray(low)
    pixels[(whole == np.array(key, np.uint16)).all(-1)] = 255
    return Image.fromarray(pixels)


def _samples(image: Image.Image, layout: Layout) -> np.ndarray:
    """The samples of a deep image, with the sign that its file gives them."""
    samples = np.asarray(image)
    return samples.view(np.uint32) if layout.unsigned else samples


def _range_of(image: Image.Image, layout: Layout) -> float:
    step = max(1, int((image.width * image.height / SAMPLED) ** 0.5))
    parts = [_samples(image.crop(box), layout)[::step, ::step].ravel() for _, box in _bands(image.size, step)]
    return range_of(np.concatenate(parts))


def range_of(values: np.ndarray) -> float:
    """The full range of samples: of unsigned integers their type's, else told from the values as above."""
    if values.dtype.kind in "bu" and values.dtype.itemsize <= 2:
        return float(np.iinfo(values.dtype).max) if values.dtype.kind == "u" else 1.0
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    top = float(np.percentile(finite, 99, method="higher")) if finite.size else 0.0
    ranges = {"f": RANGES, "u": (*RANGES[1:-1], LARGEST_UNSIGNED)}.get(values.dtype.kind, RANGES[1:])
    return next((full for full in ranges if top <= OVERSHOOT * full), max(top, ranges[-1]))


def to_8_bits(values: np.ndarray, full: float, inverted: bool = False) -> np.ndarray:
    """Samples of 0 to full as uint8: what is beyond is clipped, infinity white, no number black."""
    scaled = np.nan_to_num(values.astype(np.float32) * np.float32(255 / full), nan=0.0, posinf=255.0, neginf=0.0).clip(0, 255)
    return np.asarray((255 - scaled if inverted else scaled).round(), np.uint8)
