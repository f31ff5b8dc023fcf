"""The tensors in a file by name, each with what reads it: safetensors, torch.save's zip format, or OpenAI's TorchScript.

Nothing is unpickled but tensors, and no tensor is read before it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from invert.errors import InputError
from invert.models.torchscript import is_torchscript, tensors_of

AGAIN = "download it again"
ZIP = b"PK"  # how torch's files begin since version 1.6
HALF = "fp16"  # how the libraries mark files of half precision, their "variant": model.fp16.safetensors
USUAL = ("model.safetensors", "pytorch_model.bin")  # what transformers writes; beside a name's index lie its parts
HALVES = (f"model.{HALF}.safetensors", f"pytorch_model.{HALF}.bin")  # and in half precision, read where there is nothing else
# Where transformers' weights are, in its order: whole, or in parts. Others beside are other weights.
OF_TRANSFORMERS = (
    "model.safetensors", "model-*.safetensors", "pytorch_model.bin", "pytorch_model-*.bin",
    f"model.{HALF}.safetensors", f"model.{HALF}-*.safetensors", f"pytorch_model.{HALF}.bin", f"pytorch_model.{HALF}-*.bin",
)  # fmt: skip


class WholeFile(InputError):
    """A file that can be read only as a whole."""


def mapped(name: str, file: Path) -> dict[str, Callable[[], Tensor]]:
    """What reads each tensor; the file is mapped into memory as long as one of these lives.

    name: what the user called the model.

    Raises:
        WholeFile: it is of another format.
        InputError: it is damaged, or holds no named tensors.
    """
    try:
        if file.suffix == ".safetensors":
            opened = safe_open(file, framework="pt")
            return {key: partial(opened.get_tensor, key) for key in opened.keys()}  # noqa: SIM118
        if is_torchscript(file):
            return tensors_of(file)
        state = torch.load(file, mmap=True, weights_only=True, map_location="cpu")
    except Exception as error:  # anything that safetensors, zipfile and pickle raise
        raise _unreadable(name, file) from error
    return _named(name, file, state)


def _unreadable(name: str, file: Path) -> InputError:
    if file.suffix == ".safetensors" or is_torchscript(file):
        return InputError(f"the weights of {name!r} cannot be read, {file.name} is damaged or cut short: {AGAIN}")
    with file.open("rb") as stream:
        if stream.read(len(ZIP)) == ZIP:
            return InputError(
                f"the weights of {name!r} are damaged, or there is more than tensors among them ({file.name}): {AGAIN}, or save "
                "the model's state_dict alone"
            )
    return WholeFile(
        f"the weights of {name!r} cannot be read a part at a time ({file.name}): leave out `low_memory`, or save "
        "them as safetensors"
    )


def _named(name: str, file: Path, state: Any) -> dict[str, Callable[[], Tensor]]:
    """The tensors of what torch.save wrote: a state_dict, or a dictionary that has one."""
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    named = {key: value for key, value in state.items() if isinstance(key, str)} if isinstance(state, dict) else {}
    tensors: dict[str, Callable[[], Tensor]] = {
        key.removeprefix("module."): partial(_as_it_is, v) for key, v in named.items() if isinstance(v, Tensor)
    }
    if not tensors:
        raise InputError(f"{file.name} of the model {name!r} holds no tensors by name: give a file with a model's state_dict")
    return tensors


def is_half(file: str) -> bool:
    """Whether a file of that name holds a variant in half precision."""
    return f".{HALF}." in file or f".{HALF}-" in file


def variant_options(folder: Path) -> dict[str, str]:
    """What `from_pretrained` of transformers is told for a folder: a variant where there are no weights but in half precision."""

    def holds(names: Sequence[str]) -> bool:
        return any((folder / name).is_file() or _index(folder, name).is_file() for name in names)

    return {"variant": HALF} if holds(HALVES) and not holds(USUAL) else {}


def saved_by_transformers(name: str, folder: Path) -> list[Path]:
    """The files that the library reads in a folder: one whole, or the parts that an index names; never another one beside.

    Raises:
        InputError: there are none, or one is missing.
    """
    for whole in (*USUAL, *HALVES):
        if (folder / whole).is_file():
            return [folder / whole]
        if (index := _index(folder, whole)).is_file():
            return _parts(name, folder, index)
    raise InputError(f"the model {name!r} holds no weights of that name: call them {' or '.join(USUAL)}")


def _index(folder: Path, whole: str) -> Path:
    """Where the parts of a file are named: model.safetensors.index.json, model.safetensors.index.fp16.json."""
    marked = f".{HALF}" if is_half(whole) else ""
    return folder / f"{whole.replace(marked, '') if marked else whole}.index{marked}.json"


def _parts(name: str, folder: Path, index: Path) -> list[Path]:
    try:
        parts = sorted({str(part) for part in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{index.name} of the model {name!r} names no files of weights: {AGAIN}") from error
    missing = [part for part in parts if not (folder / part).is_file()]
    if missing or not parts:
        raise InputError(f"the weights of {name!r} are incomplete ({(missing or [index.name])[0]} is missing): {AGAIN}")
    return [folder / part for part in parts]


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor
