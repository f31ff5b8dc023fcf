"""A shard → its pictures one after the other, still encoded, each with its key or with what is wrong with it.

A shard is read from front to back once, and no more of it is in memory than the picture in hand. What is wrong with one
picture is told in its place; a file that breaks off says so after the last picture that could be read.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tarfile import EOFHeaderError, HeaderError, ReadError  # type: ignore[attr-defined]
from typing import Any

from invert.batch.parquet import ColumnError, read_rows
from invert.batch.shards import Shard, state_of
from invert.errors import InputError
from invert.images import ENDINGS

try:
    from lzma import LZMAError
except ImportError:  # of a Python that was built without it, and opens no .xz
    LZMAError = OSError  # type: ignore[assignment, misc]

MAX_BYTES = 256 << 20  # of one encoded picture
CLOCK_TICK = 0.02  # seconds: the coarsest clock of a common file system, twice
ATTEMPTS = 3  # at a picture that changes while it is read
BROKEN = (tarfile.TarError, OSError, EOFError, zlib.error, LZMAError)


@dataclass(frozen=True)
class Sample:
    """A picture of a shard. content: its encoded bytes. error: what is in their place, "" where nothing is wrong."""

    key: str
    content: bytes = b""
    error: str = ""


@dataclass(frozen=True)
class Columns:
    """Which columns of a Parquet file are read; None where they are found by their names."""

    picture: str | None = None
    key: str | None = None


def read_shard(shard: Shard, columns: Columns = Columns()) -> Iterator[Sample]:
    """The samples of a shard, in the order in which they lie in it."""
    match shard.kind:
        case "tar":
            return read_tar(shard.source)
        case "parquet":
            return read_parquet(shard, columns)
    return read_listed(shard)


# Folders ----------------------------------------------------------------------------------------


def read_listed(shard: Shard) -> Iterator[Sample]:
    """The pictures that the shard's list names; the key of each is its path in the folder."""
    try:
        lines = Path(shard.listing).read_text().splitlines()
    except OSError as error:
        raise InputError(f"the list {shard.listing} has gone: start the run again") from error
    for line in lines:
        path = json.loads(line)[0]
        yield read_picture(path, os.path.join(shard.source, path))


def read_picture(key: str, path: str) -> Sample:
    """A file as one consistent whole: read again where it changes meanwhile."""
    for _ in range(ATTEMPTS):
        before = state_of(path)
        if before[0] > MAX_BYTES:
            return Sample(key, error=f"{path} is larger than {MAX_BYTES >> 20} MiB: give a smaller file")
        try:
            with open(path, "rb") as file:
                content = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return Sample(key, error=f"{path} does not exist: check the path")
        except (OSError, ValueError) as error:
            return Sample(key, error=f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")
        if len(content) == before[0] and _is_settled(path, before):
            return Sample(key, content)
    return Sample(key, error=f"{path} changes while it is read: run again when it is finished")


def _is_settled(path: str, state: tuple[int, int]) -> bool:
    """Whether the file is as it was. Two writes within one tick of the file system's clock leave the same time."""
    if time.time() - state[1] / 1e9 < CLOCK_TICK:
        time.sleep(CLOCK_TICK)
    return state_of(path) == state


# webdataset -------------------------------------------------------------------------------------


class StrictMember(tarfile.TarInfo):
    """A header that is damaged or cut off is an error; tarfile itself takes it for the end of the tar."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Any:
        try:
            return super().fromtarfile(tarfile)
        except EOFHeaderError:
            raise
        except HeaderError as error:
            raise ReadError(str(error)) from error


def read_tar(path: str) -> Iterator[Sample]:
    """The samples of a webdataset tar: files that share their name up to its first dot, of which the first picture counts."""
    key, found = None, True
    try:
        with tarfile.open(path, "r:*", tarinfo=StrictMember) as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # it would keep every header
                name = member.name.removeprefix("./")
                if not member.isfile() or _is_meta(name):
                    continue
                stem, ending = split_key(name)
                if stem != key:
                    if not found:
                        yield _without_picture(str(key), path)
                    key, found = stem, False
                if f".{ending.lower()}" in ENDINGS and not found:
                    found = True
                    yield _member(tar, member, stem, path)
    except BROKEN as error:
        yield Sample("" if found else str(key), error=_broken(path, error))
        return
    if not found:
        yield _without_picture(str(key), path)


def split_key(name: str) -> tuple[str, str]:
    """webdataset's rule: "a.b/c.seg.png" → ("a.b/c", "seg.png")."""
    match = re.match(r"^((?:.*/)?[^/.]*)(?:\.([^/]*))?$", name, re.DOTALL)
    return (match[1], match[2] or "") if match else (name, "")


def _is_meta(name: str) -> bool:
    base = os.path.basename(name)
    return base.startswith(".") or (base.startswith("__") and base.endswith("__"))


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo, key: str, path: str) -> Sample:
    if member.size > MAX_BYTES:
        return Sample(key, error=f"{member.name} in {path} is larger than {MAX_BYTES >> 20} MiB: give a smaller file")
    file = tar.extractfile(member)
    content = b"" if file is None else file.read()
    if len(content) < member.size:
        raise ReadError("unexpected end of data")
    return Sample(key, content)


def _without_picture(key: str, path: str) -> Sample:
    return Sample(key, error=f"the sample {key} in {path} holds no picture")


def _broken(path: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path} does not exist: check the path"
    if isinstance(error, PermissionError):
        return f"{path} may not be read: check its permissions"
    return f"{path} is cut off or damaged from here on: write or copy it again"


# Parquet ----------------------------------------------------------------------------------------


def read_parquet(shard: Shard, columns: Columns) -> Iterator[Sample]:
    """The rows of the shard's row groups."""
    try:
        for key, picture in read_rows(shard.source, shard.groups, columns.picture, columns.key):
            if picture is None:
                yield Sample(key, error=f"the row {key} of {shard.source} holds no picture")
            elif isinstance(picture, bytes):
                yield Sample(key, picture)
            elif "://" in picture:
                yield Sample(key, error=f"{picture} is an address: download the pictures first, for example by img2dataset")
            else:
                yield read_picture(key, picture)
    except ColumnError:  # the user's to mend, and the same for every shard
        raise
    except InputError as error:
        yield Sample("", error=str(error))
