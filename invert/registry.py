"""Objects by name: our own, those registered in this process, and those of installed packages (entry points).

Names are listed without importing anything, so that `--help` stays quick; an object's module is imported
when the object is asked for.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from invert.errors import InputError

T = TypeVar("T")


class Registry(Generic[T]):
    """A table from names to objects of one kind."""

    def __init__(self, kind: str, group: str, builtin: Mapping[str, T | str]) -> None:
        """Make a table.

        Args:
            kind: what the objects are called in error messages, such as "method".
            group: entry-point group under which other packages offer theirs.
            builtin: our own; a string "module:attribute" is imported at its first use.
        """
        self.kind, self.group = kind, group
        self._known: dict[str, T | str] = dict(builtin)

    def names(self) -> tuple[str, ...]:
        """All names, ours first."""
        return tuple(dict.fromkeys([*self._known, *self._offered()]))

    def __contains__(self, name: object) -> bool:
        return name in self._known or name in self._offered()

    def get(self, name: str) -> T:
        """The object of that name.

        Raises:
            InputError: no such name, or the package that offers it cannot be imported.
        """
        self.check(name)
        if name not in self._known:
            self._known[name] = self._loaded(name)
        value = self._known[name]
        return resolve(value) if isinstance(value, str) else value

    def check(self, name: str) -> None:
        """InputError that lists the names where there is no such one. Imports nothing."""
        if name not in self:
            close = difflib.get_close_matches(name, self.names(), 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise InputError(f"unknown {self.kind} {name!r}{hint}: choose one of {', '.join(self.names())}")

    def register(self, name: str, value: T) -> None:
        """Add an object.

        Raises:
            InputError: another object has that name.
        """
        if name in self and self._known.get(name) != value:
            raise InputError(f"there is a {self.kind} {name!r} already: register yours under another name")
        self._known[name] = value

    def _offered(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def _loaded(self, name: str) -> T:
        try:
            return cast(T, self._offered()[name].load())
        except Exception as error:  # another package's code may raise anything
            raise InputError(f"the {self.kind} {name!r} of an installed package cannot be imported: {error}") from error


def resolve(path: str) -> Any:
    """The object that "module:attribute" names."""
    module, attribute = path.split(":")
    return getattr(importlib.import_module(module), attribute)


# Models by a name of their own, as functions from a device and a dtype to a `Clip`; see `invert.models.loading`.
MODELS: Registry[Any] = Registry(
    "model",
    "invert.models",
    {
        "picturebook": "invert.picturebook.clip:load_model",
        "picturebook-judge": "invert.picturebook.clip:load_judge",
    },
)

# Text-to-image pipelines by a name of their own, as functions from a device and a dtype to a `Generator`.
GENERATORS: Registry[Any] = Registry(
    "generator", "invert.generators", {"picturebook": "invert.picturebook.pipeline:load_generator"}
)

# What belongs to a model, as functions from its `Clip` to a `ModelBundle`; see `invert.bundle`.
BUNDLES: Registry[Any] = Registry(
    "bundle",
    "invert.bundles",
    {
        "picturebook": "invert.picturebook.bundle:load",
        "generic": "invert.bundle:generic_bundle",
        "english": "invert.english.bundle:load",
    },
)
