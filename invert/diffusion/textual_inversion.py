"""Textual inversion: a picture as one or more new tokens, learned through the denoiser.

In: images and a Stable Diffusion 1.x or 2.x. Out: token embeddings that stand for what the images show,
which `pseudo_tokens` saves for diffusers. Gal et al., arXiv 2208.01618.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from invert.config import TextualInversionConfig
from invert.diffusion.denoising import Denoising
from invert.diffusion.generator import Generator
from invert.diffusion.polish import spread_of_tokens
from invert.torch_defaults import usual_torch


@dataclass(frozen=True)
class PseudoTokens:
    """Learned token embeddings (L, D), float32, and the loss of every step."""

    embeddings: Tensor
    losses: list[float]


@usual_torch()
def learn(
    generator: Generator,
    images: Sequence[Image.Image],
    start: Tensor,
    rng: torch.Generator,
    config: TextualInversionConfig | None = None,
    on_step: Callable[[int, float], bool] | None = None,
) -> PseudoTokens:
    """Learn token embeddings by Adam on the denoising loss of the images.

    Args:
        generator: a Stable Diffusion 1.x or 2.x.
        images: what the embeddings shall stand for.
        start: token embeddings (L, D) to begin from.
        rng: a CPU generator, for the noise of every step.
        config: how they are learned.
        on_step: called with the step and its loss; True stops early.

    Raises:
        InputError: the pipeline is an SDXL, or there is no image.
    """
    settings = config or TextualInversionConfig()
    denoising = Denoising(generator, images)
    table = generator.text_encoders[0].get_input_embeddings().weight
    embeddings = start.detach().to(table.device, torch.float32).clone().requires_grad_(True)
    optimizer = torch.optim.Adam([embeddings], lr=settings.lr * spread_of_tokens(generator))
    losses: list[float] = []
    for step in range(settings.steps):
        batch = denoising.sample_noise(settings.n_samples, settings.timestep_fraction, rng)
        loss = denoising.loss(generator.encode_embeddings([embeddings[None]]), batch)[0]
        (embeddings.grad,) = torch.autograd.grad(loss, embeddings)
        optimizer.step()
        losses.append(float(loss.detach()))
        if on_step is not None and on_step(step, losses[-1]):
            break
    return PseudoTokens(embeddings.detach(), losses)
