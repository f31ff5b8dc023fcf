"""What the methods that learn through a denoiser share: the problem's pipeline, and its images there.

Such a method writes tokens of the inverted model's table, so the pipeline's text encoder has to be
that model's own.
"""

from __future__ import annotations

from functools import cache

import torch

from invert.diffusion.denoising import Denoising
from invert.diffusion.generator import Generator
from invert.errors import InputError
from invert.methods import Problem


@cache
def loaded(name: str, device: torch.device) -> Generator:
    """The pipeline of that name, loaded once a process."""
    return Generator.load(name, device)


def generator_of(problem: Problem) -> Generator:
    """The pipeline that the problem names; InputError where it reads other tokens than the model."""
    generator = loaded(problem.config.generator, problem.clip.device)
    if not generator.shares_token_embeddings(problem.clip, problem.vocabulary.token_ids):
        raise InputError(
            f"the text encoder of the generator {generator.name!r} is not that of {problem.clip.name!r}: give with --model "
            "the CLIP that the generator was trained with (Stable Diffusion 1.x: ViT-L-14/openai)"
        )
    return generator


def denoising_of(problem: Problem, generator: Generator) -> Denoising:
    """The denoising of the problem's images; InputError where it has none."""
    return Denoising(generator, problem.images)
