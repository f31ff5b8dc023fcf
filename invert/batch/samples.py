"""A picture of a shard as the readers give it: still encoded, or with what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass

MAX_BYTES = 256 << 20  # of one encoded picture


@dataclass(frozen=True)
class Sample:
    """A picture of a shard.

    Attributes:
        content: its encoded bytes.
        error: what is in their place, "" where nothing is wrong.
        missing: path of a picture that a Parquet file names, where it cannot be read as long as its file is as it is.
    """

    key: str
    content: bytes = b""
    error: str = ""
    missing: str = ""


def too_large(name: str) -> str:
    """A sentence on an encoded picture beyond MAX_BYTES."""
    return f"{name} is larger than {MAX_BYTES >> 20} MiB: give a smaller file"
