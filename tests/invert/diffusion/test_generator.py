"""`Generator`: any Stable Diffusion as one function from prompts, or soft prompts, and seeds to images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDPMPipeline,
    DDPMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    UNet2DModel,
)

from invert.diffusion.drawing import open_generator, to_pil
from invert.diffusion.generator import GenerateConfig, Generator
from invert.errors import InputError
from tests.invert.diffusion.conftest import random_pipeline, random_unet

FAST = GenerateConfig(steps=2, guidance=3.0, batch=3)


def table_rows(generator: Generator, prompt: str) -> list[torch.Tensor]:
    """The prompt's own token rows in each encoder: a soft prompt that is not soft."""
    rows = []
    for tokenizer, encoder in zip(generator.tokenizers, generator.text_encoders, strict=True):
        ids = torch.tensor(tokenizer.encode(prompt, add_special_tokens=False))
        rows.append(encoder.get_input_embeddings().weight[ids][None])
    return rows


def test_every_prompt_is_drawn_with_every_seed(generator: Generator) -> None:
    images = generator.generate(["a fox", "two owls"], seeds=(0, 1, 2), config=FAST)
    assert images.shape == (2, 3, 3, 16, 16)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1
    assert len(to_pil(images)) == 6


def test_an_image_is_what_the_pipeline_itself_draws(generator: Generator) -> None:
    ours = generator.generate(["a fox"], seeds=(5,), config=FAST)[0, 0]
    theirs = generator.pipeline(
        "a fox", num_inference_steps=2, guidance_scale=3.0,
        generator=torch.Generator().manual_seed(5), output_type="pt",
    ).images[0]  # fmt: skip
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("zeros", [True, False])
def test_no_negative_prompt_is_what_the_pipeline_takes_for_none(pipeline_folders: dict[str, Path], zeros: bool) -> None:
    """SDXL's is a setting of its own: zeros, as it was trained, or the encoded empty prompt, as its refiner."""
    generator = Generator.load(str(pipeline_folders["SDXL"]), "cpu")
    generator.pipeline.register_to_config(force_zeros_for_empty_prompt=zeros)
    drawn = {"num_inference_steps": 2, "guidance_scale": 3.0, "output_type": "pt"}
    for ours, theirs in [
        (generator.generate(["a fox"], (5,), FAST), {}),
        (generator.generate(generator.encode(["a fox"]), (5,), FAST), {}),
        (generator.generate(generator.encode_embeddings(table_rows(generator, "a fox")), (5,), FAST), {}),
        (generator.generate(["a fox"], (5,), FAST, negative="an owl"), {"negative_prompt": "an owl"}),
    ]:
        own = generator.pipeline("a fox", generator=torch.Generator().manual_seed(5), **drawn, **theirs).images[0]
        torch.testing.assert_close(ours[0, 0], own, atol=1e-5, rtol=0)


def test_a_seed_draws_the_same_image_whatever_it_is_batched_with(generator: Generator) -> None:
    together = generator.generate(["a fox", "two owls"], seeds=(3, 4), config=FAST)
    alone = generator.generate(["two owls"], seeds=(4,), config=FAST, batch=1)
    torch.testing.assert_close(together[1, 1], alone[0, 0], atol=1e-5, rtol=0)
    assert (together[1, 0] - together[1, 1]).abs().max() > 1e-3
    assert torch.equal(together, generator.generate(["a fox", "two owls"], seeds=(3, 4), config=FAST))


def test_guidance_steps_and_the_negative_prompt_matter(generator: Generator) -> None:
    base = generator.generate(["a fox"], config=FAST)
    for change in ({"guidance": 1.0}, {"guidance": 9.0}, {"steps": 3}, {"negative": "an owl"}):
        assert not torch.equal(base, generator.generate(["a fox"], config=FAST, **change)), change


def test_rows_of_the_token_table_condition_as_the_words_do(generator: Generator) -> None:
    words = generator.encode(["a red fox"])
    rows = generator.encode_embeddings(table_rows(generator, "a red fox"))
    torch.testing.assert_close(rows.hidden, words.hidden, atol=1e-5, rtol=0)
    if generator.is_xl:
        assert rows.pooled is not None and words.pooled is not None
        torch.testing.assert_close(rows.pooled, words.pooled, atol=1e-5, rtol=0)
    else:
        assert rows.pooled is None


def test_soft_rows_are_drawn_and_carry_a_gradient(generator: Generator) -> None:
    rows = [row.clone().requires_grad_(True) for row in table_rows(generator, "a red fox")]
    conditioning = generator.encode_embeddings(rows)
    gradients = torch.autograd.grad(conditioning.hidden.square().sum(), rows)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    assert generator.generate(conditioning, seeds=(0, 1), config=FAST).shape == (1, 2, 3, 16, 16)


def test_the_table_answers_as_before_after_soft_rows(generators: dict[str, Generator]) -> None:
    generator = generators["SD 1"]
    before = generator.encode(["a fox"]).hidden
    generator.encode_embeddings([torch.zeros(1, 4, 32)])
    assert torch.equal(generator.encode(["a fox"]).hidden, before)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([torch.zeros(1, 4, 8)], "8 wide.*token embeddings are 32"),
        ([torch.zeros(1, 76, 32)], "76 tokens does not fit.*reads 75"),
        ([torch.zeros(1, 4, 32)] * 2, "1 text encoders but 2"),
    ],
)
def test_a_soft_prompt_of_the_wrong_shape_is_one_sentence(generators: dict[str, Generator], rows: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        generators["SD 1"].encode_embeddings(rows)


@pytest.mark.parametrize(("option", "message"), [({"steps": 0}, "`steps` is 0"), ({"guidance": 0.5}, "`guidance` is 0.5")])
def test_a_senseless_option_is_one_sentence(option: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        GenerateConfig(**option)


def test_nothing_to_draw_is_one_sentence(generators: dict[str, Generator]) -> None:
    with pytest.raises(InputError, match="at least one prompt and one seed"):
        generators["SD 1"].generate([], config=FAST)


def test_a_folder_that_is_no_pipeline_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is damaged or no diffusers pipeline.*model_index\.json"):
        Generator.load(str(tmp_path), device="cpu")


def test_a_pipeline_without_prompts_is_one_sentence(tmp_path: Path) -> None:
    unet = UNet2DModel(
        sample_size=8, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"is a DDPMPipeline: give one that draws from a prompt alone"):
        Generator.load(str(tmp_path), device="cpu")


def test_a_pipeline_that_draws_by_a_picture_is_one_sentence(tmp_path: Path) -> None:
    parts = random_pipeline("SD 1").components | {"requires_safety_checker": False}
    filling = StableDiffusionPipeline(**parts | {"unet": random_unet(32, in_channels=9)})
    with pytest.raises(InputError, match="fills or changes a picture"):
        Generator(filling, "inpainting")
    controlnet = ControlNetModel.from_unet(parts["unet"], conditioning_embedding_out_channels=(16, 32))
    StableDiffusionControlNetPipeline(**parts, controlnet=controlnet).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is a StableDiffusionControlNetPipeline: give one that draws from a prompt alone"):
        open_generator(str(tmp_path), "cpu")
