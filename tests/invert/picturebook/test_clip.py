"""picturebook's own CLIP gives what open_clip's classes give with the same weights, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from invert.models.clip import Clip
from invert.models.open_clip import from_open_clip
from invert.picturebook import models
from invert.picturebook.bundle import captions
from invert.picturebook.clip import load_model
from invert.picturebook.render import render
from invert.picturebook.world import draw_scenes

SIZES = [(64, 64), (256, 256), (91, 201), (333, 64), (65, 64), (20, 33), (1, 70)]
PROMPTS = ["", "a fox above a red umbrella", "zeitgeist café &amp; I'M 25 x", "ﬁve <b>owls</b>\n\t 狐 🦊", "fox " * 90]


@pytest.fixture(scope="module", params=["what ships", models.RESIDUAL_NET])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of either kind of image tower; the second's are random."""
    if request.param == "what ships":
        return models.WEIGHTS
    torch.manual_seed(0)  # open_clip takes no generator
    config = {**models.config("clip"), "vision_cfg": models.VISION[request.param]}
    model = models.build(config, len(models.trained_token_ids()))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    made = tmp_path_factory.mktemp("weights")
    models.save_weights(model, made / "clip.safetensors")
    return made


@pytest.fixture(scope="module")
def ours(folder: Path) -> Clip:
    return load_model(torch.device("cpu"), folder=folder)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Clip:
    return from_open_clip("theirs", models.load("clip", folder), models.preprocess("clip", folder))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
@pytest.mark.parametrize("size", SIZES)
def test_the_pixels_are_open_clips(ours: Clip, theirs: Clip, size: tuple[int, int], mode: str) -> None:
    image = Image.effect_noise(size, 90).convert(mode)
    assert torch.equal(ours.preprocess(image), theirs.preprocess(image))


def test_the_images_latents_are_open_clips(ours: Clip, theirs: Clip) -> None:
    pixels = render(draw_scenes(12, 5), models.IMAGE_SIZE)
    assert (ours.encode_image(pixels) - theirs.encode_image(pixels)).abs().max() == 0
    images = [Image.effect_noise(size, 90).convert("RGB") for size in SIZES]
    assert (ours.encode_image(images) - theirs.encode_image(images)).abs().max() == 0


def test_the_prompts_latents_are_open_clips(ours: Clip, theirs: Clip) -> None:
    prompts = [*PROMPTS, *captions(60, 3)]
    assert [ours.tokenizer.encode(prompt) for prompt in prompts] == [theirs.tokenizer.encode(prompt) for prompt in prompts]
    assert (ours.encode_text(prompts) - theirs.encode_text(prompts)).abs().max() == 0
    assert ours.logit_scale == theirs.logit_scale


def test_latents_in_half_precision_are_open_clips(folder: Path) -> None:
    half = load_model(torch.device("cpu"), torch.bfloat16, folder)
    theirs = from_open_clip("theirs", models.load("clip", folder).to(torch.bfloat16), models.preprocess("clip", folder))
    pixels = render(draw_scenes(4, 5), models.IMAGE_SIZE)
    assert torch.equal(half.encode_image(pixels), theirs.encode_image(pixels))
    assert torch.equal(half.encode_text(PROMPTS), theirs.encode_text(PROMPTS))
