"""What a model must bring before it becomes a `Clip`: finite weights, its own tokenizer, a kind that we compute."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from invert.errors import InputError
from invert.extras import require
from invert.models.overflow import WIDER

SUPPORTED = (
    "give a CLIP, SigLIP, CLIPA, MobileCLIP or MetaCLIP 2 with a text transformer of its own, "
    'such as "ViT-L-14/openai", "hf:openai/clip-vit-large-patch14" or "hf:google/siglip2-base-patch16-224"'
)
GIVE_OWN = "give the tokenizer that the model was trained with"
SAMPLES = ("a photo of a fox", "two owls on a branch")  # any two prompts that CLIP's vocabulary tells apart


def unsupported(name: str, kind: str) -> InputError:
    """The error for a model of a kind that no adapter computes."""
    return InputError(f"the model {name!r} is {kind}, which is not supported: {SUPPORTED}")


def read_config(name: str, file: Path) -> dict[str, Any]:
    """A configuration file of JSON.

    Raises:
        InputError: it cannot be read, or is no JSON object.
    """
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ValueError: of JSON and of UTF-8
        raise InputError(f"{file.name} of the model {name!r} cannot be read as JSON: download it again") from error
    if not isinstance(config, dict):
        raise InputError(f"{file.name} of the model {name!r} holds no settings: download it again")
    return config


def check_sentencepiece(name: str, folder: Path) -> None:
    """MissingExtraError where the tokenizer is a sentencepiece model and nothing here reads one."""
    settings = folder / "tokenizer_config.json"
    wanted = read_config(name, settings).get("tokenizer_class") if settings.is_file() else None
    if wanted == "SiglipTokenizer" or (not (folder / "tokenizer.json").is_file() and any(folder.glob("*.model"))):
        require("sentencepiece", f"the tokenizer of {name!r}")


def check_files(name: str, folder: Path, choices: Sequence[tuple[str, Sequence[Sequence[str]]]]) -> None:
    """Look for files before anything is loaded.

    Args:
        name: what the user called the model.
        folder: where its files lie.
        choices: (what they hold, sets of file names or patterns, one of which has to be there whole).

    Raises:
        InputError: names every set of which nothing is there whole.
    """
    for what, sets in choices:
        if not any(all(any(folder.glob(pattern)) for pattern in files) for files in sets):
            wanted = ", or ".join(" and ".join(files) for files in sets)
            raise InputError(f"the model {name!r} holds no {what}: put {wanted} into its folder")


def check_tokenizer(
    name: str, encoded: Sequence[list[int]], vocabulary: int, rows: int, start_id: int | None, end_id: int | None
) -> None:
    """Whether a tokenizer and a token table belong together.

    Args:
        name: what the user called the model.
        encoded: the ids of `SAMPLES`, without special tokens.
        vocabulary: tokens that the tokenizer knows.
        rows: rows of the token table.
        start_id: the start-of-text token.
        end_id: the end-of-text token.

    Raises:
        InputError: they do not.
    """
    if start_id is None or end_id is None or start_id == end_id:
        raise InputError(f"the tokenizer of {name!r} has no start-of-text and end-of-text tokens of its own: {GIVE_OWN}")
    check_vocabulary(name, encoded, vocabulary, rows, (start_id, end_id))


def check_vocabulary(name: str, encoded: Sequence[list[int]], vocabulary: int, rows: int, special: Collection[int] = ()) -> None:
    """`check_tokenizer` of one whose special tokens are found out later; special: those that are known."""
    if vocabulary > rows or max(special, default=0) >= rows:
        raise InputError(f"the tokenizer of {name!r} knows {vocabulary} tokens but the model only {rows}: {GIVE_OWN}")
    first, second = encoded
    if not first or not second or first == second or not {*first, *second}.isdisjoint(special):
        raise InputError(f"the tokenizer of {name!r} has no vocabulary (it reads different prompts alike): {GIVE_OWN}")
    if max(*first, *second) >= rows:
        raise InputError(f"the tokenizer of {name!r} writes tokens that the model does not have: {GIVE_OWN}")


def check_size(name: str, preprocess: Callable[[Image.Image], Tensor], side: int) -> None:
    """Whether an image processor makes of a picture what the image tower reads, side × side pixels.

    Raises:
        InputError: it does not.
    """
    shape = prepared(name, preprocess, side)
    if shape != (3, side, side):
        made = f"{shape[-1]} × {shape[-2]}" if len(shape) == 3 else str(shape)
        raise InputError(
            f"the image processor of {name!r} makes pictures of {made}, but the model reads {side} × {side}: set the size in "
            "preprocessor_config.json"
        )


def check_patches(name: str, processor: Any, side: int) -> None:
    """The same of one that cuts pictures into patches, side × side pixels each, before it is used."""
    most = getattr(processor, "max_num_patches", None)
    if getattr(processor, "patch_size", None) != side or not isinstance(most, int) or most < 1:
        raise InputError(
            f"the image processor of {name!r} cuts no patches as the model reads them: set `patch_size` ({side}) and "
            "`max_num_patches` in preprocessor_config.json"
        )


def prepared(name: str, preprocess: Callable[[Image.Image], Tensor], side: int) -> tuple[int, ...]:
    """The shape that an image processor gives a picture. InputError where it fails at one."""
    try:
        return tuple(preprocess(Image.new("RGB", (2 * side, side + 1))).shape)
    except Exception as error:  # anything that settings which do not belong together end in
        raise InputError(
            f"the image processor of {name!r} prepares no picture, preprocessor_config.json is damaged: download the model again"
        ) from error


@torch.no_grad()
def check_finite(name: str, model: nn.Module, as_stored: bool = False) -> None:
    """Whether all weights are finite: one that is not makes every latent NaN.

    as_stored: whether they have the type of their file still; else infinity in float16 is a number too large for it.

    Raises:
        InputError: names the first tensor that is not.
    """
    state = model.state_dict()
    check_finite_tensors(name, state, state.__getitem__ if as_stored else None)


@torch.no_grad()
def check_finite_tensors(name: str, state: Mapping[str, Tensor], stored: Callable[[str], Tensor] | None = None) -> None:
    """The same for named tensors; those without data ("meta") are skipped.

    stored: reads one as its file holds it; None: those of the files are finite.
    """
    tensors = {key: value for key, value in state.items() if value.is_floating_point() and value.numel() and not value.is_meta}
    if not tensors:
        return
    sums = torch.stack([_sum(value) for value in tensors.values()])  # a NaN or infinity stays one in its sum
    bad = sums.isfinite().logical_not().nonzero().flatten().tolist()
    # A sum may overflow where no weight does; masks hold −∞ on purpose and are no weights of the state.
    for key, value in [list(tensors.items())[i] for i in bad]:
        if value.isfinite().all():
            continue
        if value.dtype == torch.float16 and not value.isnan().any() and (stored is None or stored(key).isfinite().all()):
            raise InputError(f"the weights of {name!r} hold numbers that are too large for float16, in {key}: {WIDER}")
        raise InputError(f"the weights of {name!r} hold numbers that are not finite, in {key}: download them again")


def _sum(value: Tensor) -> Tensor:
    return value.sum(dtype=torch.promote_types(value.dtype, torch.float32)).float()
