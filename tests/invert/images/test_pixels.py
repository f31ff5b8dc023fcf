"""Samples of every type are read by its range, transparency lies on white before anything is scaled, colors end in sRGB."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from invert.images import load_image
from invert.images.decoding import KEPT_PIXELS, KEPT_SIDE, reduction

DISC = (np.mgrid[:64, :64] - 32).__pow__(2).sum(0) < 400


def read(image: Image.Image, kind: str, **options: Any) -> np.ndarray:
    """What is read of the image written as that kind of file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return np.asarray(load_image(file.getvalue()))


def png(bits: int, color_type: int, row: bytes, width: int, clear: bytes | None = None) -> np.ndarray:
    """What is read of a PNG of one row; clear: its transparent value."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, 1, bits, color_type, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" + row)),
        (b"IEND", b""),
    ]
    if clear is not None:
        chunks.insert(1, (b"tRNS", clear))
    parts = [struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks]
    return np.asarray(load_image(b"\x89PNG\r\n\x1a\n" + b"".join(parts)))[0]


def test_sixteen_bits_are_scaled_to_eight() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    pixels = read(Image.fromarray(ramp), "png")
    assert (abs(pixels[0].astype(int) - np.arange(256)[:, None]) <= 1).all()


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_a_dark_sixteen_bit_picture_stays_dark(kind: str) -> None:
    assert read(Image.fromarray(np.full((4, 4), 200, np.uint16)), kind).max() <= 1  # 200 of 65,535


@pytest.mark.parametrize("top", [1.0, 1.0001, 1.9, 255.0, 256.0, 65535.0])
def test_floats_are_read_by_the_range_that_their_values_lie_in(top: float) -> None:
    full = max(value for value in (1, 255, 65535) if value <= top)
    pixels = read(Image.fromarray(np.where(DISC, top, full / 4).astype(np.float32)), "tiff")
    assert pixels[0, 0].tolist() == [64] * 3 and pixels[32, 32].tolist() == [255] * 3


@pytest.mark.parametrize(("value", "shown"), [(np.inf, 255), (3e38, 255), (1e4, 255), (np.nan, 0), (-np.inf, 0), (-1, 0)])
def test_one_odd_sample_changes_nothing_else(value: float, shown: int) -> None:
    samples = np.where(DISC, 1.0, 0.5).astype(np.float32)
    samples[5, 5] = value
    pixels = read(Image.fromarray(samples), "tiff")[..., 0]
    assert pixels[5, 5] == shown and pixels[0, 0] == 128 and pixels[32, 32] == 255


def test_floats_that_are_no_numbers_at_all_are_black() -> None:
    assert read(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "tiff").max() == 0


@pytest.mark.parametrize("full", [255, 65535])
def test_thirty_two_bit_integers_are_read_by_the_range_that_their_values_lie_in(full: int) -> None:
    pixels = read(Image.fromarray(np.where(DISC, full, full // 4).astype(np.int32)), "tiff")[..., 0]
    assert abs(int(pixels[0, 0]) - 64) <= 1 and pixels[32, 32] == 255


def test_a_tiff_says_what_its_largest_sample_is() -> None:
    samples = Image.fromarray(np.where(DISC, 4095, 1024).astype(np.uint16))
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    assert read(samples, "tiff")[32, 32, 0] == 16  # 12 bits in 16, and nothing says so
    tags[281] = 4095  # MaxSampleValue
    pixels = read(samples, "tiff", tiffinfo=tags)
    assert pixels[0, 0, 0] == 64 and pixels[32, 32, 0] == 255


def test_a_tiff_of_twelve_bits_is_read_by_twelve_bits() -> None:
    row = bytes([0xFF, 0xF4, 0x00])  # two samples: 4095, 1024
    entries = [
        (256, 4, 2),
        (257, 4, 1),
        (258, 3, 12),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 200),
        (277, 3, 1),
        (278, 4, 1),
        (279, 4, 3),
    ]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    for tag, kind, value in entries:
        head += struct.pack("<HHII", tag, kind, 1, value)
    content = (head + bytes(4)).ljust(200, b"\0") + row
    assert np.asarray(load_image(content))[0, :, 0].tolist() == [255, 64]


def test_where_zero_is_white_deep_samples_are_inverted() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0  # WhiteIsZero
    file = io.BytesIO()
    Image.fromarray(np.full((2, 2), 65535, np.uint16)).save(file, "tiff")
    content = bytearray(file.getvalue())
    at = content.index(struct.pack("<HHI", 262, 3, 1))
    content[at + 8 : at + 10] = b"\0\0"
    assert np.asarray(load_image(bytes(content))).max() == 0


def test_the_transparent_value_of_gray_is_white() -> None:
    pixels = read(Image.fromarray(np.where(DISC, 150, 0).astype(np.uint8)), "png", transparency=0)
    assert pixels[0, 0].tolist() == [255] * 3 and pixels[32, 32].tolist() == [150] * 3


def test_the_transparent_value_counts_in_the_bits_of_the_file() -> None:
    two = struct.pack(">H", 1)
    assert png(1, 0, bytes([0b01000000]), 2, struct.pack(">H", 0))[:, 0].tolist() == [255, 255]
    assert png(2, 0, bytes([0b00011011]), 4, two)[:, 0].tolist() == [0, 255, 170, 255]
    assert png(4, 0, bytes([0x12]), 2, two)[:, 0].tolist() == [255, 34]
    assert png(16, 0, struct.pack(">HHH", 1000, 1001, 65535), 3, struct.pack(">H", 1000))[:, 0].tolist() == [255, 4, 255]


def test_a_transparent_color_of_48_bits_is_compared_in_all_of_them() -> None:
    row = struct.pack(">9H", 1000, 2000, 3000, 1001, 2000, 3000, 65535, 0, 2304)
    assert png(16, 2, row, 3, struct.pack(">3H", 1000, 2000, 3000)).tolist() == [[255] * 3, [3, 7, 11], [255, 0, 9]]


def test_a_transparent_color_of_24_bits_is_white() -> None:
    assert png(8, 2, bytes(range(6)), 2, struct.pack(">3H", 0, 1, 2)).tolist() == [[255] * 3, [3, 4, 5]]


def test_sixteen_bit_alpha_is_followed() -> None:
    assert png(16, 4, struct.pack(">4H", 0, 0, 300, 65535), 2).tolist() == [[255] * 3, [1] * 3]


def test_a_palette_with_many_transparent_entries_lies_on_white() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0, 10, 10, 10, 20, 20, 20])
    image.putdata([0, 1, 2])
    pixels = read(image, "png", transparency=bytes([0, 128, 255]))
    assert pixels[0, :, 0].tolist() == [255, 132, 20]


def test_lab_is_converted() -> None:
    red = Image.merge("LAB", [Image.new("L", (4, 4), value) for value in (136, 128 + 80, 128 + 67)])  # L* 53, a* 80, b* 67
    assert abs(read(red, "tiff")[0, 0].astype(int) - [255, 0, 0]).max() <= 12
    gray = Image.merge("LAB", [Image.new("L", (4, 4), value) for value in (255, 128, 128)])
    assert read(gray, "tiff").min() >= 253


def swapped_profile() -> bytes:
    """A profile whose red is sRGB's green and the other way round: whoever follows it swaps them."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    table = {content[at : at + 4].decode(): at for at in range(132, 132 + 12 * int.from_bytes(content[128:132], "big"), 12)}
    red, green = (slice(table[name] + 4, table[name] + 12) for name in ("rXYZ", "gXYZ"))  # offset and length of each
    content[red], content[green] = content[green], content[red]
    return bytes(content).replace(b"s\0R\0G\0B", b"o\0R\0G\0B").replace(b"sRGB", b"oRGB")


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "webp"])
def test_an_icc_profile_is_followed(kind: str) -> None:
    options = {"quality": 100} if kind == "jpeg" else {"lossless": True} if kind == "webp" else {}
    pixels = read(Image.new("RGB", (16, 16), (255, 0, 0)), kind, icc_profile=swapped_profile(), **options)
    assert abs(pixels[8, 8].astype(int) - [0, 255, 0]).max() <= 3


