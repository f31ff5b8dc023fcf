"""Fitted estimators as files without code, and on other devices.

In: an estimator; out: a safetensors file with its parameters and all that it has learned, which loads without pickle
and runs nothing. Tensors and arrays are stored as they are, everything else as JSON in the file's header.
"""

from __future__ import annotations

import json
import os
import secrets
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from clustering.params import path_of

FORMAT = "1"  # of the file; raised when an older file can no longer be read
CLASSES = ("BisectingKMeans", "DBSCAN", "HDBSCAN", "KMeans", "MeanShift", "MiniBatchKMeans", "NearestNeighbors")
RECORDS = {("clustering.condensed", "Condensed")}  # named tuples that a file may ask for: nothing else is imported


class Persistent:
    """An estimator that can be saved, loaded and moved."""

    DERIVED: ClassVar[tuple[str, ...]] = ()  # attributes that `_restore` makes anew

    def save(self, path: str | Path) -> Path:
        """Write parameters and fitted attributes to a safetensors file. See `clustering.save`."""
        return save(self, path)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device | None = None) -> Self:
        """Read an estimator of this class. See `clustering.load`."""
        model = load(path, device)
        if type(model) is not cls:
            name = type(model).__name__
            raise ValueError(f"{path} holds a {name}, not a {cls.__name__}: read it with {name}.load or clustering.load")
        return model

    def to(self, device: str | torch.device) -> Self:
        """Move what was fitted to a device; arrays become tensors there. Returns the estimator itself."""
        device, before = torch.device(device), dict(vars(self))
        for name, value in before.items():
            if name not in self.DERIVED and (name.startswith("_") or name.endswith("_")):
                setattr(self, name, _moved(value, device, arrays=name.endswith("_")))
        try:
            self._restore()
        except ValueError:  # an algorithm that the device does not have
            vars(self).update(before)
            raise
        return self

    def __getstate__(self) -> Any:
        """The state for pickle, in which no tensor brings along the memory of a larger one that it is a view of."""
        return compact(super().__getstate__(), {})

    def _restore(self) -> None:
        """Make the derived attributes anew, where the others are now."""


def save(model: Any, path: str | Path) -> Path:
    """Write an estimator, fitted or not, to a safetensors file.

    The file appears whole or not at all.

    Raises:
        ValueError: a parameter that cannot be stored without pickle, such as a function or a random stream.
    """
    name = type(model).__name__
    if name not in CLASSES or not isinstance(model, Persistent):
        raise ValueError(f"a {name} cannot be saved: clustering.save takes {', '.join(CLASSES)}")
    path = path_of(path, "path", "save")
    tensors: dict[str, Tensor] = {}
    state: dict[str, Any] = {}
    for key, value in vars(model).items():
        if key not in model.DERIVED:
            state[key] = _encode(value, key, tensors, name)
    header = {"format": f"clustering/{FORMAT}", "class": name, "state": json.dumps(state)}
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is not a folder: make it first")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        save_file(tensors, temporary, metadata=header)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load(path: str | Path, device: str | torch.device | None = None) -> Any:
    """Read an estimator that `save` wrote.

    Args:
        path: the file.
        device: where its tensors go; None: main memory, tensors as tensors and arrays as arrays.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another kind of file, a damaged one, or one of another version.
    """
    if not path_of(path, "path", "load").is_file():
        raise FileNotFoundError(f"{path} is not a file: name one that clustering.save wrote")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a model that clustering saved, or it is damaged: {error}") from None
    kind, _, version = header.get("format", "").partition("/")
    name = header.get("class")
    if kind != "clustering" or name not in CLASSES:
        raise ValueError(f"{path} is a safetensors file, but not a model that clustering saved")
    if version != FORMAT:
        raise ValueError(f"{path} has format {version}, this version of clustering reads {FORMAT}: fit and save it again")
    cls = getattr(import_module("clustering"), name)
    model = cls()
    state = {key: _decode(value, tensors) for key, value in json.loads(header["state"]).items()}
    saved = {key for key in state if not (key.startswith("_") or key.endswith("_"))}
    if saved != model.get_params(deep=False).keys():
        raise ValueError(f"{path} holds a {name} of another version with other parameters: fit and save it again")
    vars(model).update(state)
    if device is None:
        model._restore()
        return model
    return model.to(device)


def _encode(value: Any, name: str, tensors: dict[str, Tensor], owner: str) -> Any:
    """A value as JSON; tensors and arrays go to `tensors`, and JSON names them."""
    if isinstance(value, np.generic) and not isinstance(value, np.void):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return {"tensor": _store(value.detach().contiguous().clone(), tensors)}
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "OU":
            return {"names": [str(entry) for entry in value.tolist()]}
        return {"array": _store(torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C")), tensors)}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        fields = [_encode(entry, name, tensors, owner) for entry in value]
        return {"record": [type(value).__module__, type(value).__name__], "fields": fields}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_encode(entry, name, tensors, owner) for entry in value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _encode(entry, name, tensors, owner) for key, entry in value.items()}}
    kind = type(value).__name__
    raise ValueError(f"{name} of {owner} is a {kind}, which cannot be saved without pickle: set a plain value first, or pickle")


def _store(tensor: Tensor, tensors: dict[str, Tensor]) -> str:
    name = str(len(tensors))
    tensors[name] = tensor
    return name


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "array" in value:
        return tensors[value["array"]].numpy()
    if "names" in value:
        return np.array(value["names"], dtype=object)
    if "dtype" in value:
        return getattr(torch, value["dtype"])
    if "record" in value:
        module, name = value["record"]
        if (module, name) not in RECORDS:
            raise ValueError(f"the file holds a {name} that this version of clustering does not know: fit and save it again")
        return getattr(import_module(module), name)(*(_decode(entry, tensors) for entry in value["fields"]))
    if "dict" in value:
        return {key: _decode(entry, tensors) for key, entry in value["dict"].items()}
    if "list" in value:
        return [_decode(entry, tensors) for entry in value["list"]]
    return tuple(_decode(entry, tensors) for entry in value["tuple"])


def compact(value: Any, seen: dict[int, Any]) -> Any:
    """A value whose tensors own all of their memory: itself, or a copy of what leads to those that do not.

    seen: by id what was looked at before and what became of it, so that what is shared stays shared.
    """
    if id(value) in seen:
        return seen[id(value)][1]
    found = value
    if isinstance(value, Tensor):
        found = value.clone() if value.untyped_storage().nbytes() > value.numel() * value.element_size() else value
    elif isinstance(value, dict):
        parts = {key: compact(entry, seen) for key, entry in value.items()}
        found = parts if any(parts[key] is not value[key] for key in value) else value
    elif isinstance(value, list | tuple):
        entries = [compact(entry, seen) for entry in value]
        if any(new is not old for new, old in zip(entries, value, strict=True)):
            found = type(value)(*entries) if hasattr(value, "_fields") else type(value)(entries)
    elif type(value).__module__.startswith("clustering.") and hasattr(value, "__dict__") and not isinstance(value, type):
        state = compact(vars(value), seen)
        if state is not vars(value):
            found = object.__new__(type(value))
            found.__dict__.update(state)
    seen[id(value)] = value, found
    return found


def _moved(value: Any, device: torch.device, arrays: bool) -> Any:
    """Tensors, and arrays where wanted, on a device; anything else as it is."""
    if isinstance(value, Tensor):
        return value.to(device)
    if type(value) is tuple:
        return tuple(_moved(entry, device, False) for entry in value)
    if arrays and isinstance(value, np.ndarray) and value.dtype.kind not in "OU":
        return torch.from_numpy(value).to(device)
    return value
