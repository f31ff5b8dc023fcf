"""What callers hand over, checked where it comes in: a value of a wrong kind is one sentence that names the parameter.

In: the name of a parameter and what was given for it; out: the value, of a plain type, or an InputError. Needs no torch.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Sequence
from itertools import filterfalse
from typing import Any, TypeVar

from invert.errors import InputError

T = TypeVar("T")
Texts = TypeVar("Texts", bound=Sequence[str])
LONGEST = 60  # characters of a value that a sentence quotes
BITS = 3 * LONGEST  # of a whole number that is that long


def described(value: Any) -> str:
    """The value as a sentence shows it: itself where it is short, else its kind."""
    long = isinstance(value, int) and value.bit_length() > BITS  # Python writes none of thousands of digits
    if value is None or (isinstance(value, bool | int | float | str | bytes) and not long):
        text = repr(value)
        if len(text) <= LONGEST:
            return text
    kind = type(value).__name__
    return f"{'an' if kind[:1].lower() in 'aeio' else 'a'} {kind}"


def wrong(name: str, value: Any, wanted: str, verb: str = "is") -> InputError:
    """The error of a parameter that is of a wrong kind. verb: "holds" where it has a wrong value among others."""
    return InputError(f"`{name}` {verb} {described(value)}: give {wanted}")


def of_kind(name: str, value: Any, kind: type[T], wanted: str) -> T:
    """The value. InputError where it is of another type."""
    if not isinstance(value, kind):
        raise wrong(name, value, wanted)
    return value


def plain_text(name: str, value: Any, wanted: str = "a text") -> str:
    """A text. InputError for other things."""
    return of_kind(name, value, str, wanted)


def sound_text(name: str, value: Any) -> str:
    """A text that can be encoded. InputError for other things."""
    return sound(name, (plain_text(name, value),))[0]


def entries(name: str, value: Any) -> tuple[str, ...]:
    """The texts of a list, an array or a series; a string is one entry, and no row of letters. InputError for others."""
    texts = (value,) if isinstance(value, str) else () if value is None else listed(name, value, "a list of texts")
    if not all(issubclass(kind, str) for kind in set(map(type, texts))):  # of a million lines, for each picture
        raise wrong(name, next(one for one in texts if not isinstance(one, str)), "texts alone", "holds")
    return sound(name, texts)


def sound(name: str, texts: Texts) -> Texts:
    """The texts. InputError where one holds lone surrogates, as names of files do whose bytes are no UTF-8."""
    for one in filterfalse(str.isascii, texts):
        try:
            one.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"`{name}` holds {one[:LONGEST]!a}, which is no valid text (character {error.start + 1}): read it with the "
                "right encoding, or leave it out"
            ) from error
    return texts


def listed(name: str, value: Any, wanted: str) -> tuple[Any, ...]:
    """The elements of a list or of anything else that is gone through. InputError for others, and for bytes."""
    if isinstance(value, bytes | bytearray) or not isinstance(value, Iterable):
        raise wrong(name, value, wanted)
    try:
        return tuple(value)
    except TypeError as error:  # an array of no axes
        raise wrong(name, value, wanted) from error


def whole(name: str, value: Any) -> int:
    """A whole number of any library as Python's. InputError for other things."""
    try:
        return int(value) if isinstance(value, float) and value.is_integer() else operator.index(value)
    except (TypeError, RuntimeError) as error:
        raise wrong(name, value, "a whole number") from error


def number(name: str, value: Any) -> float:
    """A number, one of another library as Python's. InputError for other things."""
    try:
        if not isinstance(value, str | bytes | bytearray):
            plain = float(value)
            return value if isinstance(value, int | float) else plain
    except (TypeError, ValueError, RuntimeError, OverflowError):  # of a tensor with several numbers; of 10**400
        pass
    raise wrong(name, value, "a number")


def path(name: str, value: Any, wanted: str) -> str:
    """A path as a text. InputError for other things."""
    if isinstance(value, str | os.PathLike):
        found = os.fspath(value)
        if isinstance(found, str):
            return found
    raise wrong(name, value, wanted)


def function(name: str, value: Any) -> None:
    """InputError where the value is neither a function nor None."""
    if value is not None and not callable(value):
        raise wrong(name, value, "a function, or leave it out")
