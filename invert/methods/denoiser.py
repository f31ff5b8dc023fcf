"""The pipeline that a method learns through: it has to read the tokens of the inverted model's own table."""

from __future__ import annotations

from invert.bundle import ModelBundle
from invert.diffusion.generator import Generator
from invert.errors import InputError
from invert.methods.task import InversionTask


def load_generator(bundle: ModelBundle, name: str | None) -> Generator:
    """The pipeline of that name, or the bundle's own, loaded once.

    Raises:
        InputError: no name is given and the bundle has none, or it cannot be loaded.
    """
    chosen = name or bundle.generator
    if chosen is None:
        raise InputError(
            f"{bundle.clip.name!r} brings no generator: give one as `generator`, a Stable Diffusion id or the folder of one"
        )
    return bundle.once(f"generator {chosen}", lambda: Generator.load(chosen, bundle.clip.device))


def denoiser_of(task: InversionTask) -> Generator:
    """The task's pipeline.

    Raises:
        InputError: it reads other tokens than the model.
    """
    generator = load_generator(task.bundle, task.config.generator)
    if not generator.shares_token_embeddings(task.clip, task.bundle.token_index.token_ids):
        raise InputError(
            f"the text encoder of the generator {generator.name!r} is not that of {task.clip.name!r}: give as `model` "
            "the CLIP that the generator was trained with (Stable Diffusion 1.x: ViT-L-14/openai)"
        )
    return generator
