"""What a user may ask of drawn images, whatever draws them. Nothing here needs torch or diffusers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from invert.errors import InputError
from invert.given import listed, number, plain_text, whole, wrong

LIMITS = {"steps": (1, 10_000), "guidance": (1, 1000)}  # least and most; guidance 1 is none
MOST_PIXELS = 8192  # of a side
KINDS: dict[str, Callable[[str, Any], Any]] = {  # what makes an option one of Python's own type
    "steps": whole,
    "guidance": number,
    "size": partial(plain_text, wanted="WIDTHxHEIGHT in pixels, for example 1024x768"),
    "generator_model": partial(plain_text, wanted="a name, or leave it out"),
}


@dataclass(frozen=True)
class DrawingOptions:
    """How images are drawn. None: as the generator itself would.

    Raises:
        InputError: a value makes no sense.
    """

    steps: int | None = None  # of the pipeline's scheduler
    guidance: float | None = None  # how strongly an image follows its prompt, as the pipeline counts it
    size: str | None = None  # WIDTHxHEIGHT in pixels
    generator_model: str | None = None  # which model of an image endpoint draws

    def __post_init__(self) -> None:
        for name, check in KINDS.items():
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, check(name, value))
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise wrong(name, value, f"{least} to {most}, or leave it out")
        if self.size is not None:
            _ = self.pixels
        if self.generator_model is not None and not self.generator_model.strip():
            raise InputError("`generator_model` is empty: give a name, or leave it out")

    @property
    def pixels(self) -> tuple[int, int] | None:
        """Width and height; None where no size is asked for."""
        if self.size is None:
            return None
        found = re.fullmatch(r"([1-9][0-9]{0,4})[x×]([1-9][0-9]{0,4})", self.size.strip().lower())
        if found is None or max(map(int, found.groups())) > MOST_PIXELS:
            raise InputError(f"`size` is {self.size!r}: give WIDTHxHEIGHT in pixels, for example 1024x768")
        return int(found[1]), int(found[2])

    def given(self) -> list[str]:
        """The names of those that are asked for."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    def refuse(self, untaken: set[str], what: str) -> None:
        """InputError that names the first option asked for that the generator does not take.

        what: the generator, as the sentence's beginning.
        """
        for name in self.given():
            if name in untaken:
                raise InputError(f"{what} takes no `{name}`: leave it out")


def sides_of(size: Any) -> tuple[int, int]:
    """A picture's width and height. InputError where they are none."""
    wanted = f"width and height in pixels, each 1 to {MOST_PIXELS}"
    sides = tuple(whole("size", side) for side in listed("size", size, wanted)) if not isinstance(size, str) else ()
    if len(sides) != 2 or not all(1 <= side <= MOST_PIXELS for side in sides):
        raise wrong("size", size, wanted)
    return sides[0], sides[1]
