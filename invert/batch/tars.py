"""A webdataset tar → its pictures in their order, read from front to back once, one in memory at a time.

A file that breaks off says so after the last picture that could be read. Links are read as the members that they lead to:
the first one that is met has the tar's headers read through once more; in a compressed tar nothing can be looked up, and
a link is an error.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from tarfile import EOFHeaderError, HeaderError, ReadError  # type: ignore[attr-defined]
from typing import Any

from invert.batch.samples import MAX_BYTES, Sample, too_large
from invert.batch.states import UNREADABLE, PassingError, change_of, passing, readable_state, why_unreadable
from invert.images import ENDINGS

try:
    from lzma import LZMAError
except ImportError:  # of a Python that was built without it, and opens no .xz
    LZMAError = OSError  # type: ignore[assignment, misc]

BROKEN = (tarfile.TarError, OSError, EOFError, zlib.error, LZMAError)
MAX_LINKS = 8  # from link to link, so that a loop of them ends


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


class WatchedFile(io.FileIO):
    """Remembers the system's error: tarfile and its decoders make one of their own of it, as of damaged contents."""

    trouble: OSError | None = None

    def readinto(self, buffer: Any) -> int | None:
        try:
            return super().readinto(buffer)
        except OSError as error:
            self.trouble = error
            raise


def read_tar(path: str) -> Iterator[Sample]:
    """The samples of a webdataset tar: files that share their name up to its first dot, of which the first picture counts.

    Raises:
        PassingError: the system cannot read it now.
    """
    if readable_state(path) == UNREADABLE:
        yield Sample("", error=why_unreadable(path))
        return
    try:
        file = WatchedFile(path)
    except OSError as error:
        raise passing(path, error) or PassingError(change_of(path)) from error
    with file:
        yield from _read(file, path)


def _read(file: WatchedFile, path: str) -> Iterator[Sample]:
    key, found = None, True
    try:
        with tarfile.open(path, "r:*", io.BufferedReader(file), tarinfo=StrictMember) as tar:
            links = Links(tar, path)
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # it would keep every header
                name = member.name.removeprefix("./")
                stem, ending = split_key(name)
                is_picture = f".{ending.lower()}" in ENDINGS
                if _is_meta(name) or not (member.isfile() or (is_picture and is_link(member))):
                    continue
                if stem != key:
                    if not found:
                        yield _without_picture(str(key), path)
                    key, found = stem, False
                if is_picture and not found:
                    found = True
                    yield links.sample(member, stem) if is_link(member) else _member(tar, member, stem, path)
    except BROKEN as error:
        trouble = file.trouble or (error if isinstance(error, OSError) else None)
        passes = passing(path, trouble) if trouble else None
        if passes:
            raise passes from error
        yield Sample("" if found else str(key), error=f"{path} is cut off or damaged from here on: write or copy it again")
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
        return Sample(key, error=too_large(f"{member.name} in {path}"))
    file = tar.extractfile(member)
    content = b"" if file is None else file.read()
    if len(content) < member.size:
        raise ReadError("unexpected end of data")
    return Sample(key, content)


def _without_picture(key: str, path: str) -> Sample:
    return Sample(key, error=f"the sample {key} in {path} holds no picture")


# Links ------------------------------------------------------------------------------------------


def is_link(member: tarfile.TarInfo) -> bool:
    return member.islnk() or member.issym()


class Links:
    """The pictures that links of a tar lead to."""

    def __init__(self, tar: tarfile.TarFile, path: str) -> None:
        self.tar, self.path = tar, path
        self.members: dict[str, list[tarfile.TarInfo]] | None = None  # by name, in their order; read when a link is met

    def sample(self, link: tarfile.TarInfo, key: str) -> Sample:
        """The picture that a link leads to, or an error that names both."""
        why = "which a compressed tar is not searched for"
        if isinstance(self.tar.fileobj, io.BufferedReader):
            member, why = self._target(link), "which is no whole file in it"
            with suppress(ReadError):  # it is cut off, and what follows the link need not be
                if member is not None:
                    return _member(self.tar, member, key, self.path)
        told = f"{link.name} in {self.path} is a link to {link.linkname}, {why}"
        return Sample(key, error=f"{told}: write the tar with --dereference --hard-dereference")

    def _target(self, link: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if self.members is None:
            self.members = _headers(self.path)
        found: tarfile.TarInfo | None = link
        for _ in range(MAX_LINKS):
            if found is None or not is_link(found):
                break
            found = self._next(found)
        return found if found is not None and found.isfile() else None

    def _next(self, link: tarfile.TarInfo) -> tarfile.TarInfo | None:
        """What stands where a link leads: a hard link to what was written before it, a symbolic one from its own folder."""
        folder = posixpath.dirname(link.name) if link.issym() else ""
        members = (self.members or {}).get(_plain(posixpath.join(folder, link.linkname)), [])
        return next((m for m in reversed(members) if link.issym() or m.offset < link.offset), None)


def _headers(path: str) -> dict[str, list[tarfile.TarInfo]]:
    """The files and links of an uncompressed tar by their names, as far as it is whole; raises what the system says of it."""
    found: dict[str, list[tarfile.TarInfo]] = {}
    with WatchedFile(path) as file:
        with suppress(*BROKEN), tarfile.open(path, "r:", io.BufferedReader(file), tarinfo=StrictMember) as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]
                if member.isfile() or is_link(member):
                    found.setdefault(_plain(member.name), []).append(member)
        if file.trouble:
            raise file.trouble
    return found


def _plain(name: str) -> str:
    return posixpath.normpath(name)
