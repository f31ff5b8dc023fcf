"""What the app lets its visitors ask for."""

from __future__ import annotations

from dataclasses import dataclass, fields

from invert.errors import InputError


@dataclass(frozen=True)
class Limits:
    """Each is 1 or more.

    Raises:
        InputError: one is not.
    """

    queue: int = 64  # requests that wait; a further one is refused
    megabytes: int = 20  # of one uploaded file
    seconds: float = 120  # of one search
    files: int = 100  # pictures of one batch
    drawn: int = 8  # images drawn of one prompt

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 1 <= value < float("inf"):
                raise InputError(f"`{field.name}` is {value}: give 1 or more")
