"""`load_clip(name)` → a frozen `Clip`, by name or path.

Names: "picturebook", "picturebook-judge", open_clip's "ViT-L-14/openai" or
"ViT-L-14/path/to/checkpoint.pt", "hf:openai/clip-vit-large-patch14", or a local folder that
transformers or open_clip saved.
"""

from __future__ import annotations

from pathlib import Path

import torch

from invert.errors import InputError
from invert.models.clip import Clip
from invert.models.device import pick_device
from invert.models.names import NAMES, similar
from invert.models.open_clip import from_open_clip, load_open_clip, load_pretrained
from invert.models.transformers import load_transformers


def load_clip(name: str = "picturebook", device: str | torch.device | None = None, dtype: torch.dtype = torch.float32) -> Clip:
    """Load a model by name or path; InputError that says how to get weights that cannot be reached."""
    chosen = pick_device(device)
    if name in ("picturebook", "picturebook-judge"):
        from invert.picturebook import models

        model = models.load("judge" if name.endswith("judge") else "clip").to(chosen, dtype)
        return from_open_clip(name, model, models.preprocess(), models.known_tokens())
    folder = Path(name).expanduser()
    if name.startswith("hf:") or (folder / "config.json").is_file():
        return load_transformers(name, chosen, dtype)
    if (folder / "open_clip_config.json").is_file():
        return load_open_clip(name, f"local-dir:{folder}", None, False, chosen, dtype)
    if name and folder.is_dir():
        raise InputError(f"the folder {name!r} holds no config.json or open_clip_config.json: give {NAMES}")
    if folder.is_file():
        raise InputError(f"{name!r} does not say of which architecture it is: give for example ViT-L-14/{name}")
    if "/" in name:
        return load_pretrained(name, chosen, dtype)
    raise InputError(f"unknown model {name!r}{similar(name)}: give {NAMES}")
