"""The pipeline that a method learns through: it has to read the tokens of the inverted model's own table."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch

from invert.bundle import ModelBundle
from invert.config import InvertConfig
from invert.diffusion.drawing import TextToImage, open_generator
from invert.errors import InputError
from invert.methods import no_denoiser
from invert.methods.task import InversionTask
from invert.models.clip import Clip
from invert.models.turns import DRAWING, InTurn, Part

if TYPE_CHECKING:
    from invert.diffusion.generator import Generator

HALVES = (torch.float16, torch.bfloat16)


def load_generator(bundle: ModelBundle, name: str | None) -> TextToImage:
    """The generator of that name, or the bundle's own, loaded once, on the model's device.

    A pipeline has the dtype that was chosen with the model; where none was, the one that such weights are published for.

    Raises:
        InputError: no name is given and the bundle has none, or it cannot be loaded.
    """
    chosen = name or bundle.generator
    if chosen is None:
        raise InputError(
            f"{bundle.clip.name!r} brings no generator: give one as `generator`, the name or folder of a diffusers pipeline "
            "or the address of an image endpoint"
        )
    return bundle.once(f"generator {chosen}", lambda: opened(chosen, bundle.clip))


def prepare(bundle: ModelBundle, config: InvertConfig) -> None:
    """Load the generator."""
    load_generator(bundle, config.generator)


def opened(name: str, clip: Clip) -> TextToImage:
    """The generator of that name; in little memory one that is there while it draws, and read again the next time."""
    dtype = clip.chosen_dtype or (clip.dtype if clip.dtype in HALVES else None)  # a half model may come from elsewhere
    if clip.turns is None:
        return open_generator(name, clip.device, dtype)
    part = Part(clip.turns, DRAWING, lambda: open_generator(name, clip.device, dtype))
    part.get()  # what cannot be loaded is told now
    return cast("TextToImage", InTurn(part))


def obstacle_to_soft_prompts(bundle: ModelBundle, generator: TextToImage) -> str:
    """Why the generator cannot draw soft prompts of the bundle's model, as a sentence; "" where it can."""
    sentence = f"the soft prompt is not drawn: {generator.name!r}"
    if not generator.reads_clip:
        return f"{sentence} draws from texts alone and takes no token embeddings of CLIP"
    pipeline = cast("Generator", generator)
    encoders, models = len(pipeline.text_encoders), len(bundle.clip.table_widths)
    if encoders > models:
        return f"{sentence} has two text encoders: give the models of both joined by + as `model`, `sdxl` for SDXL's own"
    if encoders < models:
        return f"{sentence} has one text encoder: give the model of that alone as `model`"
    if not pipeline.shares_token_embeddings(bundle.clip, bundle.token_index.token_ids):
        return f"{sentence} has another text encoder than {bundle.clip.name!r}"
    return ""


def denoiser_of(task: InversionTask) -> Generator:
    """The task's pipeline.

    Raises:
        InputError: it reads other tokens than the model, or none.
    """
    opened = load_generator(task.bundle, task.config.generator)
    if not opened.reads_clip:
        raise InputError(no_denoiser(task.config.method, opened.name))
    generator = cast("Generator", opened)
    if not generator.shares_token_embeddings(task.clip, task.bundle.token_index.token_ids):
        raise InputError(
            f"the text encoder of the generator {generator.name!r} is not that of {task.clip.name!r}: give as `model` "
            "the CLIP that the generator was trained with (Stable Diffusion 1.x: ViT-L-14/openai)"
        )
    return generator
