"""How well a pipeline's U-Net denoises given images under a prompt: the loss that trained it.

In: images and a `Generator`. Out: for each conditioning the mean squared error of the predicted
noise (or velocity) over drawn timesteps and noises, differentiable. A prompt that says what the
image shows makes it smaller, which is how a prompt is learnt through the denoiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler
from PIL import Image
from torch import Tensor

from invert.diffusion.generator import Conditioning, Generator
from invert.errors import InputError


@dataclass(frozen=True)
class Draw:
    """N cases to denoise. latents, noise: (N, C, h, w). timesteps: (N,) int64."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor


class Denoising:
    """The denoising of some images by one pipeline with one text encoder."""

    def __init__(self, generator: Generator, images: Sequence[Image.Image]) -> None:
        """Encodes the images once. InputError for SDXL, or where no image is given."""
        if generator.is_xl:
            raise InputError(f"{generator.name!r} has two text encoders: give a Stable Diffusion 1.x or 2.x pipeline")
        if not images:
            raise InputError("learning through the denoiser needs an image: a prompt alone is not enough")
        self.pipeline = generator.pipeline
        self.latents = encoded(generator, images)
        self.scheduler: Any = DDPMScheduler.from_config(self.pipeline.scheduler.config)

    def draw(self, n: int, noisiest: float, luck: torch.Generator) -> Draw:
        """n cases with timesteps spread evenly over the noisiest share (0…1] of all.

        luck: a CPU generator; which image, where in its stratum each timestep lies, and the noise.
        """
        total = self.scheduler.config.num_train_timesteps
        strata = (torch.arange(n) + torch.rand(n, generator=luck)) / n
        timesteps = (total * (1 - noisiest * strata)).long().clamp(0, total - 1)
        chosen = torch.randint(len(self.latents), (n,), generator=luck)
        latents = self.latents[chosen.to(self.latents.device)]
        noise = torch.randn(latents.shape, generator=luck).to(latents)
        return Draw(latents, noise, timesteps.to(latents.device))

    def loss(self, conditioning: Conditioning, draw: Draw) -> Tensor:
        """The error (P,) of each conditioning over the draw."""
        prompts, cases = len(conditioning), len(draw.timesteps)
        noisy = self.scheduler.add_noise(draw.latents, draw.noise, draw.timesteps)
        answer = self.pipeline.unet(
            noisy.repeat(prompts, 1, 1, 1),
            draw.timesteps.repeat(prompts),
            encoder_hidden_states=conditioning.hidden.to(noisy.dtype).repeat_interleave(cases, 0),
        ).sample
        error = answer.float() - self._wanted(draw).float().repeat(prompts, 1, 1, 1)
        return error.square().mean((1, 2, 3)).view(prompts, cases).mean(1)

    def _wanted(self, draw: Draw) -> Tensor:
        match self.scheduler.config.prediction_type:
            case "epsilon":
                return draw.noise
            case "v_prediction":
                return self.scheduler.get_velocity(draw.latents, draw.noise, draw.timesteps)
            case "sample":
                return draw.latents
            case other:
                raise InputError(f"this pipeline predicts {other!r}: give one that predicts epsilon, velocity or the sample")


@torch.no_grad()
def encoded(generator: Generator, images: Sequence[Image.Image]) -> Tensor:
    """Images → latents (N, C, h, w) as the U-Net sees them, at the pipeline's own size."""
    pipeline = generator.pipeline
    side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    pixels = pipeline.image_processor.preprocess(list(images), height=side, width=side)
    out = pipeline.vae.encode(pixels.to(generator.device, pipeline.vae.dtype))
    latents = out.latents if hasattr(out, "latents") else out.latent_dist.mode()
    return latents * pipeline.vae.config.scaling_factor
