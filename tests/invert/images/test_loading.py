"""Any picture that a user may hand over is read as a viewer would show it, or refused in one sentence."""

from __future__ import annotations

import io
import os
import struct
import sys
import threading
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features
from PIL.PngImagePlugin import PngImageFile

from invert.errors import InputError
from invert.images import ENDINGS, load_image

STARTS = {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork"}
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


Refusal = Callable[..., str]


def png_of(header: bytes, content: bytes) -> bytes:
    """A PNG of that header, its rows compressed."""
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(content), b"IEND": b""}
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("ending", ["png", "webp", "bmp", "tiff", "gif"])
def test_lossless_files_are_read_exactly(photo: Image.Image, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"photo.{ending}"
    photo.save(path, **({"lossless": True} if ending == "webp" else {}))
    read = load_image(path)
    assert read.mode == "RGB" and np.array_equal(read, photo)


def test_a_missing_file_is_named(tmp_path: Path, refusal: Refusal) -> None:
    assert "does not exist" in refusal(tmp_path / "gone.png")


def test_an_empty_path_is_not_the_working_folder(refusal: Refusal) -> None:
    assert "give" in refusal("")


def test_an_empty_file_is_named(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "empty.png").touch()
    assert "is empty" in refusal(tmp_path / "empty.png")


def test_a_folder_is_named(tmp_path: Path, refusal: Refusal) -> None:
    assert "is a folder" in refusal(tmp_path)


def test_a_text_file_is_not_an_image(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "notes.png").write_text("not a picture")
    assert "not an image" in refusal(tmp_path / "notes.png")


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "gif", "tiff", "bmp"])
def test_a_file_that_breaks_off_is_damaged(tmp_path: Path, ending: str, refusal: Refusal) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, "jpeg" if ending == "jpg" else ending)
    path = tmp_path / f"cut.{ending}"
    path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    message = refusal(path)
    assert "damaged" in message or "not an image" in message


