"""Settings of methods given as text, "pez.lr=0.2" → {"pez": PezConfig(lr=0.2)}."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, get_type_hints

from invert.config import MethodConfig
from invert.errors import InputError
from invert.methods import get_method

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
TRUTHS = {"true": True, "false": False}


def parse_settings(assignments: Iterable[str]) -> dict[str, MethodConfig]:
    """The config of each method that is named, its other fields at their defaults.

    Args:
        assignments: each "METHOD.FIELD=VALUE".

    Raises:
        InputError: not of that form, no such method or field, or a value of another type or range.
    """
    given: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        method, dot, name = path.strip().rpartition(".")
        if not (equals and dot and method and name):
            raise InputError(f"{assignment!r} sets nothing: write METHOD.FIELD=VALUE, for example pez.lr=0.2")
        values = given.setdefault(method, {})
        if name in values:
            raise InputError(f"`{method}.{name}` is set twice: set it once")
        values[name] = parse_value(method, name, text.strip())
    return {method: _made(method, values) for method, values in given.items()}


def parse_value(method: str, name: str, text: str) -> Any:
    """The value of one field."""
    config_type = get_method(method).config_type
    known = [field.name for field in fields(config_type)]
    if not known:
        raise InputError(f"the method {method!r} has no settings of its own: leave out `{method}.{name}`")
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise InputError(f"the method {method!r} has no setting {name!r}{hint}: choose one of {', '.join(known)}")
    kind = get_type_hints(config_type)[name]
    try:
        return TRUTHS[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"`{method}.{name}` is {text!r}: give {KINDS.get(kind, 'a value')}") from error


def _made(method: str, values: dict[str, Any]) -> MethodConfig:
    try:
        return get_method(method).config_type(**values)
    except InputError as error:
        raise InputError(str(error).replace("`", f"`{method}.", 1)) from error
