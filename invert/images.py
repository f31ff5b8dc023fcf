"""Any picture that a user may hand over → an upright 8-bit RGB Pillow image.

Files, URLs and Pillow images come in. The first frame of an animation is taken, EXIF orientation
followed, transparency laid on white, 16 bits scaled to 8. What cannot be read is an InputError of
one sentence that names the file.
"""

from __future__ import annotations

import io
import os
import urllib.request
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from invert.errors import InputError

ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
URL_TIMEOUT = 10  # seconds
MOST_BYTES = 64 << 20  # of a download


def load_image(source: str | Path | io.BytesIO | Image.Image) -> Image.Image:
    """The image as RGB; raises InputError where there is none. A stream is what was read from standard input."""
    if isinstance(source, Image.Image):
        return to_rgb(source)
    if isinstance(source, io.BytesIO):
        return _opened(source, "the picture on standard input")
    name = str(source) or "the empty path"
    stream: Path | io.BytesIO = Path(source)
    if name.startswith(("http://", "https://")):
        stream = io.BytesIO(_download(name))
    elif Path(source).is_dir():
        raise InputError(f"{name} is a folder: give an image file")
    elif not Path(source).exists():
        raise InputError(f"{name} does not exist: check the path")
    elif Path(source).stat().st_size == 0:
        raise InputError(f"{name} is empty: give an image file")
    return _opened(stream, name)


def _opened(stream: Path | io.BytesIO, name: str) -> Image.Image:
    """The first frame as RGB; InputError that calls it by its name."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on damaged metadata are not for our users
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(stream) as image:
                image.seek(0)
                return to_rgb(image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = f"{(Image.MAX_IMAGE_PIXELS or 0) // 10**6} megapixels"
        raise InputError(f"{name} is larger than {limit}: scale it down first") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name} is not an image that can be read: give a PNG, JPEG, WebP, GIF or TIFF") from error
    except PermissionError as error:
        raise InputError(f"{name} may not be read: check its permissions") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{name} is damaged or cut off: save it again as PNG or JPEG") from error


def names_image(text: str) -> bool:
    """Whether a user who wrote this means an image by it: a URL, a path that exists, or a file's name."""
    return text.startswith(("http://", "https://")) or Path(text).suffix.lower() in ENDINGS or os.path.exists(text)


def thumbnail(image: Image.Image, side: int) -> Image.Image:
    """A copy of at most side × side pixels."""
    small = image.copy()
    small.thumbnail((side, side))
    return small


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=URL_TIMEOUT) as reply:
            content: bytes = reply.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"{url} cannot be downloaded: save the image to a file and give that") from error
    if len(content) > MOST_BYTES:
        raise InputError(f"{url} is larger than {MOST_BYTES >> 20} MiB: save a smaller image to a file and give that")
    return content


def to_rgb(image: Image.Image) -> Image.Image:
    """Upright, 8 bits, transparency on white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Integer or float samples to uint8: 16 bits by their type, 32 by the largest (0..1, 0..255 or 0..65535)."""
    top = float(np.nan_to_num(values).max(initial=0))
    if values.dtype.itemsize == 2 or top > 255:
        scale = 255 / 65535
    else:
        scale = 255 if values.dtype.kind == "f" and top <= 1 else 1
    return np.nan_to_num(values.astype(np.float32) * scale).clip(0, 255).round().astype(np.uint8)
