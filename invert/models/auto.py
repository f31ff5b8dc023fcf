"""A model of transformers by one of its Auto classes, with its processor or tokenizer, from a folder or the hub."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from invert.errors import InputError
from invert.models.checks import check_finite, read_config
from invert.models.hub import Repository, fetch_first, quiet
from invert.models.weight_files import OF_TRANSFORMERS, variant_options

SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja")  # configuration, tokenizer, image processor, chat template
AGAIN = "download it again"


def folder_of(name: str, parameter: str, kinds: Collection[str], otherwise: str) -> tuple[Path, str]:
    """The folder of that name, or the one that "hf:NAME" is fetched into, and the type of its model.

    A repository's type is looked at before its weights are downloaded.

    Args:
        name: which.
        parameter: what the sentence calls it where there is neither.
        kinds: the types of models that are taken.
        otherwise: what the sentence says of others.

    Raises:
        InputError: there is neither, or the model is of another type.
    """
    folder = Path(name.removeprefix("hf:")).expanduser()
    if folder.is_dir():
        return folder, _kind(name, folder, kinds, otherwise)
    if not name.startswith("hf:"):
        raise InputError(f"`{parameter}` {name!r} is no folder: give one that transformers saved, or hf:NAME")
    repository = Repository(name, name.removeprefix("hf:"))
    folder = repository.fetch(SMALL_FILES)
    if repository.offline and not (folder / "config.json").is_file():
        raise repository.unreachable()
    kind = _kind(name, folder, kinds, otherwise)
    return fetch_first(repository, OF_TRANSFORMERS).parent, kind


def _kind(name: str, folder: Path, kinds: Collection[str], otherwise: str) -> str:
    kind = read_config(name, folder / "config.json").get("model_type")
    if kind not in kinds:
        raise InputError(f"the model {name!r}, of type {kind!r}, {otherwise}")
    return str(kind)


def load_pair(
    called: str, folder: Path, model_class: Any, other_class: Any, device: torch.device, dtype: torch.dtype | None = None
) -> tuple[Any, Any]:
    """The model on its device, and its processor or tokenizer.

    called: what messages call it, as in "the captioner 'hf:NAME'". dtype: None for float32 on processors, float16 on GPUs.

    Raises:
        InputError: it is damaged or incomplete.
    """
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.float16)
    try:
        with quiet():
            other = other_class.from_pretrained(str(folder), local_files_only=True)
            model, loading = model_class.from_pretrained(
                str(folder), local_files_only=True, dtype=dtype, output_loading_info=True, **variant_options(folder)
            )
    except Exception as error:  # anything from OSError to errors that safetensors and tokenizers have for themselves
        raise InputError(f"{called} is damaged or incomplete: {AGAIN}") from error
    if loading["missing_keys"]:  # transformers would fill them with random numbers
        raise InputError(f"the weights of {called} are incomplete ({min(loading['missing_keys'])}): {AGAIN}")
    check_finite(called, model, as_stored=True)
    return model.to(device).eval().requires_grad_(False), other
