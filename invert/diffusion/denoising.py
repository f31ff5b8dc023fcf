"""How well a pipeline's U-Net denoises given images under a prompt: the loss that trained it.

In: images and a `Generator`. Out: for each conditioning the mean squared error of the predicted
noise (or velocity) over sampled timesteps and noises, differentiable. A prompt that says what the
image shows makes it smaller, which is how a prompt is learned through the denoiser.
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
class NoiseBatch:
    """N noised latents to denoise.

    Attributes:
        latents: clean image latents (N, C, h, w), in the U-Net's dtype.
        noise: what is added to them, of the same shape.
        timesteps: (N,) int64.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor


class Denoising:
    """The denoising of some images by one pipeline with one text encoder."""

    def __init__(self, generator: Generator, images: Sequence[Image.Image]) -> None:
        """Encode the images once.

        Raises:
            InputError: the pipeline is an SDXL, or there is no image.
        """
        if generator.is_xl:
            raise InputError(f"{generator.name!r} has two text encoders: give a Stable Diffusion 1.x or 2.x pipeline")
        if not images:
            raise InputError("learning through the denoiser needs an image: a prompt alone is not enough")
        self.pipeline = generator.pipeline
        self.latents = encode_images(generator, images)
        self.scheduler: Any = DDPMScheduler.from_config(self.pipeline.scheduler.config)

    def sample_noise(self, n_samples: int, timestep_fraction: float, rng: torch.Generator) -> NoiseBatch:
        """Sample images, timesteps and noise; the timesteps are stratified over the noisiest part of all.

        Args:
            n_samples: how many.
            timestep_fraction: share (0…1] of the timesteps, counted from the noisy end.
            rng: a CPU generator.
        """
        total = self.scheduler.config.num_train_timesteps
        strata = (torch.arange(n_samples) + torch.rand(n_samples, generator=rng)) / n_samples
        timesteps = (total * (1 - timestep_fraction * strata)).long().clamp(0, total - 1)
        chosen = torch.randint(len(self.latents), (n_samples,), generator=rng)
        latents = self.latents[chosen.to(self.latents.device)]
        noise = torch.randn(latents.shape, generator=rng).to(latents)
        return NoiseBatch(latents, noise, timesteps.to(latents.device))

    def loss(
        self, conditioning: Conditioning, batch: NoiseBatch, guidance: float = 1.0, unconditional: Tensor | None = None
    ) -> Tensor:
        """Mean squared error (P,) float32 of each of P conditionings over the batch.

        Args:
            conditioning: P encoded prompts.
            batch: what is to be denoised.
            guidance: by how much predictions are pushed away from the unconditional ones, as in sampling; 1 for not at all.
            unconditional: `predict` of the empty prompt on the same batch; only guidance needs it.
        """
        predicted = self.predict(conditioning, batch)
        if unconditional is not None and guidance != 1:
            predicted = unconditional + guidance * (predicted - unconditional)
        error = predicted - self._prediction_target(batch).float()  # (P, N, C, h, w)
        return error.square().mean((2, 3, 4)).mean(1)

    def predict(self, conditioning: Conditioning, batch: NoiseBatch) -> Tensor:
        """What the U-Net predicts under each of P conditionings, (P, N, C, h, w) float32."""
        n_prompts, n_samples = len(conditioning), len(batch.timesteps)
        noisy = self.scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
        predicted = self.pipeline.unet(
            noisy.repeat(n_prompts, 1, 1, 1),
            batch.timesteps.repeat(n_prompts),
            encoder_hidden_states=conditioning.hidden.to(noisy.dtype).repeat_interleave(n_samples, 0),
        ).sample
        return predicted.float().unflatten(0, (n_prompts, n_samples))

    def _prediction_target(self, batch: NoiseBatch) -> Tensor:
        match self.scheduler.config.prediction_type:
            case "epsilon":
                return batch.noise
            case "v_prediction":
                return self.scheduler.get_velocity(batch.latents, batch.noise, batch.timesteps)
            case "sample":
                return batch.latents
            case other:
                raise InputError(f"this pipeline predicts {other!r}: give one that predicts epsilon, velocity or the sample")


@torch.no_grad()
def encode_images(generator: Generator, images: Sequence[Image.Image]) -> Tensor:
    """Images → latents (N, C, h, w) as the U-Net sees them, at the pipeline's own size."""
    pipeline = generator.pipeline
    side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    pixels = pipeline.image_processor.preprocess(list(images), height=side, width=side)
    out = pipeline.vae.encode(pixels.to(generator.device, pipeline.vae.dtype))
    latents = out.latents if hasattr(out, "latents") else out.latent_dist.mode()
    return latents * pipeline.vae.config.scaling_factor
