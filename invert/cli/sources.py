"""What the user names as pictures → the files, URLs and streams that are read.

A folder stands for the image files in it. What is wrong with one path is told and does not stop the rest.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Iterable

from invert.errors import InputError
from invert.images import ENDINGS

log = logging.getLogger(__name__)
STDIN = "-"  # the name of a picture on standard input
MAX_STDIN = 64 << 20  # bytes
URLS = ("http://", "https://")


def expanded(paths: Iterable[str], tell: Callable[[InputError], object]) -> list[str]:
    """The paths with folders as the sorted image files in them; those that cannot be are told and left out."""
    found: list[str] = []
    for path in paths:
        try:
            found += in_folder(path) if path and os.path.isdir(path) else [checked(path)]
        except InputError as error:
            tell(error)
    return found


def checked(path: str) -> str:
    """The path of one picture; InputError where no file can be meant by it. Nothing is read or fetched."""
    if not path:
        raise InputError("the path of an image is empty: give an image file, or a folder that holds some")
    if path != STDIN and not path.lower().startswith(URLS) and not os.path.exists(path):
        raise InputError(f"{path} does not exist: check the path")
    return path


def in_folder(folder: str) -> list[str]:
    """The image files right in the folder; InputError where there are none."""
    images, folders = images_in(folder)
    if not images and folders:
        raise InputError(f"{folder} holds folders but no images of its own: give those folders, for example {folders[0]}")
    if not images:
        raise InputError(f"{folder} is a folder without images: give image files, or a folder that holds some")
    if folders:
        log.warning("folders inside %s are left out, such as %s: give them too where they are wanted", folder, folders[0])
    return images


def images_in(folder: str) -> tuple[list[str], list[str]]:
    """The image files right in the folder and the folders in it, both sorted; InputError where it cannot be listed.

    Hidden folders are none that anybody means: a run keeps its journal in one.
    """
    try:
        with os.scandir(folder) as entries:
            inside = sorted((entry.path, entry.is_dir()) for entry in entries)
    except OSError as error:
        raise InputError(f"{folder} cannot be listed: {error.strerror}; give image files instead") from error
    images = [path for path, is_folder in inside if not is_folder and os.path.splitext(path)[1].lower() in ENDINGS]
    return images, [path for path, is_folder in inside if is_folder and not os.path.basename(path).startswith(".")]


def check_stdin(paths: list[str]) -> None:
    """InputError where standard input is to be read twice, or is not there."""
    if paths.count(STDIN) > 1:
        raise InputError("- is given more than once: standard input holds one picture")
    if STDIN in paths and sys.stdin is None:
        raise InputError("- reads a picture from standard input, which is closed: give a file")


def read_stdin() -> io.BytesIO:
    """The bytes on standard input; InputError where there are none or too many."""
    content = sys.stdin.buffer.read(MAX_STDIN + 1)
    if not content:
        raise InputError("standard input is empty: pipe a picture into it, as in `cat image.png | invert -`")
    if len(content) > MAX_STDIN:
        raise InputError(f"the picture on standard input is larger than {MAX_STDIN >> 20} MiB: scale it down first")
    return io.BytesIO(content)
