"""Pictures show what their scenes say, the same on every run."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from invert.picturebook.augment import augment, color_jitter, jpeg
from invert.picturebook.grammar import parse
from invert.picturebook.render import _slots as place
from invert.picturebook.render import apply_style, luminance, render
from invert.picturebook.world import COLORS, CORNERS, STYLES, Scene, draw_scenes


def drawn(text: str, size: int = 64, seed: int = 0) -> Tensor:
    return render([parse(text, seed)], size)[0]


def ink(text: str, background: str = "white", size: int = 64) -> Tensor:
    """(S, S) bool: where the picture is not its plain background."""
    color = torch.tensor(COLORS[background])[:, None, None] / 255
    return ((drawn(text, size) - color).abs() > 0.08).any(0)


def center(mask: Tensor) -> tuple[float, float]:
    """Mean (x, y) of the mask as shares of the picture."""
    y, x = mask.nonzero().float().mean(0).tolist()
    return x / mask.shape[1], y / mask.shape[0]


def test_pictures_have_their_shape_and_range() -> None:
    images = render(draw_scenes(40, 0), size=48)
    assert images.shape == (40, 3, 48, 48) and images.dtype == torch.float32
    assert images.min() >= 0 and images.max() <= 1 and torch.isfinite(images).all()


def test_the_same_scene_is_the_same_picture_alone_and_in_any_batch() -> None:
    scenes = draw_scenes(24, 1)
    together = render(scenes)
    assert torch.equal(together, render(scenes))
    assert torch.equal(together.flip(0), render(scenes[::-1]))
    alone = torch.cat([render([scene]) for scene in scenes])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


def test_another_seed_moves_things_a_little() -> None:
    scene = parse("a fox on a red background")
    first, second = render([scene]), render([replace(scene, seed=1)])
    assert not torch.equal(first, second)
    assert (first - second).abs().mean() < 0.2


@pytest.mark.parametrize("color", COLORS)
def test_a_plain_background_has_its_color(color: str) -> None:
    corner = drawn(f"a small fox on a {color} background")[:, :4, :4].mean((1, 2)) * 255
    assert (corner - torch.tensor(COLORS[color])).abs().max() < 1.5


@pytest.mark.parametrize("pattern", ["striped", "checkered", "dotted"])
def test_a_pattern_shows_both_of_its_colors(pattern: str) -> None:
    image = drawn(f"a small fox on a {pattern} red and blue background", size=96)
    for color in ("red", "blue"):
        near = (image - torch.tensor(COLORS[color])[:, None, None] / 255).abs().amax(0) < 0.05
        assert near.float().mean() > 0.08


def test_things_lie_where_the_caption_says() -> None:
    assert abs(center(ink("a fox"))[0] - 0.5) < 0.1
    for corner in CORNERS:
        x, y = center(ink(f"a fox in the {corner} corner on a white background"))
        assert (x < 0.5) == ("left" in corner) and (y < 0.5) == ("top" in corner)
    assert ink("a small fox").sum() < 0.4 * ink("a fox").sum()
    halves = ink("two foxes").float()
    assert abs(halves[:, :32].sum() / halves.sum() - 0.5) < 0.1


def test_left_and_above_are_not_mixed_up() -> None:
    red_left = drawn("a red heart to the left of a blue heart on a white background")
    red_above = drawn("a red heart above a blue heart on a white background")
    red = [image[0] - image[2] for image in (red_left, red_above)]
    assert red[0][:, :32].mean() > 0.1 > -0.1 > red[0][:, 32:].mean()
    assert red[1][:32].mean() > 0.1 > -0.1 > red[1][32:].mean()


def test_a_tint_recolors_the_sprite_and_nothing_else() -> None:
    plain, tinted = drawn("a fox on a purple background"), drawn("a green fox on a purple background")
    changed = ((plain - tinted).abs() > 1e-4).any(0)
    sprite = ((plain - torch.tensor(COLORS["purple"])[:, None, None] / 255).abs() > 1e-4).any(0)
    assert (changed <= sprite).all() and changed.sum() > 0.9 * sprite.sum()
    inside = tinted[:, changed]
    assert (inside[1] > inside[0]).float().mean() > 0.8


def test_styles_change_the_picture_and_gray_ones_have_no_hue() -> None:
    image = render(draw_scenes(8, 3))
    plain = image[[scene.style == "plain" for scene in draw_scenes(8, 3)]]
    for style in STYLES[1:]:
        styled = apply_style(plain, style)
        assert styled.shape == plain.shape and styled.min() >= 0 and styled.max() <= 1
        assert (styled - plain).abs().mean() > 0.01
        if style in ("pencil sketch", "black and white"):
            assert (styled.amax(1) - styled.amin(1)).max() < 1e-6
    torch.testing.assert_close(luminance(apply_style(plain, "black and white")), luminance(plain))
    with pytest.raises(ValueError, match="unknown style 'cubist'"):
        apply_style(plain, "cubist")


def test_pixel_art_has_large_pixels() -> None:
    image = drawn("a fox on a red background, pixel art")
    assert torch.equal(image[:, ::2, ::2], image[:, 1::2, 1::2])


def test_jitter_needs_no_change_of_the_scene() -> None:
    scenes = draw_scenes(16, 2)
    wild = render(scenes, jitter=1.0)
    assert torch.equal(wild, render(scenes, jitter=1.0)) and not torch.equal(wild, render(scenes))


def test_training_mirrors_what_may_be_mirrored_and_never_writing() -> None:
    def mirrored(name: str) -> set[bool]:
        return {slot.mirrored for seed in range(40) for slot in place(parse(name), random.Random(seed), 1.0)}

    assert mirrored("a fox") == {True, False}
    assert mirrored("a stop sign") == {False}


def test_a_scene_of_an_unknown_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown layout 'pile'"):
        render([Scene((0,), ("",), "pile", "", "plain", ("red",), "plain")])


def test_augmentation_follows_its_generator_and_stays_an_image() -> None:
    images = render(draw_scenes(32, 4))
    first, again, other = (augment(images.clone(), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == images.shape and first.min() >= 0 and first.max() <= 1
    assert 0.005 < (first - images).abs().mean() < 0.25


def test_augmentation_leaves_its_input_alone() -> None:
    images = render(draw_scenes(16, 4))
    before = images.clone()
    augment(images, torch.Generator().manual_seed(0))
    assert torch.equal(images, before)


def test_color_jitter_keeps_gray_gray() -> None:
    gray = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(6, 3, 8, 8)
    jittered = color_jitter(gray, torch.Generator().manual_seed(0))
    assert (jittered.amax(1) - jittered.amin(1)).max() < 1e-5


def test_jpeg_loses_more_the_coarser_it_is_and_keeps_flat_areas() -> None:
    images = render(draw_scenes(8, 5))
    losses = [(jpeg(images, coarseness) - images).abs().mean() for coarseness in (0.1, 0.5, 2.0)]
    assert losses[0] < losses[1] < losses[2] < 0.1
    flat = torch.full((1, 3, 16, 16), 0.5)
    assert (jpeg(flat, 1.0) - flat).abs().max() < 0.04
