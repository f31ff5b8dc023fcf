"""What the file system says of a file without reading it, and whether what is wrong is the file's own or may pass.

A file that may not be read, is not there or is no regular file has the state UNREADABLE: that changes when it is mended, so
that what was made of it is done anew. Anything else that keeps it from being read (a mount that is away, a disk that
fails, a file that changes) is nobody's row: the shard has no output, and is done by the next run.
"""

from __future__ import annotations

import errno
import os
import stat

from invert.errors import InputError

State = tuple[int, int]  # size in bytes, and time of the last change in ns
UNREADABLE: State = (-1, -1)
# Numbers of an OSError over what stands in a file, and over a path that may stay as it is for good.
OF_CONTENTS = (None, errno.EINVAL, errno.EOVERFLOW)
OF_PATHS = (
    *(errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENXIO),
)


class PassingError(InputError):
    """What is wrong may be gone the next time: no row is made of it."""


def state_of(path: str) -> State:
    """Size in bytes and time of the last change in ns; UNREADABLE where there is no such file."""
    status = _status(path)
    return UNREADABLE if status is None else (status.st_size, status.st_mtime_ns)


def readable_state(path: str) -> State:
    """The same; UNREADABLE too where it may not be read, or is a folder or a pipe, which would be waited for."""
    status = _status(path)
    if status is None or not stat.S_ISREG(status.st_mode) or not os.access(path, os.R_OK):
        return UNREADABLE
    return status.st_size, status.st_mtime_ns


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):  # ValueError: a null byte, from a Parquet file
        return None


def why_unreadable(path: str) -> str:
    """A sentence on a file whose state is UNREADABLE.

    Raises:
        PassingError: it may be readable the next time.
    """
    try:
        is_regular = stat.S_ISREG(os.stat(path).st_mode)
    except ValueError as error:
        return f"{path} cannot be read: {error}"
    except OSError as error:
        if error.errno not in OF_PATHS:
            raise _not_now(path, error) from error
        return f"{path} does not exist: check the path"
    return f"{path} may not be read: check its permissions" if is_regular else f"{path} is no regular file: give files"


def change_of(path: str) -> str:
    """A sentence on a file whose state is another one than it was."""
    if os.path.exists(path):
        return f"{path} changed since it was looked up: start again when it is finished"
    return f"{path} has gone since it was looked up: start again, to do without it or when it is back"


def passing(path: str, error: OSError) -> PassingError | None:
    """What an error is where it may pass; None where it is the file's own, or of a path whose state is UNREADABLE."""
    if error.errno in OF_CONTENTS or (error.errno in OF_PATHS and readable_state(path) == UNREADABLE):
        return None
    return _not_now(path, error)


def _not_now(path: str, error: OSError) -> PassingError:
    return PassingError(f"{path} cannot be read now ({error.strerror or error}): mend that and start again")
