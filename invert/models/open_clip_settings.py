"""How a model of open_clip's list was trained beyond its architecture: what its pictures are made into, and which GELU it has.

A tag of the list says so, a checkpoint does not: a SigLIP's weights read pictures otherwise than a CLIP's, and OpenAI's weights
another GELU than LAION's in the same architecture. In: a tag, or an architecture and a file. Out: options of open_clip's factory.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

import open_clip

from invert.models.checks import read_config
from invert.models.torchscript import is_torchscript

CONFIG = "open_clip_config.json"
# open_clip's name for a setting of a tag → its factory's.
PREPROCESSING = {
    "mean": "image_mean", "std": "image_std", "interpolation": "image_interpolation", "resize_mode": "image_resize_mode",
}  # fmt: skip
GELU = "quick_gelu"  # OpenAI's approximation

log = logging.getLogger(__name__)


def of_tag(settings: dict[str, Any]) -> dict[str, Any]:
    """The options for the settings of a tag."""
    options = {theirs: settings[key] for key, theirs in PREPROCESSING.items() if settings.get(key) is not None}
    return options | {"force_quick_gelu": bool(settings.get(GELU))}


def of_checkpoint(name: str, architecture: str, file: Path) -> dict[str, Any]:
    """The options for a file: as the configuration beside it says, else as all weights known for its architecture have it.

    OpenAI's own files are told by their format.

    Where those differ a setting stays at open_clip's default, and a note says so.

    Raises:
        InputError: the configuration beside the file cannot be read.
    """
    tags = known(architecture)
    beside = file.with_name(CONFIG)
    saved = read_config(name, beside) if beside.is_file() else {}
    if isinstance(saved.get("preprocess_cfg"), dict):
        model = saved.get("model_cfg")
        return of_tag({**saved["preprocess_cfg"], GELU: isinstance(model, dict) and model.get(GELU)})
    if "openai" in tags and is_torchscript(file):  # nobody else publishes such archives
        return of_tag(tags["openai"])
    differing = [key for key in (*PREPROCESSING, GELU) if len({str(settings.get(key)) for settings in tags.values()}) > 1]
    if differing:
        _say_once(_differently(name, architecture, differing, [tag for tag, settings in tags.items() if settings.get(GELU)]))
    shared = {key: value for key, value in next(iter(tags.values()), {}).items() if key not in differing}
    if shared.get(GELU) and not (open_clip.get_model_config(architecture) or {}).get(GELU):
        _say_once(f"{name!r} is read with OpenAI's QuickGELU, as all weights known for {architecture}; {_otherwise()}")
    return of_tag(shared)


def known(architecture: str) -> dict[str, dict[str, Any]]:
    """Each tag of an architecture with its settings."""
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    return {tag: open_clip.pretrained.get_pretrained_cfg(architecture, tag) for tag in tags}


def _differently(name: str, architecture: str, differing: list[str], quick: list[str]) -> str:
    sentence = f"weights of {architecture} were trained with different settings ({', '.join(differing)}): {name!r} is read with "
    sentence += f"open_clip's default; {_otherwise()}"
    if GELU in differing:
        sentence += f", or give {architecture}-quickgelu for weights such as {quick[0]}'s"
    return sentence


def _otherwise() -> str:
    return f"for other settings put its {CONFIG} beside it"


@cache
def _say_once(sentence: str) -> None:
    """A note; a model in half precision is loaded twice."""
    log.warning("%s", sentence)
