"""Whether a pipeline has all its weights, numbers in all of them, and words: the libraries make up what is missing.

A part of transformers is therefore looked up in its files once more, by name and without its numbers; one of diffusers has no
numbers where its files have none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from invert.errors import InputError
from invert.models.checks import SAMPLES, check_finite_tensors, read_config
from invert.models.weight_files import HALF, is_half

INDEX = "model_index.json"  # where a pipeline names its parts
ENDINGS = (".safetensors", ".bin")
AGAIN = "download it again"
SUMMED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # types that torch sums; not those of 8 bits


def variant_of(folder: Path) -> str | None:
    """Which of the files in a pipeline's folder are read, see `variant_among`."""
    index = folder / INDEX
    parts = read_config(str(folder), index) if index.is_file() else {}
    return variant_among(parts, (file.relative_to(folder).as_posix() for part in parts for file in (folder / part).glob("*")))


def variant_among(parts: Collection[str], files: Iterable[str]) -> str | None:
    """Which of a pipeline's files are read: "fp16" where a part has no others, else None, the usual ones.

    parts: what its index names; other folders beside are none of the pipeline's. files: paths from the pipeline's folder.
    """
    named = [PurePosixPath(file) for file in files if file.endswith(ENDINGS)]
    weights = [file for file in named if len(file.parts) == 2 and file.parts[0] in parts]
    whole = {file.parent for file in weights if not is_half(file.name)}
    return HALF if any(file.parent not in whole for file in weights) else None


def check_complete(name: str, pipeline: Any, folder: Path) -> None:
    """InputError where a part lacks a weight: diffusers leaves it without numbers, transformers makes some up."""
    for part, module in _modules(pipeline):
        missing = [key for key, value in module.state_dict().items() if value.is_meta] or _missing(module, folder / part)
        if missing:
            raise InputError(f"the weights of the generator {name!r} are incomplete ({part}: {min(missing)}): {AGAIN}")


def _missing(module: Any, folder: Path) -> list[str]:
    """Weights of a part of transformers that its files do not have."""
    if not folder.is_dir() or not isinstance(module, PreTrainedModel):
        return []
    variant = {"variant": HALF} if variant_of(folder.parent) and any(is_half(file.name) for file in folder.iterdir()) else {}
    kind: Any = type(module)
    try:
        _, found = kind.from_pretrained(
            str(folder), local_files_only=True, output_loading_info=True, device_map="meta", **variant
        )
    except Exception:  # the part itself was read: one that cannot be looked at in this way is taken as it is
        return []
    return list(found["missing_keys"])


def check_tokenizers(name: str, pipeline: Any) -> None:
    """InputError where a tokenizer knows no words, or one alone: of a folder without its files transformers makes such a one."""
    for part, tokenizer in pipeline.components.items():
        if isinstance(tokenizer, PreTrainedTokenizerBase):
            ids = [token for sample in SAMPLES for token in tokenizer.encode(sample, add_special_tokens=False)]
            if len(set(ids)) < 2:
                raise InputError(f"the generator {name!r} has no vocabulary ({part}): {AGAIN}")


def check_finite(name: str, pipeline: Any) -> None:
    """InputError where a weight is no finite number: every image would be black."""
    for part, module in _modules(pipeline):
        state = {f"{part}: {key}": value for key, value in module.state_dict().items() if value.dtype in SUMMED}
        check_finite_tensors(name, state)


def _modules(pipeline: Any) -> list[tuple[str, Any]]:
    return [(part, module) for part, module in pipeline.components.items() if isinstance(module, nn.Module)]
