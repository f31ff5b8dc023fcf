"""Polishing on the command line: after the prompt is found, its embeddings go through the generator's denoiser.

In: what `--embedding` and `--generate` ask for. Out: results whose soft prompt draws the picture, or a note why none does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch

from invert.bundle import ModelBundle
from invert.cli.options import Options
from invert.cli.outputs import Outputs
from invert.cli.terminal import complain, progress
from invert.config import InvertConfig, PolishConfig, SoftConfig
from invert.errors import MissingExtraError
from invert.extras import require
from invert.methods import get_method

if TYPE_CHECKING:
    from PIL import Image

    from invert.diffusion.generator import Generator
    from invert.result import Result


@dataclass(frozen=True)
class Polishing:
    """What soft prompts are polished with."""

    generator: Generator
    config: PolishConfig

    def polished(self, result: Result, pictures: list[Image.Image], tell: Callable[[str], None]) -> Result:
        """The result with the polished embeddings of its prompt; interrupted, with the best of those so far.

        tell: shown how far it is.
        """
        from invert.diffusion.polish import polish, rows_of_prompt

        def on_step(step: int, loss: float) -> bool:
            tell(f"polishing {step + 1}/{self.config.steps}, denoising error {loss:.4f}  {result.prompt}")
            return False

        rng = torch.Generator().manual_seed(result.seed)
        found = polish(self.generator, pictures, rows_of_prompt(self.generator, result.prompt), rng, self.config, on_step)
        return replace(result, polished=found, interrupted=result.interrupted or found.interrupted)


def polishing(options: Options, bundle: ModelBundle, outputs: Outputs) -> Polishing | None:
    """The pipeline to polish with, loaded; None where none is wanted or none can, which a note then says."""
    wanted = outputs.embedding is not None or (outputs.generate and get_method(options.method).polishes)
    if not wanted or options.text is not None or not options.polish_steps or not get_method(options.method).polishes:
        return None
    name = options.generator or bundle.generator
    if name is None:
        return None
    try:
        require("diffusers", "polishing the soft prompt")
    except MissingExtraError as error:
        complain(f"note: the soft prompt is as the descent on CLIP left it, which draws badly: {error}")
        return None

    from invert.methods.denoiser import load_generator, obstacle_to_soft_prompts

    with progress(f"loading {name}"):
        generator = load_generator(bundle, options.generator)
    obstacle = obstacle_to_soft_prompts(bundle, generator)
    if obstacle:
        if not outputs.generate:  # else the round trip says it
            complain(f"note: {obstacle}, so that it cannot be polished either")
        return None
    pipeline = cast("Generator", generator)
    if pipeline.is_xl:
        complain(f"note: the soft prompt is not polished: {pipeline.name!r} has two text encoders")
        return None
    return Polishing(pipeline, PolishConfig(steps=options.polish_steps))


def with_soft_prompt(config: InvertConfig, outputs: Outputs, polishing: Polishing | None) -> InvertConfig:
    """The config with a soft stage where the soft prompt itself is to be saved, because nothing polishes the words."""
    if outputs.embedding is None or polishing is not None or config.soft_steps is not None:
        return config
    return replace(config, soft_steps=SoftConfig.steps)
