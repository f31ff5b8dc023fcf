"""Encoded bytes → pixels: which formats are opened, how large they may be, how they are reduced while they are read.

Only the formats named here are ever opened: Pillow's other readers are never asked, so that no file, whatever its
name, reaches one that starts an external program (PostScript). Decoding stays within DECODING_BYTES of memory; the
factor by which a large picture is reduced is applied while decoding (JPEG) or band by band afterwards.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import IO

from PIL import Image, UnidentifiedImageError, features

from invert.images.color import to_srgb, upright
from invert.images.formats import FORMATS
from invert.images.pixels import Layout, reduced
from invert.silence import no_warnings

READABLE = "PNG, JPEG, WebP, GIF, BMP, TIFF, PPM, AVIF or HEIC"
MAX_PIXELS = 89_000_000
DECODING_BYTES = 500 << 20  # what a decoder and its picture may take; about 40 MiB of modules come on top
MAX_ASPECT = 100  # a model sees the middle square of a longer picture, and scaling its short side up would fill the memory
KEPT_PIXELS = 1 << 22  # larger pictures are reduced; models look at 224 to 512 pixels
KEPT_SIDE = 256  # of the short side, at least, after reduction
DECODED_TWICE = {"WEBP": 17, "AVIF": 16, "HEIF": 10}  # bytes a pixel, measured: planes, canvases and copies of their libraries
STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}  # bytes a pixel of Pillow's modes; all others take 4
_QUIET_LOCK = threading.Lock()
logging.getLogger("PIL").addHandler(logging.NullHandler())  # its errors would be printed where nobody listens


class PictureTooLarge(ValueError):
    """Too many pixels, none, or too long a strip; the text completes "NAME is …"."""


class UnknownFormat(ValueError):
    """None of the formats that are opened. heif: one that pillow-heif would read."""

    def __init__(self, heif: bool = False) -> None:
        super().__init__()
        self.heif = heif


def read_stream(stream: IO[bytes], n_bytes: int) -> Image.Image:
    """The picture in a seekable stream of that many bytes, as RGB."""
    with no_warnings():  # Pillow's remarks on damaged metadata are not for our users
        try:
            opened = Image.open(stream, formats=_installed())
        except UnidentifiedImageError as error:
            raise UnknownFormat(_looks_like_heif(stream)) from error
        except Image.DecompressionBombError as error:
            raise PictureTooLarge(_too_large(MAX_PIXELS)) from error
        with opened as image:
            check_size(image.size)
            layout = Layout.of(image)
            _check_memory(image, n_bytes, layout)
            if layout.deep_key:
                layout = layout.with_low_bytes(_low_bytes(stream))
            factor = reduction(image.size)
            if image.format in ("JPEG", "MPO") and factor > 1:
                scale = 1 << min(3, factor.bit_length() - 1)  # the decoder's own steps: 2, 4, 8
                image.draft(None, (image.width // scale, image.height // scale))
            with _quiet(image.format == "TIFF"):
                image.load()
            return _finished(image, layout)


@contextmanager
def _quiet(wanted: bool) -> Iterator[None]:
    """libtiff writes its remarks to the process's standard error itself, where they would stand beside our sentence."""
    if not wanted:
        yield
        return
    with _QUIET_LOCK:
        try:
            kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        except OSError:  # standard error is closed
            yield
            return
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


def read_opened(image: Image.Image) -> Image.Image:
    """A Pillow image as RGB; what it holds is not changed."""
    check_size(image.size)
    if getattr(image, "tile", None) and getattr(image, "format", None) not in FORMATS:
        raise UnknownFormat  # loading it would ask a reader that is not ours
    layout = Layout.of(image)
    image.load()
    return _finished(image, layout)


def _finished(image: Image.Image, layout: Layout) -> Image.Image:
    check_size(image.size)  # a frame of a GIF may be larger than the header says
    small = reduced(image, layout, reduction(image.size))
    return upright(to_srgb(small, image.info.get("icc_profile")), image)


def check_size(size: tuple[int, int]) -> None:
    """Raises PictureTooLarge where there are no pixels, too many, or all in one long strip."""
    short, long = sorted(size)
    if short < 1:
        raise PictureTooLarge(f"{size[0]} × {size[1]} pixels: give a picture that has some")
    if short * long > MAX_PIXELS:
        raise PictureTooLarge(_too_large(MAX_PIXELS))
    if long > MAX_ASPECT * short:
        text = f"{size[0]:,} × {size[1]:,} pixels, more than {MAX_ASPECT} times as long as wide"
        raise PictureTooLarge(f"{text}: crop it first")


def reduction(size: tuple[int, int]) -> int:
    """The whole factor by which both sides of a picture are reduced; 1 up to 4 megapixels."""
    factor = 1
    while (size[0] // factor) * (size[1] // factor) > KEPT_PIXELS and min(size) // (factor + 1) >= KEPT_SIDE:
        factor += 1
    return factor


def _too_large(pixels: int) -> str:
    return f"larger than {pixels // 10**6} megapixels: scale it down first"


@cache
def _installed() -> tuple[str, ...]:
    """The formats that this installation reads. pillow-heif is registered where it is installed."""
    missing = set() if features.check("avif") else {"AVIF"}
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
    except ImportError:
        missing.add("HEIF")
    return tuple(name for name in FORMATS if name not in missing and name != "MPO")  # JPEG's reader finds MPO


def _looks_like_heif(stream: IO[bytes]) -> bool:
    stream.seek(0)
    start = stream.read(12)
    return start[4:8] == b"ftyp" and start[8:] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim", b"heis")


def _check_memory(image: Image.Image, n_bytes: int, layout: Layout) -> None:
    """Raises PictureTooLarge where decoding would take more than DECODING_BYTES."""
    pixels = image.width * image.height
    stored = STORED.get(image.mode, 4)
    held = image.format in DECODED_TWICE or (image.format == "TIFF" and image.info.get("compression") != "raw")
    extra = n_bytes if held else 0  # the file, held whole or mapped
    cost: float = DECODED_TWICE.get(image.format or "", stored)
    if image.format in ("JPEG", "MPO"):
        cost = stored / min(8, 1 << (reduction(image.size).bit_length() - 1)) ** 2 + _coefficients(image)
    elif image.format == "HEIF":
        cost += 3 * ((image.mode == "RGBA") + (image.info.get("bit_depth", 8) > 8))
    elif layout.deep_key or (image.format == "TIFF" and image.getexif().get(0x0112, 1) != 1):
        cost = 2 * stored  # the lower bytes; Pillow turns a TIFF upright as a copy
    if cost * pixels + extra > DECODING_BYTES:
        raise PictureTooLarge(_too_large(int((DECODING_BYTES - min(extra, DECODING_BYTES)) / cost)))


def _coefficients(image: Image.Image) -> float:
    """Bytes a pixel that a progressive JPEG keeps: two for each coefficient of each channel, as far as it is sampled."""
    if not image.info.get("progressive"):
        return 0
    layers = [(h, v) for _, h, v, *_ in getattr(image, "layer", [])]
    if not layers:
        return 8
    return 2 * sum(h * v for h, v in layers) / (max(h for h, _ in layers) * max(v for _, v in layers))


def _low_bytes(stream: IO[bytes]) -> Image.Image:
    """The lower bytes of a PNG with 16 bits a channel, of which Pillow keeps the upper ones."""
    stream.seek(0)
    again = Image.open(stream, formats=("PNG",))
    again.tile = [again.tile[0]._replace(args="RGB;16L")]  # the file is big-endian, and so the second byte is taken
    again.load()
    stream.seek(0)
    return again
