"""The bundled generator's parts: text encoder, tokenizer, closed-form encoder, and the pipeline made of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline

from invert.diffusion.generator import Generator
from invert.errors import InputError
from invert.models.clip import Clip
from invert.models.loading import load_clip
from invert.picturebook import pipeline
from invert.picturebook.grammar import caption
from invert.picturebook.networks import as_one_convolution, build_scheduler, build_unet, build_vae, principal_patches
from invert.picturebook.render import render
from invert.picturebook.text_encoder import PROMPT_LENGTH, text_encoder, tokenizer
from invert.picturebook.world import draw_scenes

CAPTIONS = [caption(scene) for scene in draw_scenes(40, 7)]


@pytest.fixture(scope="module")
def fresh() -> Any:
    """The whole pipeline with untrained networks."""
    torch.manual_seed(0)  # diffusers' modules take no generator
    return pipeline.assemble(build_unet(), build_vae(), build_scheduler())


def test_the_text_encoder_gives_the_towers_hidden_states_and_latents(picturebook: Clip) -> None:
    ids = tokenizer()(CAPTIONS, padding="max_length", truncation=True, return_tensors="pt").input_ids
    out = text_encoder()(ids)
    tower = picturebook.tower
    hidden = tower.final_norm(tower.hidden(picturebook.embed(ids), len(tower.layers)))
    torch.testing.assert_close(out.last_hidden_state, hidden, atol=1e-5, rtol=0)
    latents = F.normalize(tower.projection(out.pooler_output), dim=1)
    torch.testing.assert_close(latents, picturebook.encode_text(CAPTIONS), atol=1e-5, rtol=0)


def test_the_tokenizer_cuts_text_as_open_clips_does(picturebook: Clip) -> None:
    texts = [*CAPTIONS, "", "Two  FOXES", "it's a café — x-ray", "fox " * 60]
    for text, row in zip(texts, tokenizer()(texts, padding="max_length", truncation=True).input_ids, strict=True):
        wanted = picturebook.frame.row(picturebook.tokenizer.encode(text)[: PROMPT_LENGTH - 2])
        assert row == wanted + [picturebook.frame.pad] * (PROMPT_LENGTH - len(wanted))


def test_every_caption_of_the_world_fits_the_prompt_length(picturebook: Clip) -> None:
    assert max(len(picturebook.tokenizer.encode(text)) for text in CAPTIONS) + 2 <= PROMPT_LENGTH


def test_the_encoder_is_the_projection_onto_principal_patches() -> None:
    images, (weight, offset), vae = render(draw_scenes(3, 11), 64), principal_patches(), build_vae()
    patches = F.unfold(images, 8, stride=8).transpose(1, 2)  # (3, 64, 192)
    wanted = (patches @ weight.T + offset).transpose(1, 2).unflatten(2, (8, 8))
    latents = vae.encode(images * 2 - 1).latents * vae.config.scaling_factor
    torch.testing.assert_close(latents, wanted, atol=1e-4, rtol=0)


def test_the_encoder_is_also_one_convolution() -> None:
    images, vae = render(draw_scenes(3, 13), 64), build_vae()
    kernel, bias = as_one_convolution(vae.encoder)
    torch.testing.assert_close(F.conv2d(images, kernel, bias, stride=8), vae.encode(images * 2 - 1).latents, atol=1e-5, rtol=0)


def test_latents_have_zero_mean_and_unit_variance_and_keep_most_of_the_picture() -> None:
    images, (weight, offset) = render(draw_scenes(400, 12), 64), principal_patches()
    patches = F.unfold(images, 8, stride=8).transpose(1, 2).flatten(0, 1)
    latents = patches @ weight.T + offset
    assert latents.mean().abs() < 0.05
    assert latents.var(0).mean() == pytest.approx(1, abs=0.15)
    lost = (patches - (latents - offset) @ torch.linalg.pinv(weight).T).square().mean()
    assert lost < 0.06 * patches.var(0).mean()


def test_the_last_timestep_holds_no_signal() -> None:
    assert build_scheduler().alphas_cumprod[-1] == 0


def test_an_ordinary_diffusers_folder_comes_out(fresh: Any, tmp_path: Path) -> None:
    fresh.save_pretrained(tmp_path)
    again = StableDiffusionPipeline.from_pretrained(tmp_path)
    options = {"num_inference_steps": 2, "guidance_scale": 2.0, "output_type": "pt"}
    first, second = (p("a fox", generator=torch.Generator().manual_seed(0), **options).images for p in (fresh, again))
    assert first.shape == (1, 3, 64, 64)
    torch.testing.assert_close(first, second)
    ours = Generator.load(str(tmp_path), device="cpu").generate(["a fox"], steps=2, guidance=2.0)[0]
    torch.testing.assert_close(ours, first, atol=1e-5, rtol=0)


def test_the_stored_parts_fit_forty_megabytes_in_fp16(fresh: Any) -> None:
    parameters = sum(p.numel() for part in (fresh.unet, fresh.vae) for p in part.parameters())
    assert 2 * parameters <= 40e6


def test_weights_that_are_not_there_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"weights are not in .*: make them with"):
        pipeline.load(tmp_path)


@pytest.fixture(scope="module")
def bundled() -> Generator:
    return Generator.load("picturebook", device="cpu")


def test_what_is_drawn_is_recognised_by_a_model_that_never_saw_it(bundled: Generator) -> None:
    scenes = draw_scenes(64, 0, "held-out")
    captions = [caption(scene) for scene in scenes]
    judge = load_clip("picturebook-judge", device="cpu")
    texts, rendered = judge.encode_text(captions), judge.encode_image(render(scenes[:24], 64))
    drawn = judge.encode_image(bundled.generate(captions[:24], seeds=[0])[:, 0])
    own = torch.arange(24)
    assert ((drawn @ texts.T).argmax(1) == own).float().mean() > 0.7
    # A judge that tells objects apart sees what the drawings lack: one that hardly did gave them 0.88 of the renderer's cosine.
    assert (drawn @ texts.T)[own, own].mean() > 0.65 * (rendered @ texts.T)[own, own].mean()


def test_a_picture_does_not_depend_on_what_is_drawn_beside_it(bundled: Generator) -> None:
    together = bundled.generate(CAPTIONS[:3], seeds=[4, 5], steps=8)
    torch.testing.assert_close(bundled.generate(CAPTIONS[1:2], seeds=[5], steps=8)[0, 0], together[1, 1], atol=1e-4, rtol=0)
    assert (together[:, 0] - together[:, 1]).abs().mean() > 0.01


def test_the_bundled_weights_fit_forty_megabytes() -> None:
    stored = sum(file.stat().st_size for file in pipeline.FOLDER.rglob("*.safetensors"))
    assert 1e6 < stored <= 40e6


def test_weights_for_another_text_tower_are_one_sentence(tmp_path: Path) -> None:
    shutil.copytree(pipeline.FOLDER, tmp_path / "generator")
    (tmp_path / "generator" / pipeline.TRAINED_WITH).write_text("of another tower")
    with pytest.raises(InputError, match="was trained with other weights of picturebook's CLIP: train it again"):
        pipeline.load(tmp_path / "generator")
