"""Pixels that come as a tensor mean what those of a file mean, whatever an image processor is told to make of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms import Compose, Resize, ToTensor
from torchvision.transforms.functional import pil_to_tensor
from transformers import CLIPImageProcessor

from invert.errors import InputError
from invert.models.clip import Clip
from invert.models.fitting import processor_normalizes
from invert.models.loading import load_clip
from invert.models.open_clip import from_open_clip
from tests.invert.conftest import ToyTokenizer, random_open_clip
from tests.invert.models.conftest import refusal

SETTINGS = (
    {"do_normalize": False},
    {"do_normalize": False, "image_mean": None, "image_std": None},
    {"do_rescale": False},
    {"rescale_factor": 1 / 127.5},
    {"image_mean": 0.5, "image_std": [0.25]},
    {"do_rescale": False, "do_normalize": False},
)
PICTURE = Image.radial_gradient("L").convert("RGB").resize((32, 32))
PIXELS = pil_to_tensor(PICTURE)[None] / 255


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_pixels_become_what_the_processor_makes_of_a_file(settings: dict[str, object]) -> None:
    processor = CLIPImageProcessor(**{"do_resize": False, "do_center_crop": False, **settings})
    wanted = processor(images=PICTURE, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(processor_normalizes(processor)(PIXELS), wanted.float())


def test_a_model_reads_both_alike(family_of: Callable, tmp_path: Path) -> None:
    for family in ("SigLIP 2", "SigLIP 2 NaFlex"):
        folder = Path(shutil.copytree(family_of(family).folder, tmp_path / family))
        file = folder / "preprocessor_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "max_num_patches": 4, **SETTINGS[-1]}))
        clip = load_clip(str(folder), "cpu")
        latent = clip.encode_image([PICTURE])
        torch.testing.assert_close(clip.encode_image(PIXELS), latent, atol=1e-5, rtol=0)
        assert (latent - family_of(family).clip.encode_image([PICTURE])).norm() > 1e-4


def test_a_transform_that_does_not_normalize_is_taken_as_it_is() -> None:
    model = random_open_clip(width=16, heads=2, layers=2, quick_gelu=True, vocab=64)
    plain = from_open_clip("plain", model, Compose([Resize(32), ToTensor()]), tokenizer=ToyTokenizer())
    torch.testing.assert_close(plain.encode_image(PIXELS), plain.encode_image([PICTURE]), atol=1e-5, rtol=0)


def test_bytes_are_pixels_too_and_other_numbers_are_refused(tiny_clip: Clip) -> None:
    assert torch.equal(tiny_clip.encode_image(pil_to_tensor(PICTURE)[None]), tiny_clip.encode_image(PIXELS))
    for pixels, problem in (
        (PIXELS * 255, "holds pixels of 7 to 248"),
        (PIXELS * 2 - 1, "holds pixels of -0.94"),
        (PIXELS * torch.nan, "holds pixels of nan"),
        (PIXELS[0], r"is a tensor \(3, 32, 32\)"),
        (PIXELS[:, :1], r"is a tensor \(1, 1, 32, 32\)"),
        (PIXELS[:0], r"is a tensor \(0, 3, 32, 32\)"),
        (PIXELS.long(), "is a tensor of int64"),
    ):
        with pytest.raises(InputError, match=f"`images` {problem}.*: give Pillow images, or a tensor of pixels"):
            tiny_clip.encode_image(pixels)


def test_pictures_without_three_channels_are_read(copied: Path) -> None:
    file = copied / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "do_convert_rgb": False}))
    gray = PICTURE.convert("L")
    clip = load_clip(str(copied), "cpu")
    assert torch.equal(clip.encode_image([gray, gray.convert("RGBA")]), clip.encode_image([PICTURE, PICTURE]))
    file.write_text(json.dumps({**json.loads(file.read_text()), "image_mean": None}))
    assert "the image processor of" in refusal(copied) and "prepares no picture" in refusal(copied)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"patch_size": 8}, "cuts no patches as the model reads them: set `patch_size` (16)"),
        ({"max_num_patches": 0}, "cuts no patches"),
        ({"max_num_patches": None}, "cuts no patches"),
        ({"image_processor_type": "SiglipImageProcessor"}, "prepares no picture"),
    ],
)
def test_patches_of_another_size_are_refused(family_of: Callable, tmp_path: Path, settings: dict, problem: str) -> None:
    folder = Path(shutil.copytree(family_of("SigLIP 2 NaFlex").folder, tmp_path / "naflex"))
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    assert problem in refusal(folder)
