"""picturebook's own CLIP gives what open_clip's classes give with the same weights, bit for bit."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from invert.models.clip import Clip
from invert.models.loading import load_clip
from invert.models.open_clip import from_open_clip
from invert.picturebook import models
from invert.picturebook.bundle import captions
from invert.picturebook.render import render
from invert.picturebook.world import draw_scenes

SIZES = [(64, 64), (256, 256), (91, 201), (333, 64), (65, 64), (20, 33), (1, 70)]
PROMPTS = ["", "a fox above a red umbrella", "zeitgeist café &amp; I'M 25 x", "ﬁve <b>owls</b>\n\t 狐 🦊", "fox " * 90]


@pytest.fixture(scope="module")
def theirs() -> Clip:
    return from_open_clip("theirs", models.load("clip"), models.preprocess())


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
@pytest.mark.parametrize("size", SIZES)
def test_the_pixels_are_open_clips(picturebook: Clip, theirs: Clip, size: tuple[int, int], mode: str) -> None:
    image = Image.effect_noise(size, 90).convert(mode)
    assert torch.equal(picturebook.preprocess(image), theirs.preprocess(image))


def test_the_images_latents_are_open_clips(picturebook: Clip, theirs: Clip) -> None:
    pixels = render(draw_scenes(12, 5), models.IMAGE_SIZE)
    assert (picturebook.encode_image(pixels) - theirs.encode_image(pixels)).abs().max() == 0
    images = [Image.effect_noise(size, 90).convert("RGB") for size in SIZES]
    assert (picturebook.encode_image(images) - theirs.encode_image(images)).abs().max() == 0


def test_the_prompts_latents_are_open_clips(picturebook: Clip, theirs: Clip) -> None:
    prompts = [*PROMPTS, *captions(60, 3)]
    assert [picturebook.tokenizer.encode(prompt) for prompt in prompts] == [theirs.tokenizer.encode(prompt) for prompt in prompts]
    assert (picturebook.encode_text(prompts) - theirs.encode_text(prompts)).abs().max() == 0
    assert picturebook.logit_scale == theirs.logit_scale


def test_latents_in_half_precision_are_open_clips() -> None:
    half = load_clip("picturebook", "cpu", torch.bfloat16)
    theirs = from_open_clip("theirs", models.load("clip").to(torch.bfloat16), models.preprocess())
    pixels = render(draw_scenes(4, 5), models.IMAGE_SIZE)
    assert torch.equal(half.encode_image(pixels), theirs.encode_image(pixels))
    assert torch.equal(half.encode_text(PROMPTS), theirs.encode_text(PROMPTS))
