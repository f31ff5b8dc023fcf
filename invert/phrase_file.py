"""A user's own phrases for an analysis: a file a category, one phrase a line, as CLIP Interrogator's lists.

Read with bounded memory and without importing torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from invert.errors import InputError
from invert.files import opened_text
from invert.given import path as given_path

MAX_PHRASES = 500_000  # of all files together; CLIP Interrogator's own lists hold some 110,000
MAX_LENGTH = 300  # characters of a phrase: about what the context of a CLIP holds
ENDING = ".txt"  # of the files that are read in a folder


def read_phrases(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Category → its distinct phrases, in the order of the file.

    Args:
        path: a file, or a folder whose .txt files are read. A file's stem is its category.

    Raises:
        InputError: a file cannot be read or holds no phrase, a line is too long, or there are too many.
    """
    found: dict[str, dict[str, None]] = {}
    left = MAX_PHRASES
    for file in phrase_files(given_path("path", path, "the path of a text file, or of a folder of them")):
        phrases = found.setdefault(Path(file).stem, {})
        before = len(phrases)
        for phrase in _lines(file):
            phrases[phrase] = None
            if len(phrases) - before > left:
                raise InputError(f"`phrases`: {path} has more than {MAX_PHRASES:,} phrases: give fewer of them")
        if not phrases:
            raise InputError(f"the `phrases` {file} is empty: write one phrase a line")
        left -= len(phrases) - before
    return {category: tuple(phrases) for category, phrases in found.items()}


def phrase_files(name: str) -> list[str]:
    """The file itself, or the files in the folder that are read, sorted; InputError where there are none."""
    if not os.path.isdir(name):
        return [name]
    try:
        entries = sorted(entry.path for entry in os.scandir(name) if not entry.is_dir())
    except OSError as error:
        raise InputError(f"the `phrases` {name} cannot be listed: {error.strerror}; give a file instead") from error
    files = [path for path in entries if path.lower().endswith(ENDING) and not os.path.basename(path).startswith(".")]
    if not files:
        raise InputError(f"the `phrases` {name} is a folder without {ENDING} files: put a file a category into it")
    return files


def _lines(name: str) -> Iterator[str]:
    """The lines that say something."""
    with opened_text(name, "phrases", "phrase") as file:
        number = 0
        while line := file.readline(MAX_LENGTH + 2):
            number += 1
            phrase = line.strip()
            if len(line.removesuffix("\n")) > MAX_LENGTH:
                raise InputError(f"line {number} of the `phrases` {name} is longer than {MAX_LENGTH} characters: shorten it")
            if "\0" in phrase:
                raise InputError(f"the `phrases` {name} cannot be read: give a UTF-8 text file with one phrase a line")
            if phrase:
                yield phrase
