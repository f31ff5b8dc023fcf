"""Files of users: found without surprises, checked before the work, written whole.

A regular file is written under another name in its own folder and renamed, so that whoever reads it
meanwhile, or a process that is killed, never leaves half a file; its mode and the links to it stay.
Pipes, devices and sockets are written into as they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from invert.errors import InputError

try:
    import fcntl
except ImportError:  # not on Windows, where leftovers stay
    fcntl = None  # type: ignore[assignment]

ATTEMPTS = 3
PREFIX, PARTIAL = ".invert-", ".partial"  # around the name of what is not yet whole
SPECIAL_FOLDERS = ("/dev/", "/proc/")  # where a name may stand for an open descriptor


def write_file(path: str | Path, content: bytes, tidy: bool = True) -> None:
    """Write the whole content, on the disk before it takes its place; OSError where that fails, and then nothing of it is left.

    tidy: look through the folder for what killed writers left of this file, which takes a while where there are many files.
    """
    name = os.fspath(path)
    if not _is_replaceable(name):
        _write_into(name, content)
        return
    target = os.path.realpath(name)  # a link stays a link
    for _ in range(ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):  # another writer took ours for a leftover before it was locked
            return _replace(target, content, tidy)
    _replace(target, content, tidy)


def _replace(target: str, content: bytes, tidy: bool) -> None:
    """Write a partial file and put it in the target's place."""
    try:
        with replacing(target, tidy) as file:
            _write_all(file.fileno(), content)
    except _FolderReadOnly as error:
        if not os.path.exists(target):
            raise error.__cause__ or error from None
        _write_into(target, content)  # the file may be written, its folder may not


class _FolderReadOnly(Exception):
    """No partial file can be made beside the target."""


@contextlib.contextmanager
def replacing(target: str, tidy: bool = True) -> Iterator[BinaryIO]:
    """A file that takes the target's place when the context ends well, and of which nothing is left otherwise.

    tidy: as for `write_file`.
    """
    if tidy:
        remove_leftovers(target)
    try:
        partial = _partial_name(target)
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except PermissionError as error:
        raise _FolderReadOnly from error
    try:
        _prepare(handle, target)
        with os.fdopen(os.dup(handle), "wb") as file:
            yield file
        os.fsync(handle)
        os.replace(partial, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise
    finally:
        os.close(handle)


def _is_replaceable(name: str) -> bool:
    """Whether the path is a regular file with one name, or nothing yet."""
    try:
        found = os.stat(name)
    except FileNotFoundError:
        return True
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and not os.path.abspath(name).startswith(SPECIAL_FOLDERS)


def _write_into(name: str, content: bytes) -> None:
    """Into what is there already. A descriptor's name ("/dev/stdout") is appended to: what was printed stays."""
    special = os.path.abspath(name).startswith(SPECIAL_FOLDERS)
    mode = os.O_APPEND if special or not os.path.isfile(name) else os.O_TRUNC
    handle = os.open(name, os.O_WRONLY | mode)
    try:
        _write_all(handle, content)
    finally:
        os.close(handle)


def _prepare(handle: int, target: str) -> None:
    """Lock the partial file, and give it the mode and owner of the file that it will replace."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with contextlib.suppress(FileNotFoundError):
        old = os.stat(target)
        with contextlib.suppress(OSError, AttributeError):  # only root gives files away
            os.fchown(handle, old.st_uid, old.st_gid)
        os.fchmod(handle, stat.S_IMODE(old.st_mode))


def _write_all(handle: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]


def _prefix(target: str) -> str:
    """What the partial files of a target begin with; short, so that the longest names have one."""
    return f"{PREFIX}{hashlib.sha256(os.fsencode(os.path.basename(target))).hexdigest()[:12]}-"


def _partial_name(target: str) -> str:
    return os.path.join(os.path.dirname(target), f"{_prefix(target)}{secrets.token_hex(4)}{PARTIAL}")


def remove_leftovers(target: str) -> None:
    """Delete partial files of the target whose writer was killed: a living writer holds a lock on its own."""
    _remove_partials(os.path.dirname(target) or ".", _prefix(target))


def remove_all_leftovers(folder: str) -> None:
    """The same of every file in a folder."""
    _remove_partials(folder, PREFIX)


def _remove_partials(folder: str, prefix: str) -> None:
    if fcntl is None:
        return
    with contextlib.suppress(OSError):
        for name in _partials(folder, prefix):
            handle = os.open(name, os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name)
            except OSError:
                pass  # being written, or not ours
            finally:
                os.close(handle)


def _partials(folder: str, prefix: str) -> Iterator[str]:
    for entry in os.listdir(folder):
        if entry.startswith(prefix) and entry.endswith(PARTIAL):
            yield os.path.join(folder, entry)


def check_writable(path: str | Path, parameter: str) -> None:
    """InputError that names the parameter where the path cannot be written; leaves everything as it was."""
    name = os.fspath(path)
    try:
        reason = _why_not_writable(name)
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:  # a null byte
        reason = str(error)
    if reason:
        raise InputError(f"`{parameter}`: cannot write {name}: {reason}; choose a writable path")


def _why_not_writable(name: str) -> str:
    """The reason, or "". A new file is tried for real: rights alone do not tell of quotas and odd file systems."""
    if not name or os.path.isdir(name):
        return "it is a folder"
    if os.path.exists(name):
        return "" if os.access(name, os.W_OK) else "permission denied"
    target = os.path.realpath(name)
    if len(os.fsencode(os.path.basename(target))) > 255:
        return "the name is too long"
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        return f"there is no folder {folder}"
    partial = _partial_name(target)
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    os.unlink(partial)
    return ""


def write_output(path: str | Path, content: bytes, tidy: bool = True) -> None:
    """`write_file`, with an InputError of one sentence where it fails."""
    with output_errors(path):
        write_file(path, content, tidy)


@contextlib.contextmanager
def whole_output(path: str | Path) -> Iterator[BinaryIO]:
    """`replacing`, for what is written bit by bit, with an InputError of one sentence where that fails."""
    with output_errors(path):
        try:
            with replacing(os.path.realpath(path)) as file:
                yield file
        except _FolderReadOnly as error:
            raise error.__cause__ or error from None


@contextlib.contextmanager
def output_errors(path: str | Path) -> Iterator[None]:
    """Within the context what fails to be written to the path is an InputError."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot write {os.fspath(path)}: {reason}; choose a writable path") from error


@contextlib.contextmanager
def opened_text(name: str, parameter: str, item: str) -> Iterator[TextIO]:
    """A user's UTF-8 file of one item a line, open for reading.

    Args:
        name: the file.
        parameter: names it in an error.
        item: what a line holds: "prompt".

    Raises:
        InputError: it cannot be read, or is no text. Raised while it is read too.
    """
    wanted = f"give a UTF-8 text file with one {item} a line"
    try:
        with open(name, encoding="utf-8-sig") as file:
            yield file
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"the `{parameter}` {name} cannot be read: {wanted}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"the `{parameter}` {name} cannot be read ({reason}): {wanted}") from error
