"""Any picture that a user may hand over → an upright 8-bit RGB Pillow image, in sRGB.

Paths, addresses, bytes, Pillow images, arrays and tensors come in. Of an animation the first frame is
taken; EXIF orientation and ICC profiles are followed; transparency is laid on white; more than 8 bits
are scaled to 8 by the range of their type; very large pictures are reduced while they are read. What
cannot be read is an InputError of one sentence that names the source. No external program is started.
"""

from __future__ import annotations

from invert.images.decoding import ENDINGS, FORMATS
from invert.images.loading import ImageLike, load_image, looks_like_image, thumbnail

__all__ = ["ENDINGS", "FORMATS", "ImageLike", "load_image", "looks_like_image", "thumbnail"]
