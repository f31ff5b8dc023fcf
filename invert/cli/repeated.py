"""An option that is given twice: lists are joined. Of anything else one value would be dropped, which `kernels.once` refuses.

Options whose fields are lists are repeatable by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, get_args

JOINED = frozenset({"must_include", "ban", "compare", "formats"})  # texts of words that commas separate


def as_lists(hints: Mapping[str, Any]) -> dict[str, Any]:
    """The types of a command's options, with those that are joined repeatable."""
    return {name: Annotated[list[str] | None, *get_args(hint)[1:]] if name in JOINED else hint for name, hint in hints.items()}


def default_of(name: str, default: Any) -> Any:
    """The default of an option as `as_lists` declares it."""
    return ([default] if default else None) if name in JOINED else default


def joined(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What was read as the options' fields have it: a list of texts as one, the default where there is none."""
    return {
        name: (defaults[name] if value is None else ",".join(value)) if name in JOINED else value
        for name, value in values.items()
    }
