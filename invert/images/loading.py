"""From what the user gave to the bytes or samples of one picture, and the sentences where there are none.

A path may be a file, a named pipe or a device; what is not a regular file is read up to a limit.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from PIL import Image

from invert.errors import InputError
from invert.given import described, listed, wrong
from invert.images.addresses import download, is_address, shown
from invert.images.arrays import image_of_array
from invert.images.decoding import READABLE, PictureTooLarge, UnknownFormat, read_opened, read_stream
from invert.images.formats import ENDINGS

if TYPE_CHECKING:
    from torch import Tensor

ImageLike: TypeAlias = "str | Path | bytes | IO[bytes] | Image.Image | np.ndarray | Tensor"
T = TypeVar("T")
KINDS = "a path, an address, a Pillow image, an array or a tensor"
MAX_PIPED_BYTES = 64 << 20  # of a pipe, a device or another stream without a size


def load_image(source: ImageLike, name: str | None = None) -> Image.Image:
    """The picture as upright RGB in sRGB.

    Args:
        source: A path, an http(s) address, the bytes of a file, a binary stream, a Pillow image, or samples:
            an array (H, W[, C]) or a tensor ([C, ]H, W) with 1 to 4 channels, the last of 2 or 4 being alpha.
            Unsigned integers span their type's range, floats 0 to 1 (0 to 255 or 0 to 65,535 where their values say so).
        name: What messages call the picture; by default its path or address.

    Returns:
        Mode RGB. Pictures of more than 4 megapixels may come reduced by a whole factor, never below a short
        side of 256 pixels.

    Raises:
        InputError: Where there is no picture, it cannot be read, is too large, or is more than 100 times as long as wide.
    """
    called = shown(name or _name(source))
    try:
        image = _load(source, called)
        if isinstance(source, (str, Path)) and not is_address(str(source)):
            image.filename = os.fspath(source)  # type: ignore[attr-defined]  # as Pillow's own `open` does
        return image
    except InputError:
        raise
    except PictureTooLarge as error:
        raise InputError(f"{called} is {error}") from error
    except UnknownFormat as error:
        if error.heif:
            raise InputError(f"{called} is a HEIC file: install pillow-heif to read it, or save it as JPEG") from error
        raise InputError(f"{called} is not an image that can be read: give a {READABLE} file") from error
    except PermissionError as error:
        raise InputError(f"{called} may not be read: check its permissions") from error
    except MemoryError as error:
        raise InputError(f"{called} does not fit into memory: scale it down first") from error
    except Exception as error:  # whatever a reader raises on damaged data: OSError, SyntaxError, struct.error, RuntimeError, …
        raise InputError(f"{called} is damaged or cut off: save it again as PNG or JPEG") from error


def looks_like_image(text: str) -> bool:
    """Whether a user who wrote this means an image by it: an address, a file that exists (no folder), or a picture's name."""
    there = bool(text) and os.path.exists(text) and not os.path.isdir(text)
    return is_address(text) or Path(text).suffix.lower() in ENDINGS or there


def several(images: Sequence[T], name: str = "images") -> list[T]:
    """The images as a list. name: of the parameter.

    Raises:
        InputError: a single image stands in their place, or something that is no image.
    """
    if is_one_image(images):
        raise InputError("a single image is no sequence of images: use `invert`, or put it into a list")
    if isinstance(images, Mapping):
        raise wrong(name, images, "a list of images")
    found = listed(name, images, "a list of images")
    for one in found:
        if not is_picture(one):
            raise wrong(name, one, f"for each image {KINDS}", "holds")
    return list(found)


def one_image(image: T, name: str = "image") -> T:
    """The image. InputError where it is nothing that `load_image` reads."""
    if not is_picture(image):
        raise wrong(name, image, KINDS)
    return image


def one_alone(image: T) -> T:
    """The image that `invert` takes. InputError where there are several, or none."""
    if isinstance(image, Sequence) and not is_one_image(image):
        raise InputError(
            "`invert` takes one image: use `invert_batch` for a prompt of each, or `invert_joint` for one prompt of all"
        )
    return one_image(image)


def is_picture(source: object) -> bool:
    """Whether that is of a kind that `load_image` reads."""
    known = isinstance(source, (str, Path, bytes, bytearray, memoryview, Image.Image, np.ndarray))
    return known or hasattr(source, "read") or _is_tensor(source)


def is_one_image(source: object) -> bool:
    """Whether that is a picture, as `load_image` reads it, and not several; a tensor or an array of four axes is several."""
    return is_picture(source) and getattr(source, "ndim", 0) < 4


def one_or_several(images: Any) -> list[Any]:
    """Several images as a list, one as a list of itself. InputError for anything else."""
    iterable = isinstance(images, Iterable) and not is_one_image(images)
    return several(images, "image") if iterable else [one_image(images)]


def thumbnail(image: Image.Image, side: int) -> Image.Image:
    """A copy of at most side × side pixels."""
    small = image.copy()
    small.thumbnail((side, side))
    return small


def _name(source: Any) -> str:
    if isinstance(source, (str, Path)):
        return str(source) or "the empty path"
    return "the given picture"


def _load(source: Any, called: str) -> Image.Image:
    if isinstance(source, Image.Image):
        return read_opened(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _read_bytes(bytes(source), called)
    if isinstance(source, (str, Path)):
        text = str(source)
        return _read_bytes(download(text), called) if is_address(text) else _read_path(text, called)
    if hasattr(source, "read"):
        return _read_bytes(_bounded(source, called), called)
    if isinstance(source, np.ndarray) or _is_tensor(source):
        return read_opened(image_of_array(source, called))
    raise InputError(f"{called} is {described(source)}: give {KINDS}")


def _is_tensor(source: Any) -> bool:
    torch = sys.modules.get("torch")  # who has a tensor has imported it
    return torch is not None and isinstance(source, torch.Tensor)


def _read_path(path: str, called: str) -> Image.Image:
    if not path:
        raise InputError(f"{called} names no picture: give an image file")
    try:
        status = os.stat(path)
    except PermissionError:
        raise
    except (OSError, ValueError) as error:  # missing, a name too long, a loop of links, a null character
        raise InputError(f"{called} does not exist: check the path") from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{called} is a folder: give an image file")
    with open(path, "rb") as stream:
        if not stat.S_ISREG(status.st_mode):
            return _read_bytes(_bounded(stream, called), called)
        if status.st_size == 0:
            raise InputError(f"{called} is empty: give an image file")
        return read_stream(stream, status.st_size)


def _read_bytes(content: bytes, called: str) -> Image.Image:
    if not content:
        raise InputError(f"{called} is empty: give an image file")
    return read_stream(io.BytesIO(content), len(content))


def _bounded(stream: IO[bytes], called: str) -> bytes:
    content = stream.read(MAX_PIPED_BYTES + 1)
    if isinstance(content, str):
        raise InputError(f"{called} is a text stream: open it in binary mode")
    if len(content) > MAX_PIPED_BYTES:
        raise InputError(f"{called} is larger than {MAX_PIPED_BYTES >> 20} MiB: give a smaller file")
    return content
