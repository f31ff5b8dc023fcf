"""A model whose weights are read from its files a tower at a time, into a module that is built without any.

In: a module on the "meta" device, its checkpoint, and the adapter that makes a `Clip` of it. Out: a `Clip` whose towers
take turns in memory (`invert.models.turns`). No weight is ever in memory twice, nor in another type than the one wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from invert.errors import InputError
from invert.models.checks import check_finite_tensors
from invert.models.clip import Clip, chunks
from invert.models.tower import TextTower
from invert.models.turns import IMAGES, TEXT, Part, Placement, TowerInTurn, Turns
from invert.models.weight_files import mapped

TOGETHER = 32  # tensors that are read while one mapping of the file is open
TABLE = "token_embedding.weight"
# Tensors without an effect on latents, which files have or lack as the library's version was.
NEVER_READ = ("position_ids", "logit_bias")
UNUSED = (*NEVER_READ, "attn_mask")


class NotInParts(InputError):
    """A model that has to be read whole."""


def check_no_others(name: str, stored: Iterable[str], known: Collection[str]) -> None:
    """InputError where weights are stored that the model has no place for, as layers beyond its last: it would be another."""
    others = sorted(key for key in stored if key not in known and not key.endswith(UNUSED))
    if others:
        raise InputError(
            f"the weights of {name!r} are of another architecture ({others[0]} has no place in it): give the one that they were "
            "trained in"
        )


class Checkpoint:
    """The tensors of a model's files by name; they are mapped into memory only while some are copied out."""

    def __init__(
        self, name: str, files: Sequence[Path], renamed: Callable[[Iterable[str]], Mapping[str, str]] | None = None
    ) -> None:
        """Look at what the files hold.

        Args:
            name: what the user called the model.
            files: safetensors, or checkpoints that torch.save wrote.
            renamed: stored names → names in the module by stored name; None: the same.

        Raises:
            InputError: a file cannot be read a tensor at a time.
        """
        self.name = name
        self.where: dict[str, tuple[Path, str]] = {}
        self.states = {file: state_of(file) for file in files}
        for file in files:
            stored = list(mapped(self.name, file))
            names = dict(zip(stored, stored, strict=True)) if renamed is None else renamed(stored)
            self.where |= {names[key]: (file, key) for key in stored if key in names}

    def read(self, names: Iterable[str], at: Placement) -> Iterator[tuple[str, Tensor]]:
        """Copies of the tensors, on the device; floats in the type wanted.

        Raises:
            InputError: one of them is missing or damaged, or a file is not what it was: its towers would be of two models.
        """
        wanted = list(names)
        for file, state in self.states.items():
            if state_of(file) != state:
                raise InputError(f"the weights of {self.name!r} have changed while they were in use ({file.name}): start again")
        missing = sorted(set(wanted) - self.where.keys())
        if missing:
            raise self._damaged(missing[0])
        for part in chunks(sorted(wanted, key=lambda name: self.where[name]), TOGETHER):
            opened = {file: mapped(self.name, file) for file in {self.where[name][0] for name in part}}
            for name in part:
                file, key = self.where[name]
                tensor = opened[file][key]()
                dtype = at.dtype if tensor.is_floating_point() else tensor.dtype
                yield name, tensor.to(at.device, dtype, copy=True)

    def _damaged(self, key: str) -> InputError:
        return InputError(f"the weights of {self.name!r} are damaged or incomplete ({key}): download the model again")


def state_of(file: Path) -> tuple[int, int, int]:
    """What tells a file from another one under its name; zeros where there is none."""
    try:
        status = file.stat()
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_size, status.st_mtime_ns


