"""OpenAI's own checkpoints are TorchScript archives: their tensors by name, read without running anything that is in them.

torch reads such files only whole and with the programs in them, and not at all where it unpickles weights alone. Here the
pickled module is walked as plain data: of what it names nothing is called but the making of tensors, from bytes in the file.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SETTINGS = ("input_resolution", "context_length", "vocab_size", "attn_mask")  # tensors that are no weights
DTYPES = {
    "FloatStorage": torch.float32, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64, "LongStorage": torch.int64, "IntStorage": torch.int32, "BoolStorage": torch.bool,
}  # fmt: skip


def is_torchscript(file: Path) -> bool:
    """Whether a file is such an archive."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def tensors_of(file: Path) -> dict[str, Callable[[], Tensor]]:
    """Each weight's name with what reads it.

    Raises:
        Exception: the file is damaged, or names what no weights need.
    """
    with zipfile.ZipFile(file) as archive:
        pickled = next(name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
        with archive.open(pickled) as stream:
            module = _Unpickler(stream, file, pickled.removesuffix("data.pkl")).load()
    return {name: stored.read for name, stored in _walked(module, "") if name.rpartition(".")[2] not in SETTINGS}


@dataclass(frozen=True)
class _Stored:
    """A tensor that is still in the file."""

    file: Path
    record: str
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self) -> Tensor:
        with zipfile.ZipFile(self.file) as archive:
            numbers = torch.frombuffer(bytearray(archive.read(self.record)), dtype=self.dtype)
        return numbers.as_strided(self.size, self.stride, self.offset)


class _Module:
    """A module of the archive, of whatever class: its attributes alone."""

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {})


def _walked(module: _Module, prefix: str) -> Iterator[tuple[str, _Stored]]:
    for name, value in vars(module).items():
        if isinstance(value, _Stored):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _walked(value, f"{prefix}{name}.")


class _Unpickler(pickle.Unpickler):
    """Makes `_Module` of every class of the archive and `_Stored` of every tensor; refuses any other class."""

    def __init__(self, stream: Any, file: Path, folder: str) -> None:
        super().__init__(stream)
        self.file, self.folder = file, folder

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "__torch__":
            return _Module
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        known = {"_rebuild_tensor_v2": _rebuilt, "OrderedDict": OrderedDict}.get(name)
        if known is not None:
            return known
        if module == "torch.jit._pickle":  # lists of numbers and their types
            return _first
        raise pickle.UnpicklingError(f"{module}.{name} is no weight")

    def persistent_load(self, pid: Any) -> Any:
        _, dtype, key, *_ = pid
        return partial(_Stored, self.file, f"{self.folder}data/{key}", dtype)


def _rebuilt(storage: Callable[..., _Stored], offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> _Stored:
    return storage(offset, tuple(size), tuple(stride))


def _first(value: Any, *_: Any) -> Any:
    return value
