"""Textual inversion: a picture as one or more new tokens, learnt through the denoiser.

In: images and a Stable Diffusion 1.x or 2.x. Out: token rows that stand for what the images show,
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
    """How pseudo-tokens are learnt."""

    steps: int = 100
    rate: float = 0.05  # Adam's learning rate, in units of the token table's spread
    cases: int = 8  # noises and timesteps a step
    noisiest: float = 1.0  # share of the timesteps that is drawn from, counted from the noisy end


@dataclass(frozen=True)
class PseudoTokens:
    """Learnt token rows (L, D), float32, and the loss of every step."""

    rows: Tensor
    losses: list[float]


def learn(
    generator: Generator,
    images: Sequence[Image.Image],
    start: Tensor,
    luck: torch.Generator,
    config: TextualInversionConfig = TextualInversionConfig(),
    on_step: Callable[[int, float], bool] | None = None,
) -> PseudoTokens:
    """Descend from token rows `start` (L, D) on the denoising loss of the images.

    luck: a CPU generator for every draw. on_step: told the step and its loss; True stops early.
    """
    denoising = Denoising(generator, images)
    table = generator.text_encoders[0].get_input_embeddings().weight
    rows = start.detach().to(table.device, torch.float32).clone().requires_grad_(True)
    optimizer = torch.optim.Adam([rows], lr=config.rate * float(table[table.any(1)].float().std()))
    losses: list[float] = []
    for step in range(config.steps):
        loss = denoising.loss(generator.encode_rows([rows[None]]), denoising.draw(config.cases, config.noisiest, luck))[0]
        (rows.grad,) = torch.autograd.grad(loss, rows)
        optimizer.step()
        losses.append(float(loss.detach()))
        if on_step is not None and on_step(step, losses[-1]):
            break
    return PseudoTokens(rows.detach(), losses)
