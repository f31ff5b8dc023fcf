"""A shard → its pictures one after the other, still encoded, each with its key or with what is wrong with it.

A shard is read from front to back once, and no more of it is in memory than the picture in hand. What is wrong with one
picture is told in its place; what is wrong with the machine is a PassingError, and the shard is done another time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from invert.batch.parquet import ColumnError, read_rows
from invert.batch.samples import MAX_BYTES, Sample, too_large
from invert.batch.shards import Shard
from invert.batch.states import UNREADABLE, PassingError, State, change_of, passing, readable_state, state_of, why_unreadable
from invert.batch.tars import read_tar
from invert.errors import InputError

CLOCK_TICK = 0.02  # seconds: the coarsest clock of a common file system, twice
ATTEMPTS = 3  # at a picture that changes while it is read


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
    """The pictures that the shard's list names; the key of each is its path in the folder.

    Raises:
        PassingError: one of them is not as it was listed, or the system cannot read it now.
        InputError: the list has gone.
    """
    for key, planned in shard.listed():
        path = os.path.join(shard.source, key)
        if planned == UNREADABLE == readable_state(path):
            yield Sample(key, error=why_unreadable(path))
        else:
            yield read_picture(key, path, planned)


def read_picture(key: str, path: str, planned: State | None = None) -> Sample:
    """A file as one consistent whole: read again where it changes meanwhile.

    planned: its state when it was listed; None where none is known.

    Raises:
        PassingError: it is another one than the planned, it changes all the time, or the system cannot read it now.
    """
    for _ in range(ATTEMPTS):
        before = state_of(path)
        if planned not in (None, before):
            raise PassingError(change_of(path))
        if before[0] > MAX_BYTES:
            return Sample(key, error=too_large(path))
        if before != UNREADABLE and not os.path.isfile(path):  # a pipe would be waited for
            return Sample(key, error=why_unreadable(path))
        try:
            with open(path, "rb") as file:
                content = file.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            return Sample(key, error=_sentence(path, error, planned))
        if len(content) == before[0] and _is_settled(path, before):
            return Sample(key, content)
    raise PassingError(change_of(path))


def _sentence(path: str, error: OSError | ValueError, planned: State | None) -> str:
    """On a picture that cannot be opened or read; raises PassingError where that may pass."""
    if planned is not None and readable_state(path) != planned:
        raise PassingError(change_of(path)) from error
    passes = passing(path, error) if isinstance(error, OSError) else None
    if passes:
        raise passes from error
    if readable_state(path) == UNREADABLE:
        return why_unreadable(path)
    return f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"


def _is_settled(path: str, state: State) -> bool:
    """Whether the file is as it was. Two writes within one tick of the file system's clock leave the same time."""
    if time.time() - state[1] / 1e9 < CLOCK_TICK:
        time.sleep(CLOCK_TICK)
    return state_of(path) == state


# Parquet ----------------------------------------------------------------------------------------


def read_parquet(shard: Shard, columns: Columns) -> Iterator[Sample]:
    """The rows of the shard's row groups.

    Raises:
        ColumnError: there is no such column.
        PassingError: the file, or a picture that it names, cannot be read now.
    """
    try:
        for key, picture in read_rows(shard.source, shard.groups, columns.picture, columns.key):
            if picture is None:
                yield Sample(key, error=f"the row {key} of {shard.source} holds no picture")
            elif isinstance(picture, bytes):
                yield Sample(key, picture)
            elif "://" in picture:
                yield Sample(key, error=f"{picture} is an address: download the pictures first, for example by img2dataset")
            else:
                yield _read_named(key, picture)
    except (ColumnError, PassingError):  # the one is the user's to mend, and the same for every shard
        raise
    except InputError as error:
        yield Sample("", error=str(error))


def _read_named(key: str, path: str) -> Sample:
    """A picture that a row names by its path."""
    sample = read_picture(key, path)
    return replace(sample, missing=path) if sample.error and readable_state(path) == UNREADABLE else sample
