"""Prompt → image by any text-to-image pipeline of diffusers: FLUX, Stable Diffusion 3, Qwen-Image, PixArt and their like.

They read other text encoders than CLIP alone, so a prompt is all that goes in. Only what the pipeline's own call takes is
passed to it; the rest stays at the pipeline's defaults. Stable Diffusion 1, 2 and XL are `Generator`s, which can do more.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from invert.diffusion.drawing import Drawn, TextToImage, checked
from invert.diffusion.generator import Generator
from invert.diffusion.loading import other_kind, read_pipeline
from invert.diffusion.options import DrawingOptions
from invert.errors import InputError
from invert.models.device import pick_device
from invert.models.hub import quiet
from invert.registry import GENERATORS

EMPTY = " "  # the negative prompt of pipelines whose guidance works only beside one


class PromptPipeline:
    """A frozen text-to-image pipeline of any architecture."""

    reads_clip = False

    def __init__(self, pipeline: Any, name: str) -> None:
        """pipeline: on its device already.

        Raises:
            InputError: it takes no prompt.
        """
        self.pipeline, self.name, self.kind = pipeline, name, type(pipeline).__name__
        self.parameters = inspect.signature(type(pipeline).__call__).parameters
        if "prompt" not in self.parameters:
            raise other_kind(name, self.kind)

    def check(self, options: DrawingOptions) -> None:
        """InputError where the pipeline cannot follow them."""
        taken = {
            "steps": "num_inference_steps" in self.parameters,
            "guidance": "guidance_scale" in self.parameters or "true_cfg_scale" in self.parameters,
            "size": {"width", "height"} <= self.parameters.keys(),
            "generator_model": False,
        }
        options.refuse({name for name, takes in taken.items() if not takes}, f"the generator {self.name!r}, a {self.kind},")

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], options: DrawingOptions | None = None) -> Iterator[Drawn]:
        """Each prompt with each seed, one image after the other, so that none depends on what it is drawn with.

        A seed fixes the initial noise, on the CPU, so the kind of device does not change it.

        Raises:
            InputError: the pipeline refuses an option or the prompt, or its output is no image.
        """
        options = options or DrawingOptions()
        self.check(options)
        wanted = self.arguments(options)
        for prompt in prompts:
            for seed in seeds:
                yield self.drawn(prompt, seed, wanted)

    @torch.no_grad()
    def drawn(self, prompt: str, seed: int, wanted: dict[str, Any]) -> Drawn:
        """One image."""
        try:
            with quiet():
                output = self.pipeline(prompt=prompt, generator=torch.Generator().manual_seed(seed), output_type="pt", **wanted)
        except ValueError as error:  # so diffusers checks its arguments
            raise InputError(f"the generator {self.name!r} refuses to draw {prompt!r}: {error}") from error
        images = getattr(output, "images", None)
        if images is None or len(images) == 0:
            raise InputError(f"the generator {self.name!r}, a {self.kind}, drew no image: give a text-to-image pipeline")
        flags = getattr(output, "nsfw_content_detected", None) or getattr(output, "nsfw_detected", None) or [False]
        return checked(as_tensor(images[0]), bool(flags[0]))

    def arguments(self, options: DrawingOptions) -> dict[str, Any]:
        """What is passed to the pipeline besides the prompt and the noise."""
        found: dict[str, Any] = self.guided(options.guidance)
        if options.steps is not None:
            found["num_inference_steps"] = options.steps
        if options.pixels is not None:
            found["width"], found["height"] = options.pixels
        return found

    def guided(self, guidance: float | None) -> dict[str, Any]:
        """The guidance, under the name by which the pipeline takes it.

        Qwen-Image's is `true_cfg_scale`, on by default, but without effect unless a negative prompt stands beside
        it. FLUX has that too, off by default: there `guidance_scale` is meant, which the model was distilled with.
        """
        true_scale = getattr(self.parameters.get("true_cfg_scale"), "default", None)
        if isinstance(true_scale, int | float) and true_scale > 1:
            scale = true_scale if guidance is None else guidance
            return {"true_cfg_scale": scale, "negative_prompt": EMPTY} if scale > 1 else {"true_cfg_scale": scale}
        return {} if guidance is None else {"guidance_scale": guidance}


def as_tensor(image: Any) -> Tensor:
    """An image as a pipeline gives it → (3, H, W) in 0..1."""
    if isinstance(image, Tensor):
        return image
    return pil_to_tensor(image if isinstance(image, Image.Image) else Image.fromarray(image)) / 255


def load_pipeline(name: str, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> TextToImage:
    """A pipeline by its name in the registry `GENERATORS`, its folder, or its name on the hub.

    Args:
        name: which.
        device: None for a GPU if there is one.
        dtype: None for half precision on a GPU, else float32; see `default_dtype`.

    Raises:
        InputError: it cannot be read or reached, or draws nothing from a prompt.
    """
    chosen = pick_device(device)
    if name in GENERATORS:
        named: TextToImage = GENERATORS.get(name)(chosen, dtype or (torch.float16 if chosen.type == "cuda" else torch.float32))
        return named
    pipeline = read_pipeline(name, chosen, dtype)
    if isinstance(pipeline, StableDiffusionPipeline | StableDiffusionXLPipeline):
        return Generator(pipeline, name)
    return PromptPipeline(pipeline, name)
