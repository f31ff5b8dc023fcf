"""`load_clip(name)` → a frozen `Clip`, by name or path.

Names: "picturebook", "picturebook-judge", open_clip's "ViT-L-14/openai" or
"ViT-L-14/path/to/checkpoint.pt", "hf:openai/clip-vit-large-patch14", or a local folder that
transformers or open_clip saved. Names joined by "+" are one model of all of them; "sdxl" is that pair of SDXL's.

The libraries are imported with their first model: both take longer to import than a prompt to be found.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from invert.errors import InputError
from invert.given import of_kind, plain_text
from invert.models.clip import Clip
from invert.models.device import pick_device
from invert.models.fingerprint import TEXTS
from invert.models.names import ALIASES, NAMES, similar
from invert.models.precision import parse_dtype
from invert.models.turns import Placement, Turns
from invert.registry import MODELS
from invert.torch_defaults import usual_torch

log = logging.getLogger(__name__)


@usual_torch()
def load_clip(
    name: str = "picturebook",
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    weights: Sequence[float] | None = None,
    turns: Turns | None = None,
) -> Clip:
    """Load a model.

    Args:
        name: see this module's first lines.
        device: None for a GPU if there is one.
        dtype: of weights and activations: float32, float16 or bfloat16; None for float32. What is given here is that of a
            generator as well.
        weights: of the cosines of models that are joined by "+", see `invert.models.joint`. None: all the same.
        turns: what the model's parts take turns in memory with; None: all of it is in memory at once, and beside half
            precision the same model in float32, `Clip.exact`.

    Raises:
        InputError: there is no such model, it is of a kind that is not supported, its numbers are too large for float16, or
            its files cannot be reached, are missing or are damaged. The sentence says which, and what to do.
    """
    plain_text("name", name)
    if turns is not None:
        of_kind("turns", turns, Turns, "Turns, or leave them out")
    chosen = None if dtype is None else parse_dtype(dtype)
    at = Placement(pick_device(device), chosen or torch.float32, turns)
    clip = _joined(name, weights, at)
    clip.turns, clip.chosen_dtype = turns, chosen
    if at.dtype != torch.float32 and turns is None:
        clip.load_exact = lambda: _joined(name, weights, Placement(at.device, torch.float32))
    if at.dtype == torch.float16:
        clip.encode_text(TEXTS)  # a model that overflows does so in most texts: told before anything is computed
    return clip


def _joined(name: str, weights: Sequence[float] | None, at: Placement) -> Clip:
    """One model, or several as one."""
    names = joined_names(name)
    if len(names) == 1 and weights is None:
        return _load(names[0], at)
    from invert.models.joint import check_weights, join

    check_weights(weights, len(names))
    return join([_load(part, at) for part in names], weights)


def joined_names(name: str) -> list[str]:
    """The models that a name joins by "+"; a "+" in the name of a file, a folder or a model joins nothing."""
    names, pieces = [], name.split("+")
    while pieces:
        n_pieces = next((n for n in range(len(pieces), 1, -1) if _is_one("+".join(pieces[:n]))), 1)
        one = "+".join(pieces[:n_pieces])
        names += ALIASES[one].split("+") if one in ALIASES else [one]
        del pieces[:n_pieces]
    return names


def _is_one(name: str) -> bool:
    """Whether a name with a "+" is one model's."""
    architecture, _, file = name.partition("/")
    files = [] if "+" in architecture else [Path(file).expanduser(), Path("/") / file]
    folder = Path(name.removeprefix("hf:")).expanduser()
    return name in MODELS or _is(Path.exists, folder) or any(_is(Path.is_file, path) for path in files)


def _load(name: str, at: Placement) -> Clip:
    if name in MODELS:
        named: Clip = MODELS.get(name)(at.device, at.dtype)
        if at.turns is not None:
            log.warning("the model %r stays in memory whole: `low_memory` moves models of open_clip and transformers", name)
        return named
    folder = Path(name.removeprefix("hf:")).expanduser()
    if _is(Path.is_dir, folder) and folder != Path():
        return _load_folder(name, folder, at)
    if name.startswith("hf:"):
        return _load_from_hub(name, name.removeprefix("hf:"), at)
    if _is(Path.is_file, folder):
        raise InputError(f"{name!r} does not say of which architecture it is: give for example ViT-L-14/{name}")
    if "/" in name:
        from invert.models import open_clip

        return open_clip.load_named(name, at)
    raise InputError(f"unknown model {name!r}{similar(name)}: give {NAMES}")


def _is(kind: Callable[[Path], bool], path: Path) -> bool:
    """As Path.is_dir and Path.is_file; a name that is too long for a path is neither."""
    try:
        return kind(path)
    except OSError:
        return False


def _load_folder(name: str, folder: Path, at: Placement) -> Clip:
    """What transformers or open_clip saved; where both did, the one whose weights are there."""
    from invert.models import open_clip, transformers

    if (folder / open_clip.CONFIG).is_file():
        weights = any(any(folder.glob(pattern)) for pattern in transformers.WEIGHTS)
        if not (weights and (folder / "config.json").is_file() and _is_known_kind(name, folder)):
            return open_clip.load_folder(name, folder, at)
    if (folder / "config.json").is_file():
        return transformers.load_transformers(name, folder, at)
    raise InputError(f"the folder {name!r} holds no config.json or {open_clip.CONFIG}: give {NAMES}")


def _is_known_kind(name: str, folder: Path) -> bool:
    """Whether the configuration is that of a model of transformers; other libraries' files have this name too."""
    from invert.models.transformers import check_kind

    try:
        return bool(check_kind(name, folder))
    except InputError:
        return False


def _load_from_hub(name: str, repository: str, at: Placement) -> Clip:
    """A repository of the hub: its kind is looked at before its weights are downloaded."""
    from invert.models import open_clip, transformers
    from invert.models.hub import Repository, fetch_first

    files = Repository(name, repository)
    folder = files.fetch(transformers.SMALL_FILES)
    of_transformers, of_open_clip = ((folder / config).is_file() for config in ("config.json", open_clip.CONFIG))
    if of_open_clip and not (of_transformers and _is_known_kind(name, folder)):
        fetch_first(files, open_clip.PREFERRED)
    elif of_transformers:
        transformers.check_kind(name, folder)
        fetch_first(files, transformers.WEIGHTS + (open_clip.WEIGHTS if of_open_clip else ()))
    elif files.offline:
        raise files.unreachable()
    else:
        raise InputError(f"the model {name!r} holds no config.json or {open_clip.CONFIG}: give {NAMES}")
    return _load_folder(name, folder, at)
