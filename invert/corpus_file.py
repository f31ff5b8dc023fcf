"""A user's own prompts, one a line, read with bounded memory and without importing torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from invert.errors import InputError
from invert.files import opened_text
from invert.given import path as given_path

MAX_PROMPTS = 1_000_000  # distinct lines
MAX_LENGTH = 1_000  # characters of a prompt: more than the context of any CLIP can hold


def read_corpus(path: str | Path) -> tuple[str, ...]:
    """The distinct prompts in the file, in lower case; InputError where there are none, or too many.

    A line is cut to MAX_LENGTH characters.
    """
    name = given_path("path", path, "the path of a text file")
    prompts: dict[str, None] = {}
    with opened_text(name, "corpus", "prompt") as file:
        for line in _lines(file, name):
            prompts[line.lower()] = None
            if len(prompts) > MAX_PROMPTS:
                raise InputError(f"the `corpus` {name} has more than {MAX_PROMPTS:,} prompts: give a sample of them")
    if not prompts:
        raise InputError(f"the `corpus` {name} is empty: write one prompt a line")
    return tuple(prompts)


def _lines(file: TextIO, name: str) -> Iterator[str]:
    """The lines that say something, each cut; never more than a piece of one in memory. InputError where it is no text."""
    inside = False  # whether the piece goes on with a line whose beginning was read
    while piece := file.readline(MAX_LENGTH):
        if "\0" in piece:
            raise InputError(f"the `corpus` {name} cannot be read: give a UTF-8 text file with one prompt a line")
        parts = piece.splitlines()
        for i, part in enumerate(parts):
            if part.strip() and not (inside and i == 0):
                yield part.strip()
        inside = not piece.endswith("\n")
