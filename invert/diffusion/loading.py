"""A folder or a hub name → a text-to-image pipeline of diffusers, or one sentence that says why there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as of_diffusers
from huggingface_hub import list_repo_files
from transformers.utils import logging as of_transformers

from invert.diffusion.weights import INDEX, check_complete, check_finite, check_tokenizers, variant_among, variant_of
from invert.errors import InputError
from invert.models.hub import cached, is_offline, out_of_reach, quiet, refused
from invert.silence import no_warnings

UNLINKED = "AutoPipeline can't find a pipeline linked to"  # how diffusers says that a class draws no prompt


def read_pipeline(name: str, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """The pipeline that draws prompts with the weights of that folder or hub name, frozen, on the device.

    Args:
        name: which.
        device: where it goes.
        dtype: None for that which such weights are published for: half precision on a GPU, else float32.

    Raises:
        InputError: it cannot be read or reached, its weights are incomplete or not finite, it is of another kind, or a package
            that it needs is not installed.
    """
    folder = Path(name).expanduser()
    local = folder.is_dir()
    files_only, given = local or is_offline(), str(folder) if local else name
    variant = variant_of(folder) if local else None
    try:
        with quiet(), no_progress_bars(), no_warnings():  # the last: about what diffusers and torch will rename one day
            from diffusers import AutoPipelineForText2Image  # with it come all pipelines, a slow import

            dtype = dtype or default_dtype(kind_of(given, files_only), device)
            variant = variant if local else variant_on_hub(name, files_only)
            options = {"torch_dtype": dtype, "local_files_only": files_only} | ({"variant": variant} if variant else {})
            pipeline = AutoPipelineForText2Image.from_pretrained(given, **options)
            folder = folder if local else cached(name, INDEX)
    except ImportError as error:
        first = str(error).strip().partition("\n")[0]
        raise InputError(f"the generator {name!r} needs a package that is not installed: {first}") from error
    except Exception as error:  # diffusers and the hub raise anything from OSError to KeyError here
        if str(error).startswith(UNLINKED):
            raise other_kind(name, kind_of(given, files_only)) from error
        if not local and (refusal := refused(name, error)):
            raise refusal from error
        reached = local or not (files_only or out_of_reach(error))
        problem = "is damaged or no diffusers pipeline" if reached else "cannot be reached"
        raise InputError(
            f"the generator {name!r} {problem}: download it on a connected machine and give the folder "
            f'that holds {INDEX}, or use `generator="picturebook"`'
        ) from error
    if "Control" in type(pipeline).__name__:
        raise other_kind(name, type(pipeline).__name__)
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    with quiet(), no_progress_bars(), no_warnings():
        check_complete(name, pipeline, folder)
        check_tokenizers(name, pipeline)
    pipeline = pipeline.to(device)
    check_finite(name, pipeline)  # where the weights are summed fastest
    return pipeline


def other_kind(name: str, kind: str) -> InputError:
    """The error for a pipeline that draws no prompt, or draws by a picture besides it."""
    return InputError(
        f"the generator {name!r} is a {kind}: give one that draws from a prompt alone, such as a Stable Diffusion, "
        "a FLUX or a Qwen-Image"
    )


def kind_of(name: str, files_only: bool) -> str:
    """The class that a pipeline's own index names."""
    return str(DiffusionPipeline.load_config(name, local_files_only=files_only)["_class_name"])


def variant_on_hub(name: str, files_only: bool) -> str | None:
    """As `variant_of` of a repository, before its weights are downloaded. files_only: of what the cache holds of it."""
    if files_only:
        return variant_of(cached(name, INDEX))
    return variant_among(DiffusionPipeline.load_config(name), list_repo_files(name))


def default_dtype(kind: str, device: torch.device) -> torch.dtype:
    """Float32 without a GPU; on one float16 for Stable Diffusion 1, 2 and XL, else bfloat16, as T5 and the like overflow."""
    if device.type != "cuda":
        return torch.float32
    halves = kind.startswith("StableDiffusion") and not kind.startswith("StableDiffusion3")
    return torch.float16 if halves or not torch.cuda.is_bf16_supported() else torch.bfloat16


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Within the context, neither diffusers nor transformers draws a progress bar while it loads."""
    was_on = [library for library in (of_diffusers, of_transformers) if library.is_progress_bar_enabled()]
    for library in was_on:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in was_on:
            library.enable_progress_bar()
