"""Pictures: every mode and format with known content, damaged and mislabeled ones, impossible sizes, PostScript, arrays."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.harness.fuzzing.known_pictures import Generator, on_white, png, rgb, saved, written
from experiments.harness.fuzzing.verdicts import Case, Part, watch
from invert.errors import InputError
from invert.images import load_image

ENDINGS = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif", "ppm", "eps", "ps", "pdf", "heic", "svg", "txt"]
POSTSCRIPT = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n0 0 1 setrgbcolor 0 0 32 32 rectfill showpage\n%%EOF\n"
)
LOSSY = {"JPEG": 60.0, "WEBP": 60.0, "AVIF": 60.0}  # of 255, the most that a mean may be off


def run(count: int, seed: int) -> Part:
    """The verdict on that many pictures."""
    with tempfile.TemporaryDirectory() as folder:
        return watch("pictures", seed, cases(count, seed, Path(folder)))


def cases(count: int, seed: int, folder: Path) -> Iterator[Case]:
    kinds = (known, known, damaged, damaged, damaged, joined, sized, postscript, array)
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        kind = large if i % 100 == 99 else kinds[i % len(kinds)]
        yield kind(rng, f"{seed}/{i}", folder)


def known(rng: Generator, name: str, folder: Path) -> Case:
    """A picture whose right reading is known."""
    what, content, expected = written(rng)
    path = folder / f"picture.{ENDINGS[rng.integers(len(ENDINGS))]}"  # the name says nothing of the content
    path.write_bytes(content)
    return Case(
        f"{name} {what}", lambda: load_image(path), (InputError,), lambda image: differs(image, expected, what.split()[0])
    )


def differs(image: Image.Image, expected: np.ndarray, kind: str) -> str | None:
    """Why a reading is not what was expected."""
    read = np.asarray(image).astype(float)
    if image.mode != "RGB" or read.shape != expected.shape:
        return f"{image.mode} {read.shape} instead of RGB {expected.shape}"
    off = abs(read - expected)
    if kind in LOSSY:
        return f"off by {off.mean():.1f} on average" if off.mean() > LOSSY[kind] else None
    return f"off by {off.max():.1f}" if off.max() > 1.6 else None  # two roundings


def damaged(rng: Generator, name: str, folder: Path) -> Case:
    """A good file with bytes changed, lost, doubled or moved: refused, or read as some RGB picture of a sane size."""
    what, content, _ = written(rng)
    spoiled = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        change = spoilers[rng.integers(len(spoilers))]
        spoiled = change(rng, spoiled)
    path = folder / f"damaged.{ENDINGS[rng.integers(len(ENDINGS))]}"
    path.write_bytes(bytes(spoiled))
    if rng.integers(3) == 0:
        return Case(f"{name} damaged {what}", lambda: load_image(bytes(spoiled)), (InputError,), some_picture)
    return Case(f"{name} damaged {what}", lambda: load_image(path), (InputError,), some_picture)


def some_picture(image: Image.Image) -> str | None:
    if image.mode != "RGB" or min(image.size) < 1 or len(image.tobytes()) != 3 * image.width * image.height:
        return f"{image.mode} {image.size}"
    return None


def _flip(rng: Generator, content: bytearray) -> bytearray:
    for at in rng.integers(0, max(1, len(content)), int(rng.integers(1, 8))):
        if content:
            content[at] ^= 1 << int(rng.integers(8))
    return content


def _header(rng: Generator, content: bytearray) -> bytearray:
    at = int(rng.integers(0, max(1, min(len(content), 120) - 4)))
    values = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\xff\xff", rng.bytes(4)]
    content[at : at + 4] = values[rng.integers(len(values))]
    return content


def _cut(rng: Generator, content: bytearray) -> bytearray:
    return content[: int(rng.integers(0, len(content) + 1))]


def _zeros(rng: Generator, content: bytearray) -> bytearray:
    first, last = np.sort(rng.integers(0, len(content) + 1, 2))
    content[first:last] = bytes(last - first)
    return content


def _doubled(rng: Generator, content: bytearray) -> bytearray:
    first, last = np.sort(rng.integers(0, len(content) + 1, 2))
    return content[:last] + content[first:]


def _noise(rng: Generator, content: bytearray) -> bytearray:
    at = int(rng.integers(0, len(content) + 1))
    return content[:at] + bytearray(rng.bytes(int(rng.integers(1, 100)))) + content[at:]


spoilers: tuple[Callable[[Generator, bytearray], bytearray], ...] = (_flip, _header, _cut, _zeros, _doubled, _noise)


def joined(rng: Generator, name: str, folder: Path) -> Case:
    """Two files in one, or the beginning of one format before another."""
    (first, one, _), (second, other, _) = written(rng), written(rng)
    head = int(rng.integers(0, min(64, len(one))))
    content = [one + other, one[:head] + other, other[:head] + one, POSTSCRIPT + one, one + POSTSCRIPT][rng.integers(5)]
    path = folder / f"joined.{ENDINGS[rng.integers(len(ENDINGS))]}"
    path.write_bytes(content)
    return Case(f"{name} joined {first} + {second}", lambda: load_image(path), (InputError,), some_picture)


def sized(rng: Generator, name: str, _: Path) -> Case:
    """A header that promises sizes which the file does not hold, or that nobody can hold."""
    sides = [0, 1, 100, 5000, 20000, 65535, 10**6, 2**31 - 1, 2**32 - 1]
    width, height = (int(sides[i]) for i in rng.integers(0, len(sides), 2))
    kind = int(rng.integers(4))
    if kind == 0:
        content = png((width, height, int(rng.choice([1, 8, 16])), int(rng.choice([0, 2, 3, 4, 6]))), np.zeros((3, 10), np.uint8))
    elif kind == 1:
        content = b"GIF89a" + struct.pack("<HHBBB", width & 0xFFFF, height & 0xFFFF, 0x80, 0, 0) + bytes(6) + b",\0\0\0\0"
        content += struct.pack("<HHB", width & 0xFFFF, height & 0xFFFF, 0) + b"\x02\x02D\x01\0;"
    elif kind == 2:
        size = struct.pack("<ii", width & 0x7FFFFFFF, (height & 0x7FFFFFFF) * int(rng.choice([1, -1])))
        content = (
            b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<I", 40) + size + struct.pack("<HH", 1, 24) + bytes(28)
        )
    else:
        content = f"P{rng.integers(1, 7)}\n{width} {height}\n{rng.choice([1, 255, 65535])}\n".encode() + bytes(30)
    fits = 0 < width * height < 10**6
    return Case(f"{name} sized {kind} {width}×{height}", lambda: load_image(content), (InputError,), some_picture, not fits)


def large(rng: Generator, name: str, folder: Path) -> Case:
    """As large as is accepted, or larger: read within the memory, or refused."""
    kind = str(rng.choice(["1", "L", "P", "RGB", "LA", "TIFF", "JPEG", "WEBP"]))
    side = int(rng.choice([3000, 5400, 9300, 9700]))
    path = folder / "large"
    if kind == "JPEG":
        Image.new("RGB", (side, side), "red").save(path, "JPEG", progressive=True, subsampling=0)
    elif kind in ("TIFF", "WEBP"):
        Image.new("RGB", (side, side), "red").save(path, kind, method=0, compression="tiff_lzw")
    else:
        channels, color_type = {"1": (1, 0), "L": (1, 0), "P": (1, 3), "RGB": (3, 2), "LA": (2, 4)}[kind]
        chunks = ((b"PLTE", bytes(768)), (b"tRNS", b"\0")) if kind == "P" else ()
        rows = np.zeros((side, -(-side // 8) if kind == "1" else side * channels), np.uint8)
        path.write_bytes(png((side, side, 1 if kind == "1" else 8, color_type), rows, chunks))
        del rows
    refused = side * side > 89e6 or (kind == "WEBP" and side > 5500)
    return Case(f"{name} large {kind} {side}", lambda: load_image(path), (InputError,), some_picture, refused)


def postscript(rng: Generator, name: str, folder: Path) -> Case:
    """PostScript, PDF and other formats of which some readers start programs, under every name."""
    heads = [b"%!PS-Adobe-3.0\n", b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, 200) + bytes(20), b"%PDF-1.7\n", b"<svg/>"]
    heads += [b"\xd7\xcd\xc6\x9a", b"\x01\0\0\0" + bytes(36) + b" EMF", b"\n\n%!PS\n", b"8BPS\0\1", b"SIMPLE  = T", b"icns"]
    content = [POSTSCRIPT, heads[rng.integers(len(heads))] + POSTSCRIPT, saved(Image.new("RGB", (9, 9)), "EPS")][rng.integers(3)]
    path = folder / f"page.{ENDINGS[rng.integers(len(ENDINGS))]}"
    path.write_bytes(content)
    if rng.integers(4) == 0:
        path.write_bytes(POSTSCRIPT)
        opened = Image.open(path)  # who opens it himself asks for Pillow's reader, but nothing has been loaded yet
        return Case(f"{name} opened PostScript", lambda: load_image(opened), (InputError,), must_fail=True)
    return Case(f"{name} PostScript as {path.suffix}", lambda: load_image(path), (InputError,), must_fail=True)


def array(rng: Generator, name: str, _: Path) -> Case:
    """Samples from Python: of 1 to 4 channels they are pictures, of any other shape or type they are refused."""
    dtypes = ["u1", "u2", ">u2", "f2", "f4", "f8", "?", "i8", "c8", "U1", "O"]
    dtype = dtypes[rng.integers(len(dtypes))]
    shapes = [(9, 7), (9, 7, 1), (9, 7, 2), (9, 7, 3), (9, 7, 4), (9, 7, 5), (7,), (1, 3, 9, 7), (0, 7), (9, 0, 3), (3, 9, 7)]
    shape = shapes[rng.integers(len(shapes))]
    unit = rng.random(shape)
    full = {"u1": 255, "u2": 65535, ">u2": 65535, "i8": 255}.get(dtype, 1)
    samples = (unit * full).astype(dtype) if dtype not in ("U1", "O") else np.full(shape, "a", dtype)
    good = dtype not in ("c8", "U1", "O") and samples.size > 0 and len(shape) in (2, 3) and (len(shape) == 2 or shape[2] != 5)
    if not good:
        return Case(f"{name} array {dtype} {shape}", lambda: load_image(samples), (InputError,), must_fail=True)
    values = samples.astype(float) * (255 / full)
    values = values.transpose(1, 2, 0) if shape == (3, 9, 7) else values.reshape(9, 7, -1)
    expected = rgb(values[..., :1] if values.shape[2] < 3 else values[..., :3])
    if values.shape[2] in (2, 4):
        expected = on_white(expected, values[..., -1] / 255)
    return Case(
        f"{name} array {dtype} {shape}", lambda: load_image(samples), (InputError,), lambda i: differs(i, expected, "array")
    )
