"""Small random pipelines of every kind that `Generator` takes, each saved once and read from its folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torchvision.transforms.functional import to_pil_image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

import invert.cli
from invert.diffusion.generator import Generator
from invert.diffusion.images_api import KEY
from invert.picturebook.render import render
from invert.picturebook.text_encoder import text_encoder, tokenizer
from invert.picturebook.world import draw_scenes
from tests.invert.diffusion.image_server import Server, serving

KINDS = ("SD 1", "SD 2", "SDXL")


def text_config(width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49408, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=2,
        projection_dim=width, bos_token_id=49406, eos_token_id=49407, pad_token_id=49407,
    )  # fmt: skip


def random_unet(cross: int, **more: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross, **more,
    )  # fmt: skip


def random_vae() -> AutoencoderKL:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(block_out_channels=(16, 16), norm_num_groups=8, latent_channels=4, **blocks)


def long_tokenizer() -> Any:
    """CLIP's tokenizer with the 77 positions that published pipelines have."""
    long = tokenizer()
    long.model_max_length = 77
    return long


def random_pipeline(kind: str) -> Any:
    """The architecture of a published family at a hundredth of its size."""
    torch.manual_seed(0)  # diffusers' modules take no generator
    shared = {"vae": random_vae(), "tokenizer": long_tokenizer()}
    if kind == "SDXL":
        unet = random_unet(
            48, addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=80
        )
        return StableDiffusionXLPipeline(
            text_encoder=CLIPTextModel(text_config(16)), text_encoder_2=CLIPTextModelWithProjection(text_config(32)),
            tokenizer_2=long_tokenizer(), unet=unet, scheduler=EulerDiscreteScheduler(), add_watermarker=False, **shared,
        )  # fmt: skip
    scheduler = (
        PNDMScheduler(skip_prk_steps=True, steps_offset=1)
        if kind == "SD 1"
        else DDIMScheduler(prediction_type="v_prediction", clip_sample=False, steps_offset=1)
    )
    return StableDiffusionPipeline(
        text_encoder=CLIPTextModel(text_config(32)), unet=random_unet(32), scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False, **shared,
    )  # fmt: skip


@pytest.fixture(scope="session")
def pipeline_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved folder of each kind."""
    folders = {}
    for kind in KINDS:
        folders[kind] = tmp_path_factory.mktemp("pipelines") / kind
        random_pipeline(kind).save_pretrained(folders[kind])
    return folders


@pytest.fixture(scope="session")
def generators(pipeline_folders: dict[str, Path]) -> dict[str, Generator]:
    return {kind: Generator.load(str(folder), device="cpu") for kind, folder in pipeline_folders.items()}


@pytest.fixture(params=KINDS)
def generator(request: pytest.FixtureRequest, generators: dict[str, Generator]) -> Generator:
    return generators[request.param]


@pytest.fixture(scope="session")
def picturebook_reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random pipeline with picturebook's own text encoder, as methods that write its tokens need."""
    torch.manual_seed(0)
    pipeline = random_pipeline("SD 1")
    pipeline.register_modules(text_encoder=text_encoder(), unet=random_unet(192), tokenizer=tokenizer())
    folder = tmp_path_factory.mktemp("pipelines") / "reads picturebook"
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv(KEY, raising=False)
    with serving(Server()) as found:
        yield found


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture of picturebook's world: of another kind it would say on stderr that it does not know it."""
    (pixels,) = render(draw_scenes(1, 0), 64)
    to_pil_image(pixels).save(tmp_path / "scene.png")
    return tmp_path / "scene.png"


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit status of the command with these words."""
    monkeypatch.setattr(sys, "argv", ["invert", *map(str, words)])
    with pytest.raises(SystemExit) as exit:
        invert.cli.main()
    return int(exit.value.code or 0)
