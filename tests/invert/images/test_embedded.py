"""Prompts that files carry: every program's form is read, ours is written without touching a pixel, nothing breaks."""

from __future__ import annotations

import contextlib
import io
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from invert.errors import InputError
from invert.images.embedded import read_embedded, user_comment
from invert.images.metadata import with_prompt

A1111 = "a fox, (red:1.2) umbrella\nsecond line\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7"
GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 5, "positive": ["10", 0], "negative": ["7", 0], "model": ["4", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["12", 0], "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
    "10": {"class_type": "ControlNetApply", "inputs": {"conditioning": ["6", 0], "image": ["11", 0], "strength": 1.0}},
    "11": {"class_type": "LoadImage", "inputs": {"image": "pose.png"}},
    "12": {"class_type": "PrimitiveString", "inputs": {"value": "two owls"}},
}
WORKFLOW = {
    "nodes": [
        {"id": 7, "type": "CLIPTextEncode", "widgets_values": ["blurry"], "inputs": [{"name": "clip", "link": 2}]},
        {"id": 6, "type": "CLIPTextEncode", "widgets_values": ["two owls"], "inputs": [{"name": "clip", "link": 3}]},
        {
            "id": 3,
            "type": "KSampler",
            "widgets_values": [5, "fixed", 20],
            "inputs": [{"name": "positive", "link": 4}, {"name": "negative", "link": 5}],
        },
    ],
    "links": [[4, 6, 0, 3, 0, "CONDITIONING"], [5, 7, 0, 3, 1, "CONDITIONING"]],
}


def noise(mode: str = "RGB") -> Image.Image:
    shape = (24, 18, len(mode)) if len(mode) > 1 else (24, 18)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), mode)


def saved(image: Image.Image, format: str, **more: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **more)
    return buffer.getvalue()


def png_of(key: str, text: str) -> bytes:
    info = PngInfo()
    info.add_itxt(key, text) if not text.isascii() else info.add_text(key, text)
    return saved(noise(), "PNG", pnginfo=info)


@pytest.mark.parametrize(
    ("key", "text", "prompt"),
    [
        ("parameters", A1111, "a fox, (red:1.2) umbrella\nsecond line"),
        ("parameters", "grüße 狐\nSteps: 20, Sampler: Euler", "grüße 狐"),
        ("parameters", "only a prompt", "only a prompt"),
        ("parameters", '{"prompt": "a fox", "negative_prompt": "x"}', "a fox"),
        ("prompt", json.dumps(GRAPH), "two owls"),
        ("workflow", json.dumps(WORKFLOW), "two owls"),
        ("invokeai_metadata", '{"positive_prompt": "a fox", "negative_prompt": "b"}', "a fox"),
        ("sd-metadata", '{"image": {"prompt": [{"prompt": "a fox", "weight": 1}, {"prompt": "ice"}]}}', "a fox, ice"),
        ("sd-metadata", '{"image": {"prompt": "a fox"}}', "a fox"),
        ("Dream", '"a \\"red\\" fox" -s 50 -S 1', 'a "red" fox'),
        ("Description", "a fox", "a fox"),
    ],
)
def test_every_program_s_prompt_is_read(key, text, prompt):
    found = read_embedded(png_of(key, text))
    assert found is not None and found.prompt == prompt and found.source


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
@pytest.mark.parametrize("order", ["utf-16-be", "utf-16-le"])
def test_a_user_comment_is_read_in_either_order(format, order):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + A1111.encode(order)
    found = read_embedded(saved(noise(), format, exif=exif))
    assert found is not None and found.prompt.startswith("a fox, (red") and found.source == "EXIF UserComment"


def test_comfyuis_tags_of_webp_are_read():
    exif = Image.Exif()
    exif[0x0110] = f"prompt:{json.dumps(GRAPH)}"
    assert read_embedded(saved(noise(), "WEBP", exif=exif)).prompt == "two owls"


def test_a_photographers_comment_is_no_prompt():
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0my holiday"
    assert read_embedded(saved(noise(), "JPEG", exif=exif)) is None
    assert user_comment("text") == "text" and user_comment(b"\0" * 8 + b"a") == "a" and user_comment(b"raw") == "raw"


