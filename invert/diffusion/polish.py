"""Polish a prompt: move its token embeddings until a pipeline's denoiser explains the picture best.

In: images, a `Generator`, and the token embeddings of a prompt in words. Out: embeddings for the whole context, which draw
the images more faithfully than the words that they began as, and which `pseudo_tokens` saves for diffusers.

Gradient descent on CLIP's latent alone fits one vector, which is read at end-of-text, while a denoiser attends to the
hidden states of all positions; so the loss here is the denoiser's own (as textual inversion's, Gal et al., arXiv 2208.01618).
That loss is noisy. Every step therefore sees the same noises
and timesteps (common random numbers), iterates are averaged (Polyak and Juditsky, 1992), and of the averages the one is
kept that is best on noises held out from the descent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from invert.config import PolishConfig
from invert.diffusion.denoising import Denoising, NoiseBatch
from invert.diffusion.generator import Generator
from invert.errors import InputError
from invert.torch_defaults import usual_torch


@dataclass(frozen=True, eq=False)
class Polished:
    """Embeddings that explain the images better than those they began as, or these where none did.

    Attributes:
        embeddings: (L, D) float32, one row for every position between the special tokens.
        moved: (L,) how far each row moved, as a Euclidean distance.
        start_error: denoising error of the start on the held-out noises.
        error: of `embeddings` on the same noises, at most `start_error`.
        losses: of every step, on the noises of the descent.
        interrupted: whether the user ended it early; the embeddings are the best until then.
    """

    embeddings: Tensor
    moved: Tensor
    start_error: float
    error: float
    losses: list[float]
    interrupted: bool = False


@usual_torch()
def polish(
    generator: Generator,
    images: Sequence[Image.Image],
    start: Tensor,
    rng: torch.Generator,
    config: PolishConfig | None = None,
    on_step: Callable[[int, float], bool] | None = None,
) -> Polished:
    """Polish the token embeddings of a prompt.

    Args:
        generator: a Stable Diffusion 1.x or 2.x.
        images: what the embeddings shall draw.
        start: token embeddings (L, D) of the prompt, special tokens left out.
        rng: a CPU generator, for noises and timesteps.
        config: how they are polished.
        on_step: called with the step and its loss; True stops early.

    Raises:
        InputError: the pipeline is an SDXL, there is no image, or the prompt is too long for the pipeline.
    """
    settings = config or PolishConfig()
    denoising = Denoising(generator, images)
    descent = Descent(generator, denoising, whole_context(generator, start), settings, rng)
    losses: list[float] = []
    interrupted = False
    try:
        for step in range(settings.steps):
            losses.append(descent.step(step))
            if (step + 1) % settings.check_every == 0 and step + 1 < settings.steps:
                descent.check()
            if on_step is not None and on_step(step, losses[-1]):
                break
    except KeyboardInterrupt:
        interrupted = True
    descent.check()
    moved = (descent.best - descent.start).norm(dim=1)
    return Polished(descent.best, moved, descent.start_error, descent.best_error, losses, interrupted)


@dataclass(frozen=True, eq=False)
class Cases:
    """Noised latents, and what the denoiser predicts for them without a prompt (1, N, C, h, w) where guidance asks for it."""

    batch: NoiseBatch
    unconditional: Tensor | None


class Descent:
    """Adam on the denoising error over fixed noises, with averaged iterates that are checked on others."""

    def __init__(
        self, generator: Generator, denoising: Denoising, start: Tensor, config: PolishConfig, rng: torch.Generator
    ) -> None:
        self.generator, self.denoising, self.config = generator, denoising, config
        self.noises, self.held_out = (self.sampled(n, rng) for n in (config.n_samples, config.n_held_out))
        self.embeddings = start.clone().requires_grad_(True)
        self.mean, self.weight = torch.zeros_like(start), 0.0  # of the iterates, and what the newest of them weighs
        self.rate = config.lr * spread_of_tokens(generator)
        self.optimizer = torch.optim.Adam([self.embeddings], lr=self.rate)
        self.best, self.start, self.start_error = start, start, self.held_out_error(start)
        self.best_error = self.start_error

    def step(self, step: int) -> float:
        """One step at a rate that falls to zero as half a cosine; the loss before it."""
        self.optimizer.param_groups[0]["lr"] = self.rate * 0.5 * (1 + math.cos(math.pi * step / self.config.steps))
        loss = self.error(self.embeddings, self.noises)
        (self.embeddings.grad,) = torch.autograd.grad(loss, self.embeddings)
        self.optimizer.step()
        self.weight = self.config.averaging * self.weight + 1  # as Adam corrects its own averages
        self.mean += (self.embeddings.detach() - self.mean) / self.weight
        return float(loss.detach())

    def check(self) -> None:
        """Keep the average of the iterates where it is the best so far on the held-out noises."""
        error = self.held_out_error(self.mean)
        if error < self.best_error:
            self.best, self.best_error = self.mean.clone(), error

    @torch.no_grad()
    def held_out_error(self, embeddings: Tensor) -> float:
        return float(self.error(embeddings, self.held_out))

    @torch.no_grad()
    def sampled(self, n: int, rng: torch.Generator) -> Cases:
        batch = self.denoising.sample_noise(n, self.config.timestep_fraction, rng)
        guided = self.config.guidance != 1
        return Cases(batch, self.denoising.predict(self.generator.encode([""]), batch) if guided else None)

    def error(self, embeddings: Tensor, cases: Cases) -> Tensor:
        conditioning = self.generator.encode_embeddings([embeddings[None]])
        return self.denoising.loss(conditioning, cases.batch, self.config.guidance, cases.unconditional)[0]


def whole_context(generator: Generator, start: Tensor) -> Tensor:
    """The rows (L, D) followed by padding rows up to the pipeline's context, which draws the very same images; float32.

    A text encoder pads prompts with a token of its own, and the denoiser attends to those positions too: as rows of the
    prompt they are free to say what its words do not.
    """
    encoder, tokenizer = generator.text_encoders[0], generator.tokenizers[0]
    table = encoder.get_input_embeddings().weight
    free = tokenizer.model_max_length - 2 - len(start)
    if free < 0:
        raise InputError(
            f"a prompt of {len(start)} tokens does not fit: {generator.name!r} reads {tokenizer.model_max_length - 2}"
        )
    # End-of-text comes right after the words, and only then what the tokenizer pads with.
    filling = [tokenizer.eos_token_id, *[tokenizer.pad_token_id] * free][:free]
    padding = table[torch.tensor(filling, dtype=torch.long, device=table.device)]
    return torch.cat([start.detach().to(table.device, torch.float32), padding.detach().float()])


def rows_of_prompt(generator: Generator, prompt: str) -> Tensor:
    """Token embeddings (L, D) of a prompt, as the pipeline's own tokenizer cuts it, as many as its context takes."""
    tokenizer = generator.tokenizers[0]
    ids = tokenizer(prompt, add_special_tokens=False).input_ids[: tokenizer.model_max_length - 2]
    table = generator.text_encoders[0].get_input_embeddings().weight
    return table[torch.tensor(ids, dtype=torch.long, device=table.device)].detach()


def spread_of_tokens(generator: Generator) -> float:
    """Standard deviation of the trained rows of the token table: the unit of the learning rate."""
    table = generator.text_encoders[0].get_input_embeddings().weight
    return float(table[table.any(1)].float().std())
