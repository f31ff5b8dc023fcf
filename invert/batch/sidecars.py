"""Captions beside pictures, `.txt` files of the picture's stem, as trainers of the kohya family read them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from invert.batch.find import Picture
from invert.errors import InputError
from invert.files import write_output

ENDING = ".txt"
LONGEST = 255  # bytes of a file's name, on every common file system
EXISTING = ("skip", "overwrite", "append", "prepend")
SEPARATOR = ", "  # between an old caption and ours
NOTHING = ""  # the digest of a file that is not there


@dataclass(frozen=True)
class Sidecars:
    """How captions are written.

    Attributes:
        prefix: before each prompt.
        suffix: behind it.
        existing: what becomes of a caption that is there already, one of EXISTING.
    """

    prefix: str = ""
    suffix: str = ""
    existing: str = "skip"

    def __post_init__(self) -> None:
        if self.existing not in EXISTING:
            raise InputError(f"unknown `existing` {self.existing!r}: choose one of {', '.join(EXISTING)}")

    def caption(self, prompt: str, old: str | None) -> str | None:
        """The text of the file; None where the old one stays, as where it has ours in its place already.

        old: its text now, None where there is none.
        """
        ours = f"{self.prefix}{' '.join(prompt.splitlines())}{self.suffix}"  # trainers read the first line alone
        before = (old or "").strip()
        match self.existing:
            case "skip" if old is not None:
                return None
            case "append" | "prepend" if before == ours.strip():
                return None
            case "append" if before:
                return None if before.endswith(f"{SEPARATOR}{ours.rstrip()}") else f"{before}{SEPARATOR}{ours}\n"
            case "prepend" if before:
                return None if before.startswith(f"{ours.lstrip()}{SEPARATOR}") else f"{ours}{SEPARATOR}{before}\n"
        return f"{ours}\n"

    def write(self, path: str, prompt: str) -> None:
        """Write one caption, whole.

        Raises:
            InputError: it cannot be written.
        """
        content = read(path)
        old = None if content is None else content.decode("utf-8", "surrogateescape")
        text = self.caption(prompt, old)
        if text is not None:
            write_output(path, text.encode("utf-8", "surrogateescape"), tidy=False)


def read(path: str) -> bytes | None:
    """What a file holds; None where there is none."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):  # a pipe would be waited for
            raise InputError(f"{path} is no regular file, where a caption is to stand: move it away")
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; make it readable, or move it away") from error


def digest(path: str) -> str:
    """What tells whether a file is still what it was."""
    content = read(path)
    return NOTHING if content is None else hashlib.sha256(content).hexdigest()[:16]


def names(pictures: Iterable[Picture], given: Mapping[str, str]) -> dict[str, str]:
    """Key → name of the caption in the picture's folder: its stem's, or its whole name's where that is taken.

    Of a.jpg and a.png the first has a.txt and the second a.png.txt. A.txt and a.txt are one file on some systems, so
    of A.jpg and a.png too. A name that no file could have is shortened.

    Args:
        pictures: in order.
        given: names from earlier, which stay.
    """
    taken = {(os.path.dirname(key), name.casefold()) for key, name in given.items()}
    found = dict(given)
    for picture in pictures:
        if picture.key in found:
            continue
        folder, name = os.path.split(picture.key)
        choice = os.path.splitext(name)[0] + ENDING
        if (folder, choice.casefold()) in taken:
            choice = _shortened(name + ENDING)
        while (folder, choice.casefold()) in taken:
            choice = _shortened(choice + ENDING)
        found[picture.key] = choice
        taken.add((folder, choice.casefold()))
    return found


def _shortened(name: str) -> str:
    """A caption's name; where it is too long, one with a digest in the place of its middle."""
    content = os.fsencode(name)
    if len(content) <= LONGEST:
        return name
    kept = content[: LONGEST - 32].decode("utf-8", "ignore")
    return f"{kept}-{hashlib.sha256(content).hexdigest()[:16]}{ENDING}"
