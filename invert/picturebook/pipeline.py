"""picturebook's generator as a `StableDiffusionPipeline`: prompt → 64×64 picture, offline.

The folder `generator/` beside this file holds the U-Net, the autoencoder and the scheduler in
diffusers' own format (fp16); text encoder and tokenizer are the bundled CLIP's. Saved whole with
`save_pretrained`, the pipeline is an ordinary Stable Diffusion folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from invert.diffusion.generator import GenerateConfig, Generator
from invert.errors import InputError
from invert.picturebook.text_encoder import fingerprint, text_encoder, tokenizer

FOLDER = Path(__file__).parent / "generator"
SAMPLING = GenerateConfig(steps=12, guidance=2.0, batch=64)
PARTS = ("unet", "vae", "scheduler")
TRAINED_WITH = "text-encoder.sha256"  # file in the folder: the fingerprint of the text tower it was trained with


def load(folder: Path = FOLDER, dtype: torch.dtype = torch.float32) -> Any:
    """The trained `StableDiffusionPipeline` on the CPU.

    InputError where its weights are not there, or were trained with another text tower.
    """
    if not all((folder / part).exists() for part in (*PARTS, TRAINED_WITH)):
        raise InputError(
            f"the generator's weights are not in {folder}: make them with `python scripts/train_generator.py`, "
            "or give a diffusers pipeline as `generator`"
        )
    if (folder / TRAINED_WITH).read_text() != fingerprint():
        raise InputError(
            f"the generator in {folder} was trained with other weights of picturebook's CLIP: train it again with "
            "`python scripts/train_generator.py unet`"
        )
    pipeline = assemble(
        UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=dtype),
        AutoencoderTiny.from_pretrained(folder / "vae", torch_dtype=dtype),
        DDIMScheduler.from_pretrained(folder / "scheduler"),
    )
    pipeline.text_encoder.to(dtype)
    return pipeline


def load_generator(device: torch.device, dtype: torch.dtype) -> Generator:
    """The trained pipeline on the device, with its own sampling settings."""
    return Generator(load(dtype=dtype).to(device), "picturebook", SAMPLING)


def assemble(unet: UNet2DConditionModel, vae: AutoencoderTiny, scheduler: DDIMScheduler) -> Any:
    """A `StableDiffusionPipeline` of the given parts and picturebook's own text encoder."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder(),
        tokenizer=tokenizer(),
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
