"""The round trip's measures, and the choice among prompts by what they draw."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from invert.diffusion.drawing import to_pil
from invert.diffusion.generator import Generator
from invert.diffusion.roundtrip import RegenerationScores, color_distance, fitted, pixel_distance, regenerate
from invert.models.clip import Clip
from invert.models.loading import load_clip

RED = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None].expand(1, 3, 64, 64)
BLUE = torch.tensor([0.0, 0.0, 1.0])[None, :, None, None].expand(1, 3, 64, 64)


@pytest.fixture(scope="module")
def judge() -> Clip:
    return load_clip("picturebook-judge", device="cpu")


def test_equal_images_are_at_no_distance_and_opposite_ones_at_most() -> None:
    assert pixel_distance(RED, RED) == color_distance(RED, RED) == 0
    assert color_distance(RED, BLUE) == 1
    assert pixel_distance(torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)) == 1


def test_half_the_picture_in_another_color_is_a_color_distance_of_one_half() -> None:
    half = RED.clone()
    half[..., 32:] = BLUE[..., 32:]
    assert color_distance(half, RED) == 0.5
    torch.testing.assert_close(pixel_distance(half, RED), torch.tensor([(1 / 3) ** 0.5]))


def test_where_things_lie_matters_to_pixels_and_not_to_colors() -> None:
    half = RED.clone()
    half[..., 32:] = BLUE[..., 32:]
    assert color_distance(half, half.flip(-1)) == 0
    assert pixel_distance(half, half.flip(-1)) > 0.5


def test_the_image_that_a_prompt_draws_is_its_own_best_match(generators: dict[str, Generator], judge: Clip) -> None:
    generator = generators["SD 1"]
    drawn = generator.generate(["two owls"], seeds=[7])
    found = regenerate(generator, judge, to_pil(drawn)[0], ["a fox", "two owls"], seeds=[7, 8])
    assert found.images.shape == (2, 2, 3, 16, 16)
    assert found.judge.shape == found.pixels.shape == found.colors.shape == (2, 2)
    # Eight bits a channel lie between.
    assert found.judge[1, 0] == pytest.approx(1, abs=2e-3)
    assert found.pixels[1, 0] < 0.01
    assert found.pixels.argmin() == 2


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (96, 128)])
def test_the_judge_sees_on_the_device_what_it_sees_in_the_saved_image(judge: Clip, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    saved = judge.encode_image(to_pil(images))
    torch.testing.assert_close(judge.encode_image(fitted(images, judge.image_size)), saved, atol=1e-2, rtol=0)
    if size == (64, 64):
        torch.testing.assert_close(judge.encode_image(fitted(images, judge.image_size)), saved, atol=1e-6, rtol=0)


def test_prompts_are_ordered_by_the_mean_over_their_seeds() -> None:
    nothing = torch.zeros(3, 2)
    judged = torch.tensor([[0.9, 0.1], [0.6, 0.6], [0.4, 0.6]])
    assert RegenerationScores(torch.zeros(3, 2, 3, 8, 8), judged, nothing, nothing).best_first() == [1, 0, 2]


def test_the_picture_may_have_any_size(generators: dict[str, Generator], judge: Clip) -> None:
    picture = Image.new("RGB", (300, 200), "teal")
    found = regenerate(generators["SD 1"], judge, picture, ["a fox"], seeds=[0])
    assert 0 <= found.pixels.min() <= found.pixels.max() <= 1
