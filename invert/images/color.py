"""Colors of any space → sRGB, by the picture's own ICC profile where it has one that can be followed; and upright."""

from __future__ import annotations

import io
from functools import cache

from PIL import Image, ImageCms

ORIENTATION = 0x0112  # EXIF's tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An opaque L, RGB, CMYK or LAB image as RGB in sRGB. A damaged or unsuitable profile is ignored."""
    if profile and image.mode != "LAB":
        followed = _followed(image, profile)
        if followed is not None:
            return followed
    if image.mode == "LAB":
        return _transformed(image, _lab())
    return image.convert("RGB")


def upright(image: Image.Image, source: Image.Image) -> Image.Image:
    """The image turned as the EXIF data of its source says; damaged data says nothing."""
    try:
        method = UPRIGHT.get(source.getexif().get(ORIENTATION, 1))
    except Exception:  # any damage of the metadata; the pixels are whole
        method = None
    return image if method is None else image.transpose(method)


def _followed(image: Image.Image, profile: bytes) -> Image.Image | None:
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "RGB" and ImageCms.getProfileDescription(opened).startswith("sRGB"):
            return image
        return _transformed(image, opened)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _transformed(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC  # white stays white
    made = ImageCms.profileToProfile(image, profile, _srgb(), intent, "RGB")
    assert made is not None
    return made


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@cache
def _lab() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