@given(content=st.binary(max_size=200), start=st.sampled_from([b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff", b"II*\0", b""]))
def test_no_bytes_raise_anything_but_one_sentence(tmp_path_factory, content: bytes, start: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.png"
    path.write_bytes(start + content)
    try:
        load_image(path)
    except InputError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("ending", ["gif", "png", "webp"])
def test_of_an_animation_the_first_frame_is_taken(photo: Image.Image, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"moving.{ending}"
    options = {"lossless": True} if ending == "webp" else {}
    photo.save(path, save_all=True, append_images=[Image.new("RGB", photo.size, WHITE)], duration=100, **options)
    assert np.array_equal(load_image(path), photo)


def test_one_bit_pictures_are_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bits.png")
    assert np.asarray(load_image(tmp_path / "bits.png"))[0].tolist() == [[255] * 3, [0] * 3]


def test_cmyk_keeps_its_colors(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=100)
    red, green, blue = np.asarray(load_image(tmp_path / "print.jpg"))[8, 8].tolist()
    assert red > 240 and green < 16 and blue < 16


def test_a_palette_becomes_its_colors(photo: Image.Image, tmp_path: Path) -> None:
    photo.quantize(4).save(tmp_path / "palette.png")
    assert np.array_equal(load_image(tmp_path / "palette.png"), photo)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "palette"])
def test_transparency_lies_on_white(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "clear.png"
    if mode == "palette":
        image = Image.new("P", (2, 1), 0)
        image.putpalette([0, 0, 0, 9, 9, 9])
        image.putpixel((1, 0), 1)
        image.save(path, transparency=0)
    else:
        image = Image.new(mode, (2, 1), (0, 0, 0, 0) if mode == "RGBA" else (0, 0))
        image.putpixel((1, 0), (9, 9, 9, 255) if mode == "RGBA" else (9, 255))
        image.save(path)
    assert np.asarray(load_image(path))[0].tolist() == [[255] * 3, [9] * 3]


def test_half_transparent_black_is_gray() -> None:
    assert load_image(Image.new("RGBA", (1, 1), (0, 0, 0, 128))).getpixel((0, 0)) == (127, 127, 127)


def test_one_pixel_is_an_image_that_a_model_can_read(tmp_path: Path, picturebook) -> None:
    Image.new("RGB", (1, 1), RED).save(tmp_path / "dot.png")
    image = load_image(tmp_path / "dot.png")
    assert image.size == (1, 1)
    assert abs(float(picturebook.encode_image([image]).norm()) - 1) < 1e-5


@pytest.mark.parametrize("side", [9500, 14000, 30000])  # Pillow says nothing of the first, warns of the second, refuses the third
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_unpacked(tmp_path: Path, side: int, refusal: Refusal) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(png_of(header, b""))
    assert "larger than 89 megapixels" in refusal(tmp_path / "bomb.png")


@pytest.mark.parametrize("size", [(1_000_000, 1), (1, 101), (500, 4)])
def test_a_long_strip_is_refused(tmp_path: Path, size: tuple[int, int], refusal: Refusal) -> None:
    Image.new("1", size).save(tmp_path / "strip.png")
    assert "times as long as wide" in refusal(tmp_path / "strip.png")


def test_a_strip_just_within_the_limit_is_read_and_encoded(tmp_path: Path, picturebook) -> None:
    Image.new("L", (400, 4)).save(tmp_path / "strip.png")
    assert abs(float(picturebook.encode_image([load_image(tmp_path / "strip.png")]).norm()) - 1) < 1e-5


@pytest.mark.parametrize(("orientation", "green"), [(1, (2, 2)), (3, (37, 17)), (6, (17, 2)), (8, (2, 37))])
def test_exif_turns_the_picture_upright(photo: Image.Image, tmp_path: Path, orientation: int, green: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo.save(tmp_path / "turned.png", exif=exif)
    image = load_image(tmp_path / "turned.png")
    assert image.size == ((40, 20) if orientation < 5 else (20, 40))
    assert image.getpixel(green) == GREEN


def test_a_pil_image_is_not_changed(photo: Image.Image) -> None:
    before = np.array(photo)
    load_image(photo)
    assert np.array_equal(photo, before)


def test_arrays_and_tensors_are_pictures(photo: Image.Image) -> None:
    samples = np.asarray(photo)
    for source in (
        samples,
        samples / np.float32(255),
        samples.astype(np.float64),
        samples.astype(np.uint16) * 257,
        samples.astype(">i4"),
        torch.from_numpy(samples.copy()).permute(2, 0, 1),
        torch.from_numpy(samples / np.float32(255)).permute(2, 0, 1).requires_grad_(),
        torch.from_numpy(samples.copy()),  # the only axis that can be the channels is the last
    ):
        assert np.array_equal(load_image(source), samples)
    assert np.array_equal(load_image(samples[..., 0]), samples[..., :1].repeat(3, -1))
    clear = np.concatenate([samples, np.zeros((20, 40, 1), np.uint8)], -1)
    assert np.asarray(load_image(clear)).min() == 255


NO_PICTURES: list[Any] = [
    *(np.zeros(shape) for shape in ((0, 0, 3), (5, 5, 7), (1, 3, 5, 5), (5,))),
    np.zeros((5, 5), complex),
    np.array([["a"]]),
    np.zeros((1, 10**6), np.uint8),
    torch.zeros(3, 0, 4),
    None,
    5,
    b"",
    Image.new("RGB", (0, 0)),
    io.StringIO("picture"),
]


@pytest.mark.parametrize("source", NO_PICTURES, ids=lambda source: f"{type(source).__name__}-{getattr(source, 'shape', '')}")
def test_what_is_no_picture_is_refused(source: Any, refusal: Refusal) -> None:
    refusal(source, "the fifth picture")


def test_bytes_and_streams_are_read(photo: Image.Image) -> None:
    stream = io.BytesIO()
    photo.save(stream, "png")
    assert np.array_equal(load_image(stream.getvalue()), photo)
    stream.seek(0)
    assert np.array_equal(load_image(stream), photo)


def test_a_named_pipe_is_read(photo: Image.Image, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    content = io.BytesIO()
    photo.save(content, "png")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe.png").write_bytes(content.getvalue()))
    writer.start()
    assert np.array_equal(load_image(tmp_path / "pipe.png"), photo)
    writer.join()


def test_an_endless_device_is_refused(refusal: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invert.images.loading.MAX_PIPED_BYTES", 1 << 20)
    assert "larger than 1 MiB" in refusal("/dev/zero")


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "a\0b.png", "a\nb.png", "\ud800.png", "loop.png"])
def test_names_that_no_file_can_have_are_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    with pytest.raises(InputError, match="does not exist") as caught:
        load_image(str(tmp_path / name))
    str(caught.value).encode()  # and can be printed
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["page.eps", "page.png", "page.jpg", "page.pdf", "page.wmf"])
def test_postscript_reaches_no_other_program(tmp_path: Path, name: str, refusal: Refusal) -> None:
    started: list[str] = []
    sys.addaudithook(lambda event, _: started.append(event) if event in STARTS else None)
    Image.new("RGB", (64, 64), RED).save(tmp_path / name, "EPS")
    assert "not an image" in refusal(tmp_path / name)
    assert "not an image" in refusal((tmp_path / name).read_bytes(), "the download")
    refusal(Image.open(tmp_path / name), "the opened picture")
    assert not started


@pytest.mark.parametrize(
    "error", [RuntimeError, TypeError, NotImplementedError, struct.error, SyntaxError, KeyError, RecursionError]
)
def test_whatever_a_reader_raises_is_one_sentence(
    photo: Image.Image, tmp_path: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise error("two\nlines")

    photo.save(tmp_path / "photo.png")
    monkeypatch.setattr(PngImageFile, "load", fail)
    assert "damaged" in refusal(tmp_path / "photo.png")


@pytest.mark.parametrize(("ending", "mode"), [("avif", "RGB"), ("jfif", "RGB"), ("ppm", "RGB"), ("pgm", "L"), ("apng", "RGB")])
def test_every_ending_that_is_taken_in_folders_is_read(photo: Image.Image, tmp_path: Path, ending: str, mode: str) -> None:
    kind = {"jfif": "jpeg", "apng": "png", "pgm": "ppm"}.get(ending, ending)
    if kind == "avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    photo.convert(mode).save(tmp_path / f"photo.{ending}", kind)
    assert f".{ending}" in ENDINGS
    read = np.asarray(load_image(tmp_path / f"photo.{ending}")).astype(int)
    assert abs(read - np.asarray(photo.convert(mode).convert("RGB"))).mean() < 12


def test_heic_is_read_or_the_package_for_it_is_named(photo: Image.Image, tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "phone.heic"
    if find_spec("pillow_heif"):
        from pillow_heif import from_pillow

        from_pillow(photo).save(path, quality=100)
        assert abs(np.asarray(load_image(path)).astype(int) - np.asarray(photo)).mean() < 12
    else:
        path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
        assert "pillow-heif" in refusal(path)


def test_a_damaged_tiff_is_one_sentence_and_nothing_on_stderr(tmp_path: Path, refusal: Refusal, capfd) -> None:
    content = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(content, "tiff", compression="tiff_adobe_deflate")
    spoiled = bytearray(content.getvalue())
    spoiled[2000:2100] = bytes(100)
    (tmp_path / "spoiled.tiff").write_bytes(spoiled)
    assert "damaged" in refusal(tmp_path / "spoiled.tiff")
    assert capfd.readouterr().err == ""


def test_masked_samples_are_refused(refusal) -> None:
    masked = np.ma.masked_greater(np.arange(100, dtype=np.uint8).reshape(10, 10), 50)
    assert "has masked samples" in refusal(masked, "the picture")
    assert load_image(np.ma.masked_greater(masked.data, 200)).size == (10, 10)
