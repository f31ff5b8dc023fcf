"""Any picture that a user may hand over → an upright 8-bit RGB Pillow image, in sRGB.

Paths, addresses, bytes, Pillow images, arrays and tensors come in. Of an animation the first frame is
taken; EXIF orientation and ICC profiles are followed; transparency is laid on white; more than 8 bits
are scaled to 8 by the range of their type; very large pictures are reduced while they are read. What
cannot be read is an InputError of one sentence that names the source. No external program is started.
Decoders are imported when the first picture is read: a command that only looks for files, or shows its help, needs none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from invert.images.formats import ENDINGS, FORMATS

if TYPE_CHECKING:
    from invert.images.loading import (
        ImageLike,
        is_one_image,
        load_image,
        looks_like_image,
        one_alone,
        one_image,
        one_or_several,
        several,
        thumbnail,
    )

__all__ = [
    "ENDINGS",
    "FORMATS",
    "ImageLike",
    "is_one_image",
    "load_image",
    "looks_like_image",
    "one_alone",
    "one_image",
    "one_or_several",
    "several",
    "thumbnail",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use and keep it here."""
    if name not in __all__:
        raise AttributeError(f"module 'invert.images' has no attribute {name!r}")
    value = getattr(import_module("invert.images.loading"), name)
    globals()[name] = value
    return value