class PartialModel:
    """A module whose parameters are there only for the part that is being used."""

    def __init__(self, model: nn.Module, checkpoint: Checkpoint, at: Placement, of_images: Callable[[str], bool]) -> None:
        """model: on the meta device. of_images: whether a parameter's name is one of the image tower's.

        Raises:
            InputError: the checkpoint holds weights that the model has no place for.
        """
        self.model, self.checkpoint, self.at = model, checkpoint, at
        known = model.state_dict()
        check_no_others(checkpoint.name, checkpoint.where, known)
        names = [name for name in known if not name.endswith(NEVER_READ)]
        self.images = [name for name in names if of_images(name)]
        self.text = [name for name in names if not of_images(name)]
        self.kept: dict[str, Tensor] = {}  # parameters that stay in memory
        self.checked: set[str] = set()

    def fill(self, names: Sequence[str]) -> None:
        """Read these parameters.

        Raises:
            InputError: they are damaged, not finite, or of another architecture.
        """
        state = dict(self.checkpoint.read([name for name in names if name not in self.kept], self.at))
        if not self.checked.issuperset(state):
            check_finite_tensors(self.checkpoint.name, state, self._stored)
            self.checked.update(state)
        state |= {name: self.kept[name] for name in names if name in self.kept}
        try:
            self.model.load_state_dict(state, strict=False, assign=True)
        except RuntimeError as error:
            raise InputError(
                f"the weights of {self.checkpoint.name!r} are of another architecture: give the one that they were trained in"
            ) from error
        self.model.requires_grad_(False)

    def _stored(self, name: str) -> Tensor:
        """A parameter in a type that holds all of what its file does."""
        return dict(self.checkpoint.read([name], Placement(torch.device("cpu"), torch.float64)))[name]

    def empty(self, names: Iterable[str]) -> None:
        """Drop these parameters."""
        state = self.model.state_dict()
        nothing = {name: torch.empty_like(state[name], device="meta") for name in names}
        self.model.load_state_dict(nothing, strict=False, assign=True)


def restore_position_ids(model: nn.Module, device: torch.device) -> None:
    """The numbers 0, 1, … that transformers keeps beside its weights, and that no checkpoint holds."""
    for module in model.modules():
        ids = module._buffers.get("position_ids")
        if ids is not None:
            module._buffers["position_ids"] = torch.arange(ids.shape[-1], device=device).expand(ids.shape)


def read_clip(
    model: nn.Module, checkpoint: Checkpoint, at: Placement, adapt: Callable[[], Clip], of_images: Callable[[str], bool]
) -> Clip:
    """The `Clip` that `adapt` makes of a model that is still without weights: whole, or with towers that take turns.

    adapt: called while the text tower's weights are in the model.
    of_images: whether a parameter's name is one of the image tower's.

    Raises:
        NotInParts: the weights are not all of what the model needs.
        InputError: they are damaged, not finite, or of another architecture.
    """
    restore_position_ids(model, at.device)
    known = model.state_dict().keys()
    if any(buffer.is_meta and of_images(key) and key not in known for key, buffer in model.named_buffers()):
        raise NotInParts(f"the image tower of {checkpoint.name!r} has tables that no file holds: leave out `low_memory`")
    split = PartialModel(model, checkpoint, at, of_images)
    if at.turns is not None:
        return clip_in_turns(split, at.turns, adapt)
    split.fill([*split.text, *split.images])
    return adapt()


def clip_in_turns(split: PartialModel, turns: Turns, adapt: Callable[[], Clip]) -> Clip:
    """The `Clip` with one tower in memory at a time; arguments as for `read_clip`."""
    model = split.model
    adapted: list[Clip] = []

    def text_tower() -> TextTower:
        split.fill(split.text)
        clip = adapt()
        adapted[:] = adapted or [clip]
        state = model.state_dict()
        table = next(name for name in split.text if name.endswith(TABLE))
        split.kept.setdefault(table, clip.tower.table)
        # The tower has the matrices that it computes with; the module would keep them a second time.
        split.empty([name for name in split.text if state[name].ndim > 1])
        return clip.tower

    def image_tower() -> Any:
        split.fill(split.images)
        return visual

    text = Part(turns, TEXT, text_tower, lambda: split.empty(split.text))

    def keep_table(rows: Tensor) -> None:
        split.kept.update({name: rows for name in split.text if name.endswith(TABLE)})

    tower = TowerInTurn(text, keep_table)
    clip = adapted[0]
    visual = clip.visual
    images = Part(turns, IMAGES, image_tower, lambda: split.empty(split.images))

    def encoded(pixels: Tensor) -> Any:
        with images.held() as tower_of_images:
            return tower_of_images(pixels)

    clip.tower, clip.visual = tower, encoded
    return clip