def test_an_icc_profile_leaves_what_is_transparent_white() -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert read(image, "png", icc_profile=swapped_profile()).min() >= 254


@pytest.mark.parametrize("profile", [b"no profile", swapped_profile()[:200], bytes(5000)])
def test_a_damaged_profile_is_ignored(profile: bytes) -> None:
    assert read(Image.new("RGB", (4, 4), (250, 10, 20)), "png", icc_profile=profile)[0, 0].tolist() == [250, 10, 20]


def test_an_srgb_profile_changes_no_bit() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(read(Image.fromarray(noise), "png", icc_profile=srgb), noise)


def test_a_damaged_orientation_is_ignored() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 8, 3), np.uint8)
    assert np.array_equal(read(Image.fromarray(noise), "png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"), noise)


def test_pictures_up_to_four_megapixels_are_not_reduced() -> None:
    assert reduction((2048, 2048)) == 1 and reduction((2049, 2048)) == 2
    assert reduction((9400, 9400)) == 5 and reduction((100, 9000)) == 1
    for size in ((9000, 9000), (89000, 1000), (3000, 2500)):
        factor = reduction(size)
        small = size[0] // factor, size[1] // factor
        assert min(small) >= KEPT_SIDE and (small[0] * small[1] <= KEPT_PIXELS or min(small) < 2 * KEPT_SIDE)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "CMYK", "I;16", "F", "key", "deep key"])
