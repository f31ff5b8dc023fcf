"""What the environment asks of an experiment: how much of it runs, and which parts.

Every function raises InputError with one sentence that names the variable, where its value is of another kind.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from invert.errors import InputError


def count(variable: str, default: int) -> int:
    """How many of something a variable asks for, 1 or more; the default where it is not set."""
    return counts(variable, (default,))[0]


def counts(variable: str, defaults: tuple[int, ...]) -> tuple[int, ...]:
    """As many whole numbers, with commas, as there are defaults, or one for all; the defaults where it is not set."""
    given = os.environ.get(variable)
    if given is None:
        return defaults
    parts = [part.strip() for part in given.split(",")]
    if len(parts) not in (1, len(defaults)) or not all(part.isdecimal() and int(part) > 0 for part in parts):
        more = f" ({len(defaults)} with commas, or one for all)" if len(defaults) > 1 else ""
        raise InputError(f"{variable} is {given!r}: give a whole number, 1 or more{more}, as in {','.join(map(str, defaults))}")
    numbers = tuple(map(int, parts))
    return numbers if len(numbers) == len(defaults) else numbers * len(defaults)


def number(variable: str, default: float) -> float:
    """The number above 0 that a variable holds; the default where it is not set."""
    given = os.environ.get(variable)
    if given is None:
        return default
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(f"{variable} is {given!r}: give a number above 0")
    return value


def chosen(variable: str, known: Sequence[str], default: Sequence[str] | None = None, separator: str = ",") -> list[str]:
    """The names that a variable chooses among those that are known; the default (all) where it is not set."""
    given = os.environ.get(variable)
    if given is None:
        return list(known if default is None else default)
    names = given.split(separator)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"{variable}: unknown {unknown[0]!r}: {f'{separator} '.join(known)}")
    return names


def is_on(variable: str) -> bool:
    """Whether a variable is 1; not set or 0 is off."""
    given = os.environ.get(variable, "0")
    if given not in ("0", "1"):
        raise InputError(f"{variable} is {given!r}: give 1 or 0")
    return given == "1"
