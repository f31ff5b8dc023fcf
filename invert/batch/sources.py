"""What a path stands for: a tar, a Parquet file, or a folder of tars, of Parquet files or of pictures.

The first folder that holds any of them, in the order of the walk, says what the whole folder is. Tars go first: img2dataset
writes a Parquet file of metadata beside each of its tars. Results of ours are left out, whatever else their folder holds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from invert.batch.find import is_folder
from invert.errors import InputError
from invert.images import ENDINGS

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
PARQUETS = (".parquet", ".pq")
RUN_FILE = "_invert.json"  # says which configuration the results of a folder were made with
# Folders beside it, of locks, of logs, of lists of pictures, and of those that results lack; readers of data sets skip
# names like these.
LOCKS, LOGS, PLAN_FOLDER, MISSING = "_locks", "_logs", "_plan", "_missing"
RESULT = re.compile(r"-[0-9a-f]{8}(-\d{5,7})?-[0-9a-f]{16}\.parquet$")  # what the names of results end in


def shard_name(path: Path) -> str:
    """Of a result or a list: without the ending, and the 16 digits that tell states of the shard apart."""
    return path.stem[:-17]


def source_of(name: str) -> str:
    """The part of a shard's name that all shards of its source share: it ends in eight digits, a number has fewer."""
    return re.sub(r"-\d{5,7}$", "", name)


def kind_of(path: str) -> str:
    """ "tar" or "parquet", by the file's name; InputError where it is neither, or not there."""
    if "://" in path:
        raise InputError(f"{path} is an address: mount the storage, or copy the shards to a disk first")
    if not os.path.exists(path):
        raise InputError(f"{path} does not exist: check the path")
    name = path.lower()
    if name.endswith(TARS):
        return "tar"
    if name.endswith(PARQUETS):
        return "parquet"
    raise InputError(f"{path} is no shard: give tars (webdataset), Parquet files, or folders that hold pictures")


def found_in(folder: str) -> list[tuple[str, str]]:
    """What a folder stands for: its tars or Parquet files as (path, kind), or itself as (folder, "folder").

    Raises:
        InputError: it holds none of them, or cannot be listed.
    """
    kind = next((kind for _, names in walk(folder) if (kind := _kind_of_names(names))), None)
    if kind is None:
        if os.path.exists(os.path.join(folder, RUN_FILE)):
            raise InputError(f"{folder} holds nothing but results of an earlier run: give what they were made from")
        raise InputError(f"{folder} holds no tars, no Parquet files and no pictures: check the path")
    if kind == "folder":
        return [(folder, kind)]
    endings = TARS if kind == "tar" else PARQUETS
    return [(os.path.join(inside, name), kind) for inside, names in walk(folder) for name in names if _ends(name, endings)]


def pictures_in(folder: str) -> Iterator[str]:
    """The paths of the pictures in a folder and the folders in it, relative to it, in a fixed order."""
    for inside, names in walk(folder):
        for name in names:
            if os.path.splitext(name)[1].lower() in ENDINGS:
                yield os.path.relpath(os.path.join(inside, name), folder)


def walk(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Each folder with the sorted names of its files, itself first; one folder at a time is in memory.

    Links to folders are followed, but never back into a folder that is being walked. Hidden folders and files are left out,
    and so is what runs of ours have written.
    """
    yield from _walk(folder, frozenset())


def _walk(folder: str, above: frozenset[str]) -> Iterator[tuple[str, list[str]]]:
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        with os.scandir(folder) as entries:
            inside = sorted((entry.name, is_folder(entry)) for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder} cannot be listed: {error.strerror}; check its permissions") from error
    if (RUN_FILE, False) in inside:
        inside = [(name, holds_others) for name, holds_others in inside if not _is_of_a_run(name, holds_others)]
    yield folder, [name for name, holds_others in inside if not holds_others]
    for name, holds_others in inside:
        if holds_others:
            yield from _walk(os.path.join(folder, name), above | {real})


def _is_of_a_run(name: str, is_a_folder: bool) -> bool:
    """Whether a run has written it, in the folder that it writes to."""
    return name in (LOCKS, LOGS, PLAN_FOLDER, MISSING) if is_a_folder else name == RUN_FILE or RESULT.search(name) is not None


def _kind_of_names(names: list[str]) -> str | None:
    if any(_ends(name, TARS) for name in names):
        return "tar"
    if any(_ends(name, PARQUETS) for name in names):
        return "parquet"
    return "folder" if any(os.path.splitext(name)[1].lower() in ENDINGS for name in names) else None


def _ends(name: str, endings: tuple[str, ...]) -> bool:
    return name.lower().endswith(endings)