def test_a_reduced_picture_is_the_average_of_the_whole_one(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invert.images.pixels.BAND", 700)
    image, kind, options = of_mode(mode)
    whole = Image.fromarray(read(image, kind, **options))
    monkeypatch.setattr("invert.images.decoding.KEPT_PIXELS", 500)
    monkeypatch.setattr("invert.images.decoding.KEPT_SIDE", 4)
    small = read(image, kind, **options)
    assert small.shape[:2] == (25, 18)  # 50 × 35 by 2
    tolerance = 40 if mode == "CMYK" else 1  # black is not linear in ink
    assert abs(small.astype(int) - np.asarray(whole.reduce(2))).max() <= tolerance


def of_mode(mode: str) -> tuple[Image.Image, str, dict[str, Any]]:
    """A random picture of a mode, 35 × 50, and how it is written."""
    colors = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 35, 3), np.uint8))
    if mode == "RGBA":
        colors.putalpha(colors.getchannel(0))
        return colors, "png", {}
    if mode == "F":
        return Image.fromarray(np.asarray(colors.convert("L")) / np.float32(255)), "tiff", {}
    if mode == "I;16":
        return Image.fromarray(np.asarray(colors.convert("L")).astype(np.uint16) * 257), "png", {}
    if mode == "P":
        return colors.quantize(16), "png", {"transparency": 3}
    if mode == "key":
        return colors.convert("L").point(lambda value: value // 64 * 64), "png", {"transparency": 64}
    if mode == "deep key":
        return colors.point(lambda value: value // 128 * 128), "png", {"transparency": (128, 0, 0)}
    return colors.convert(mode), "tiff" if mode == "CMYK" else "png", {}


def test_a_large_jpeg_is_reduced_while_it_is_decoded(tmp_path: Path) -> None:
    Image.linear_gradient("L").resize((3000, 4000)).convert("RGB").save(tmp_path / "large.jpg", quality=95)
    small = load_image(tmp_path / "large.jpg")
    assert small.size == (1500, 2000)
    rows = np.asarray(small)[:, :, 0].mean(1)
    assert abs(rows - np.linspace(0, 255, 2000)).max() < 4


def tiff_of_unsigned(samples: np.ndarray, *more: tuple[int, int, int]) -> np.ndarray:
    """What is read of a TIFF of 32-bit unsigned samples, which Pillow writes as signed ones alone."""
    height, width = samples.shape
    size = samples.nbytes
    values = {256: width, 257: height, 258: 32, 259: 1, 262: 1, 277: 1, 278: height, 279: size, 339: 1}
    entries = [(tag, 4 if tag in (256, 257, 278, 279) else 3, value) for tag, value in values.items()] + list(more)
    at = 8 + 2 + 12 * (len(entries) + 1) + 4
    head = b"II*\0" + struct.pack("<IH", 8, len(entries) + 1)
    packed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in sorted([*entries, (273, 4, at)]))
    return np.asarray(load_image(head + packed + struct.pack("<I", 0) + samples.astype("<u4").tobytes()))


@pytest.mark.parametrize("full", [255, 65535, 2**32 - 1])
def test_unsigned_thirty_two_bit_integers_have_no_sign(full: int) -> None:
    pixels = tiff_of_unsigned(np.where(DISC, full, full // 4))[..., 0]
    assert abs(int(pixels[0, 0]) - 64) <= 1 and pixels[32, 32] == 255
    assert (np.asarray(load_image(np.where(DISC, full, full // 4).astype(np.uint32)))[..., 0] == pixels).all()


def test_unsigned_samples_have_the_range_that_the_file_declares() -> None:
    pixels = tiff_of_unsigned(np.where(DISC, 3_000_000_000, 750_000_000), (281, 4, 3_000_000_000))[..., 0]
    assert pixels[0, 0] == 64 and pixels[32, 32] == 255


@pytest.mark.parametrize("scale", [b"-1.0", b"1.0"])
def test_a_gray_pfm_is_read_by_its_values(scale: bytes) -> None:
    samples = np.where(DISC, 1.0, 0.25).astype("<f4" if scale.startswith(b"-") else ">f4")
    pixels = np.asarray(load_image(b"Pf\n64 64\n" + scale + b"\n" + samples.tobytes()))[..., 0]
    assert pixels[0, 0] == 64 and pixels[32, 32] == 255