LOOP = {id: {"class_type": "KSampler", "inputs": {"positive": [other, 0]}} for id, other in (("1", "2"), ("2", "1"))}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"no picture",
        png_of("prompt", "{"),
        png_of("prompt", "[]"),
        png_of("prompt", json.dumps(LOOP)),
        png_of("prompt", '{"1": 3}'),
        png_of("workflow", '{"nodes": [3]}'),
        png_of("invokeai_metadata", "null"),
        png_of("sd-metadata", "{}"),
        png_of("Dream", "no quotes"),
        png_of("parameters", "  \n"),
        png_of("prompt", "[" * 20_000),
        saved(noise(), "PNG")[:60],
        saved(noise(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff"),
    ],
)
def test_malformed_metadata_is_no_prompt(content):
    assert read_embedded(content) is None


def exif_of_a_camera() -> bytes:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "A camera", 6
    details = exif.get_ifd(0x8769)
    details[0x829A], details[0x927C] = (1, 60), b"maker's notes" * 40
    return exif.tobytes()


FILES = {
    "png": saved(noise(), "PNG"),
    "png of a palette": saved(noise("L").convert("P"), "PNG", transparency=3),
    "png with a prompt": png_of("parameters", A1111),
    "jpeg": saved(noise(), "JPEG"),
    "jpeg of a camera": saved(noise(), "JPEG", exif=exif_of_a_camera(), progressive=True),
    "webp": saved(noise(), "WEBP"),
    "webp, lossless": saved(noise("RGBA"), "WEBP", lossless=True),
    "webp of a camera": saved(noise(), "WEBP", exif=exif_of_a_camera()),
    "webp, animated": saved(noise(), "WEBP", save_all=True, append_images=[noise().rotate(90), noise().rotate(180)]),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("prompt", ["a fox", "grüße 狐, 🦊 [b]"])
def test_a_prompt_is_written_and_read_back_and_every_pixel_stays(name, prompt):
    before = FILES[name]
    after = with_prompt(with_prompt(before, "an earlier prompt, which is replaced"), prompt)
    assert read_embedded(after).prompt == prompt
    old, new = Image.open(io.BytesIO(before)), Image.open(io.BytesIO(after))
    assert getattr(old, "n_frames", 1) == getattr(new, "n_frames", 1)
    for frame in range(getattr(old, "n_frames", 1)):
        old.seek(frame), new.seek(frame)
        assert (old.mode, old.size, old.tobytes()) == (new.mode, new.size, new.tobytes())
    Image.open(io.BytesIO(after)).verify()
    if "camera" in name:
        details = Image.open(io.BytesIO(after)).getexif()
        assert details[0x010F] == "A camera" and details[0x0112] == 6
        assert details.get_ifd(0x8769)[0x927C] == b"maker's notes" * 40 and details.get_ifd(0x8769)[0x829A] == (1, 60)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"GIF89a", "no place for a prompt"),
        (FILES["png"][:-20], "damaged"),
        (FILES["jpeg"][:30], "damaged"),
        (FILES["webp"][:-9], "damaged"),
        (saved(noise(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff"), "damaged"),
        (b"RIFF" + struct.pack("<I", 4) + b"WEBP", "damaged"),
    ],
)
def test_a_file_that_takes_no_prompt_says_why(content, why):
    with pytest.raises(InputError, match=why):
        with_prompt(content, "a fox")


def test_a_full_exif_block_is_left_alone():
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x927C] = b"n" * 65_300
    with pytest.raises(InputError, match="no room left"):
        with_prompt(saved(noise(), "JPEG", exif=exif), "a fox" * 100)


@given(st.sampled_from(sorted(FILES)), st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_mutated_files_end_in_a_sentence_or_a_file(name, place, bytes_there):
    content = FILES[name][:place] + bytes_there + FILES[name][place + len(bytes_there) :]
    read_embedded(content)
    with contextlib.suppress(InputError):
        assert isinstance(with_prompt(content, "a fox"), bytes)
