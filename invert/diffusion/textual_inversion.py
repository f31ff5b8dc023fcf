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

from invert.diffusion.denoising import Denoising
from invert.diffusion.generator import Generator


@dataclass(frozen=True)
class TextualInversionConfig:
    """How pseudo-tokens are learned."""

    steps: int = 100
    lr: float = 0.05  # Adam's, in units of the token table's standard deviation
    n_samples: int = 8  # noises and timesteps a step
    timestep_fraction: float = 1.0  # share of the timesteps that are sampled, counted from the noisy end


@dataclass(frozen=True)
class PseudoTokens:
    """Learned token embeddings (L, D), float32, and the loss of every step."""

    embeddings: Tensor
    losses: list[float]


def learn(
    generator: Generator,
    images: Sequence[Image.Image],
    start: Tensor,
    rng: torch.Generator,
    config: TextualInversionConfig = TextualInversionConfig(),
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
    denoising = Denoising(generator, images)
    table = generator.text_encoders[0].get_input_embeddings().weight
    embeddings = start.detach().to(table.device, torch.float32).clone().requires_grad_(True)
    optimizer = torch.optim.Adam([embeddings], lr=config.lr * float(table[table.any(1)].float().std()))
    losses: list[float] = []
    for step in range(config.steps):
        batch = denoising.sample_noise(config.n_samples, config.timestep_fraction, rng)
        loss = denoising.loss(generator.encode_embeddings([embeddings[None]]), batch)[0]
        (embeddings.grad,) = torch.autograd.grad(loss, embeddings)
        optimizer.step()
        losses.append(float(loss.detach()))
        if on_step is not None and on_step(step, losses[-1]):
            break
    return PseudoTokens(embeddings.detach(), losses)
