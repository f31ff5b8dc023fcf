"""What a prompt is pulled onto: images, their mean, a text, and away from something."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.functional import to_pil_image

from invert.bundle import generic_bundle
from invert.config import TARGETS, InvertConfig
from invert.errors import InputError
from invert.inverter import Inverter
from invert.models.clip import Clip
from invert.picturebook.grammar import caption, parse
from invert.picturebook.render import render
from invert.picturebook.world import draw_scenes
from invert.target import (
    MOST_TOLD,
    apply_gap_correction,
    image_latent,
    modality_gap,
    note_what_is_read,
    subtract_negative,
    text_latent,
)


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes(96, 0, "held-out")


@pytest.fixture(scope="module")
def gap(picturebook: Clip) -> torch.Tensor:
    train = draw_scenes(256, 0)
    return modality_gap(picturebook, render(train), [caption(scene) for scene in train])


def picture(text: str):
    return to_pil_image(render([parse(text)])[0])


def test_every_kind_of_target_is_a_unit_vector(picturebook: Clip, gap: torch.Tensor) -> None:
    latent = image_latent(picturebook, [picture("a fox")])
    for kind in TARGETS:
        target = apply_gap_correction(picturebook, latent, kind, gap)
        assert target.shape == latent.shape and abs(float(target.norm()) - 1) < 1e-5
    assert torch.equal(apply_gap_correction(picturebook, latent, "raw"), latent)


def test_the_empty_target_leans_onto_the_empty_prompt(picturebook: Clip) -> None:
    latent, empty = image_latent(picturebook, [picture("a fox")]), text_latent(picturebook, "")
    target = apply_gap_correction(picturebook, latent, "empty")
    torch.testing.assert_close(target, F.normalize(latent + empty, dim=0))
    assert target @ empty > latent @ empty


def test_the_gap_target_lies_nearer_to_the_true_captions(picturebook: Clip, gap: torch.Tensor, scenes) -> None:
    latents = picturebook.encode_image(render(scenes))
    texts = picturebook.encode_text([caption(scene) for scene in scenes])
    moved = torch.stack([apply_gap_correction(picturebook, latent, "gap", gap) for latent in latents])
    assert (moved * texts).sum(1).mean() > (latents * texts).sum(1).mean()


def test_the_gap_does_not_depend_on_images_as_pil_or_pixels(picturebook: Clip, scenes) -> None:
    pixels = (render(scenes[:8], picturebook.image_size) * 255).round() / 255  # of the model's size: PIL rounds what it resizes
    captions = [caption(scene) for scene in scenes[:8]]
    from_pil = modality_gap(picturebook, [to_pil_image(image) for image in pixels], captions)
    torch.testing.assert_close(from_pil, modality_gap(picturebook, pixels, captions), rtol=1e-3, atol=1e-5)


def test_several_images_average_to_what_they_share(picturebook: Clip) -> None:
    pictures = [picture(f"a {thing} on a red background, sepia") for thing in ("fox", "house", "guitar")]
    mean = image_latent(picturebook, pictures)
    assert abs(float(mean.norm()) - 1) < 1e-5
    alone = torch.stack([image_latent(picturebook, [image]) for image in pictures])
    torch.testing.assert_close(mean, F.normalize(alone.mean(0), dim=0), rtol=1e-4, atol=1e-5)
    assert ((alone @ mean) > (alone @ alone.T).mean(1)).all()


def test_a_negative_takes_the_target_subtract_negative_it(picturebook: Clip) -> None:
    target, negative = text_latent(picturebook, "a fox above a house"), text_latent(picturebook, "a house")
    for weight in (0.2, 0.5, 0.8):
        moved = subtract_negative(target, negative, weight)
        assert abs(float(moved.norm()) - 1) < 1e-5 and moved @ negative < target @ negative
    torch.testing.assert_close(subtract_negative(target, negative, 0.0), target)


def test_a_negative_that_is_the_target_is_refused(picturebook: Clip) -> None:
    target = text_latent(picturebook, "a fox")
    with pytest.raises(InputError, match="the negative says the same"):
        subtract_negative(target, target, 1.0)


def test_bad_requests_are_one_sentence(picturebook: Clip) -> None:
    latent = text_latent(picturebook, "a fox")
    with pytest.raises(InputError, match="unknown `target` 'best': choose one of raw, empty, gap"):
        apply_gap_correction(picturebook, latent, "best")
    with pytest.raises(InputError, match="needs the mean latents of this model"):
        apply_gap_correction(picturebook, latent, "gap")
    with pytest.raises(InputError, match="no image to invert"):
        image_latent(picturebook, [])


def test_a_text_beyond_the_context_is_told_once(picturebook, caplog):
    most = picturebook.max_prompt_tokens
    text = "fox " * (most + 3)
    inverter = Inverter(generic_bundle(picturebook))
    for _ in range(2):
        inverter.distill(text, tokens=4, soft_steps=1, restarts=1, budget=1)
    inverter.score(text, text_latent(picturebook, text))
    inverter.negative_latent(text, InvertConfig())
    inverter.score("fox " * most, text_latent(picturebook, text))
    told = [record.getMessage() for record in caplog.records if "counts for nothing" in record.getMessage()]
    rest = f"has {most + 3} tokens, of which 'picturebook' reads the first {most}: the rest counts for nothing"
    assert told == [f"{called} {rest}" for called in ("the text", "the prompt", "the negative")]


def test_few_texts_are_remembered(picturebook, caplog):
    texts = [f"{i} " + "fox " * picturebook.max_prompt_tokens for i in range(MOST_TOLD + 1)]
    for text in texts:
        note_what_is_read(picturebook, text, "it")
    note_what_is_read(picturebook, texts[0], "it")
    assert len(caplog.records) == MOST_TOLD + 2
