"""Pictures of every mode and format with the RGB values that a reader has to find in them, computed from the samples."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageCms, features

Generator = np.random.Generator


def written(rng: Generator) -> tuple[str, bytes, np.ndarray]:
    """A name, a file, and its picture as RGB of 0 to 255, computed from the samples that were drawn."""
    height, width = rng.integers(1, 60, 2)
    while max(height, width) > 20 * min(height, width):
        height, width = rng.integers(1, 60, 2)
    makers = (plain, plain, alpha, transparent_value, palette, deep, floats, bits, cmyk, turned, profiled)
    return makers[rng.integers(len(makers))](rng, int(height), int(width))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def smooth(rng: Generator, height: int, width: int, channels: int) -> np.ndarray:
    """uint8 samples (H, W, C) that lossy formats can keep."""
    coarse = Image.fromarray(rng.integers(0, 256, (3, 3, channels), np.uint8).squeeze())
    return np.asarray(coarse.resize((width, height), Image.Resampling.BILINEAR)).reshape(height, width, channels)


def gray(values: np.ndarray) -> np.ndarray:
    """One channel (H, W) as three, in float."""
    return np.repeat(values[..., None].astype(float), 3, -1)


def on_white(colors: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """(H, W, 3) of 0 to 255 over white; opacity (H, W) of 0 to 1."""
    return colors * opacity[..., None] + 255 * (1 - opacity[..., None])


def plain(rng: Generator, height: int, width: int) -> tuple[str, bytes, np.ndarray]:
    channels = int(rng.choice([1, 3]))
    samples = smooth(rng, height, width, channels)
    image = Image.fromarray(samples.squeeze(-1) if channels == 1 else samples)
    kinds = ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", *(["AVIF"] if features.check("avif") else [])]
    kind = str(rng.choice(kinds))
    options: dict[str, Any] = {}
    if kind == "JPEG":
        options = {
            "quality": int(rng.integers(60, 96)),
            "progressive": bool(rng.integers(2)),
            "subsampling": int(rng.integers(3)),
        }
    elif kind == "TIFF":
        options = {"compression": str(rng.choice(["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"]))}
    elif kind == "WEBP" and rng.integers(2):
        return f"webp lossless {channels}", saved(image.convert("RGB"), kind, lossless=True), rgb(samples)
    return f"{kind} {channels} {options}", saved(image, kind, **options), rgb(samples)


def rgb(samples: np.ndarray) -> np.ndarray:
    return samples.astype(float) if samples.shape[2] == 3 else gray(samples[..., 0])


def alpha(rng: Generator, height: int, width: int) -> tuple[str, bytes, np.ndarray]:
    samples = rng.integers(0, 256, (height, width, int(rng.choice([2, 4]))), np.uint8)
    kind = "TIFF" if rng.integers(3) == 0 else "PNG"
    return (
        f"{kind} alpha {samples.shape[2]}",
        saved(Image.fromarray(samples), kind),
        on_white(rgb(samples[..., :1] if samples.shape[2] == 2 else samples[..., :3]), samples[..., -1] / 255),
    )


def png(header: tuple[int, int, int, int], rows: np.ndarray, chunks: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    """A PNG by hand; header: width, height, bits, color type; rows: (H, bytes) uint8."""
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", *header, 0, 0, 0)), *chunks, (b"IDAT", content), (b"IEND", b"")]
    made = (struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data)) for tag, data in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def transparent_value(rng: Generator, height: int, width: int) -> tuple[str, bytes, np.ndarray]:
    """PNG whose header names one transparent value, in 8 or 16 bits, of gray or color."""
    depth, channels = int(rng.choice([8, 16])), int(rng.choice([1, 3]))
    levels = rng.integers(0, 1 << depth, 4)  # few, so that the value is met
    samples = levels[rng.integers(0, 4, (height, width, channels))]
    key = samples[rng.integers(height), rng.integers(width)]
    rows = samples.astype(">u2" if depth == 16 else "u1").reshape(height, -1).view(np.uint8).reshape(height, -1)
    content = png((width, height, depth, 0 if channels == 1 else 2), rows, ((b"tRNS", key.astype(">u2").tobytes()),))
    opaque = (samples != key).any(-1).astype(float)
    scaled = samples / (257 if depth == 16 else 1)
    return f"PNG tRNS {depth} {channels}", content, on_white(np.broadcast_to(scaled, (height, width, 3)), opaque)


def palette(rng: Generator, height: int, width: int) -> tuple[str, bytes, np.ndarray]:
    colors = rng.integers(0, 256, (16, 3), np.uint8)
    indices = rng.integers(0, 16, (height, width)).astype(np.uint8)
    image = Image.fromarray(indices)
    image = Image.frombytes("P", (width, height), indices.tobytes())
    image.putpalette(colors.tobytes())
    opacity = np.ones(16)
    kind, options = str(rng.choice(["PNG", "GIF", "BMP", "TIFF"])), {}
    if kind in ("PNG", "GIF") and rng.integers(2):
        opacity[3] = 0
        options = {"transparency": 3}
    return f"{kind} palette {options}", saved(image, kind, **options), on_white(colors[indices].astype(float), opacity[indices])


def deep(rng: Generator, height: int, width: int) -> tuple[str, bytes, np.ndarray]:
    """16 bits, dark or light: read by the range of the type."""
    samples = rng.integers(0, int(rng.choice([300, 65536])), (height, width)).astype(np.uint16)
    kind = str(rng.choice(["PNG", "TIFF", "PPM"]))
    image = Image.fromarray(samples)
    return f"{kind} 16 bits", saved(image.convert("I") if kind == "PPM" else image, kind), gray(samples / 257)


def floats(rng: Generator, height: int, width: int) -> tuple[str, bytes, np.ndarray]:
    """0 to 1 or 0 to 255, a little beyond, one sample infinite or no number."""
    full = float(rng.choice([1, 255]))
    top = full * float(rng.choice([1, 1.0001, 1.01, 256 / 255]))
    samples = (rng.random((height, width)) * top).astype(np.float32)
    samples.flat[0] = top
    shown = (samples * (255 / full)).clip(0, 255)
    if samples.size > 1 and rng.integers(2):
        odd = rng.choice(np.array([np.inf, -np.inf, np.nan, -5], np.float32))
        samples.flat[1] = odd
        shown.flat[1] = 255 if odd == np.inf else 0
    return f"TIFF floats to {top}", saved(Image.fromarray(samples), "TIFF"), gray(shown)


def bits(rng: Generator, height: int, width: int) -> tuple[str, bytes, np.ndarray]:
    depth = int(rng.choice([1, 2, 4]))
    samples = rng.integers(0, 1 << depth, (height, width)).astype(np.uint8)
    padded = np.pad(samples, ((0, 0), (0, -width % (8 // depth))))
    shifts = np.arange(8 - depth, -1, -depth)
    rows = (padded.reshape(height, -1, 8 // depth) << shifts).sum(-1).astype(np.uint8)
    chunks, opacity = (), np.ones((height, width))
    if rng.integers(2):
        key = int(samples.flat[0])
        chunks, opacity = ((b"tRNS", struct.pack(">H", key)),), (samples != key).astype(float)  # type: ignore[assignment]
    content = png((width, height, depth, 0), rows, chunks)
    return f"PNG {depth} bits", content, on_white(gray(samples * 255.0 / ((1 << depth) - 1)), opacity)


def cmyk(rng: Generator, height: int, width: int) -> tuple[str, bytes, np.ndarray]:
    inks = rng.integers(0, 256, (height, width, 4), np.uint8)
    inks[..., 3] = 0  # black is where conversions differ
    image = Image.frombytes("CMYK", (width, height), inks.tobytes())
    return "TIFF cmyk", saved(image, "TIFF"), 255.0 - inks[..., :3]


def turned(rng: Generator, height: int, width: int) -> tuple[str, bytes, np.ndarray]:
    samples = rng.integers(0, 256, (height, width, 3), np.uint8)
    orientation = int(rng.integers(0, 10))  # 0 and 9 are none
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = {
        2: samples[:, ::-1],
        3: samples[::-1, ::-1],
        4: samples[::-1],
        5: samples.transpose(1, 0, 2),
        6: samples[::-1].transpose(1, 0, 2),
        7: samples[::-1, ::-1].transpose(1, 0, 2),
        8: samples[:, ::-1].transpose(1, 0, 2),
    }.get(orientation, samples)
    kind = str(rng.choice(["PNG", "TIFF", "WEBP"]))
    options = {"lossless": True} if kind == "WEBP" else {}
    content = saved(Image.fromarray(samples), kind, exif=exif.tobytes(), **options)
    return f"turned {kind} {orientation}", content, upright.astype(float)


def profiled(rng: Generator, height: int, width: int) -> tuple[str, bytes, np.ndarray]:
    """With sRGB's own profile, or a damaged one: neither changes a color by more than rounding."""
    samples = rng.integers(0, 256, (height, width, 3), np.uint8)
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    if rng.integers(2):
        profile[: int(rng.integers(4, 128))] = b""
    content = saved(Image.fromarray(samples), str(rng.choice(["PNG", "TIFF"])), icc_profile=bytes(profile))
    return "profiled", content, samples.astype(float)
