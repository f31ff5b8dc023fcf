"""Any picture that a user may hand over is read as a viewer would show it, or refused in one sentence."""

from __future__ import annotations

import functools
import http.server
import io
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from invert.errors import InputError
from invert.images import load_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def photo() -> Image.Image:
    """40 × 20: red on the left, blue on the right, a green corner at the top left."""
    image = Image.new("RGB", (40, 20), RED)
    image.paste(BLUE, (20, 0, 40, 20))
    image.paste(GREEN, (0, 0, 8, 8))
    return image


def refusal(source: str | Path) -> str:
    with pytest.raises(InputError) as caught:
        load_image(source)
    message = str(caught.value)
    assert str(source) in message and "\n" not in message
    return message


@pytest.mark.parametrize("ending", ["png", "webp", "bmp", "tiff", "gif"])
def test_lossless_files_are_read_exactly(photo: Image.Image, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"photo.{ending}"
    photo.save(path, **({"lossless": True} if ending == "webp" else {}))
    read = load_image(path)
    assert read.mode == "RGB" and np.array_equal(read, photo)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "gone.png")


def test_an_empty_path_is_not_the_working_folder() -> None:
    assert "give" in refusal("")


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    assert "is empty" in refusal(tmp_path / "empty.png")


def test_a_folder_is_named(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


def test_a_text_file_is_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not a picture")
    assert "not an image" in refusal(tmp_path / "notes.png")


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "gif", "tiff", "bmp"])
def test_a_file_that_breaks_off_is_damaged(tmp_path: Path, ending: str) -> None:
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


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    read = np.asarray(load_image(tmp_path / "deep.png"))
    assert (abs(read[0, :, 0].astype(int) - np.arange(256)) <= 1).all()
    assert (read[..., 0] == read[..., 1]).all() and (read[..., 0] == read[..., 2]).all()


def test_a_dark_sixteen_bit_picture_stays_dark(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 200, np.uint16)).save(tmp_path / "dark.png")  # 200 of 65,535
    assert np.asarray(load_image(tmp_path / "dark.png")).max() <= 1


def test_floats_are_read_as_zero_to_one(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0.5, 1.0]], np.float32)).save(tmp_path / "float.tiff")
    assert np.asarray(load_image(tmp_path / "float.tiff"))[0, :, 0].tolist() == [0, 128, 255]


def test_floats_that_are_no_numbers_are_black_not_an_error(tmp_path: Path) -> None:
    Image.fromarray(np.array([[np.nan, 1.0]], np.float32)).save(tmp_path / "nan.tiff")
    assert np.asarray(load_image(tmp_path / "nan.tiff"))[0, :, 0].tolist() == [0, 255]


def test_one_bit_pictures_are_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bits.png")
    assert np.asarray(load_image(tmp_path / "bits.png"))[0].tolist() == [[255] * 3, [0] * 3]


def test_cmyk_keeps_its_colours(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=100)
    red, green, blue = np.asarray(load_image(tmp_path / "print.jpg"))[8, 8].tolist()
    assert red > 240 and green < 16 and blue < 16


def test_a_palette_becomes_its_colours(photo: Image.Image, tmp_path: Path) -> None:
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


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_000_000)
    for side in (1500, 2500):  # Pillow warns of the first and refuses the second
        Image.new("1", (side, side)).save(tmp_path / "bomb.png")
        assert "larger than 2 megapixels" in refusal(tmp_path / "bomb.png")


@pytest.mark.parametrize(("orientation", "green"), [(1, (2, 2)), (3, (37, 17)), (6, (17, 2)), (8, (2, 37))])
def test_exif_turns_the_picture_upright(photo: Image.Image, tmp_path: Path, orientation: int, green: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo.save(tmp_path / "turned.png", exif=exif)
    image = load_image(tmp_path / "turned.png")
    assert image.size == ((40, 20) if orientation < 5 else (20, 40))
    assert image.getpixel(green) == GREEN


def test_a_url_that_does_not_answer_is_one_sentence() -> None:
    assert "cannot be downloaded" in refusal("http://127.0.0.1:9/picture.png")
    assert "cannot be downloaded" in refusal("https://no-such-host.invalid/picture.png")


def test_a_url_is_read_and_its_errors_named(photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "photo.png")
    (tmp_path / "page.html").write_text("<html>")
    handler = functools.partial(QuietHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        home = f"http://127.0.0.1:{server.server_port}"
        assert np.array_equal(load_image(f"{home}/photo.png"), photo)
        assert "not an image" in refusal(f"{home}/page.html")
        assert "cannot be downloaded" in refusal(f"{home}/missing.png")
        server.shutdown()


def test_a_pil_image_is_not_changed(photo: Image.Image) -> None:
    before = np.array(photo)
    load_image(photo)
    assert np.array_equal(photo, before)
