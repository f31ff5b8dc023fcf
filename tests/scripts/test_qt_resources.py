"""The files of a Qt resource collection come out as they went in."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from qt_resources import read_resources


def collection(version: int, flags: int = 0) -> bytes:
    """A root with "a/long.txt", which zlib compresses, and "b", which has the flags."""
    long = b"again " * 50
    packed = struct.pack(">I", len(long)) + zlib.compress(long)
    files = struct.pack(">I", len(packed)) + packed + struct.pack(">I", 3) + b"\x00\xff!"
    names, places = b"", []
    for name in ("a", "long.txt", "b"):
        places.append(len(names))
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    time = b"" if version == 1 else bytes(8)
    tree = struct.pack(">IHII", 0, 2, 2, 1) + time  # the root, its two children from the second node on
    tree += struct.pack(">IHII", places[0], 2, 1, 3) + time
    tree += struct.pack(">IHHHI", places[2], flags, 0, 0, 4 + len(packed)) + time
    tree += struct.pack(">IHHHI", places[1], 1, 0, 0, 0) + time
    return b"qres" + struct.pack(">4I", version, 20, 20 + len(tree), 20 + len(tree) + len(files)) + tree + files + names


@pytest.mark.parametrize("version", [1, 2])
def test_files_come_out_by_their_names_with_folders(version: int, tmp_path: Path) -> None:
    (tmp_path / "all.rcc").write_bytes(collection(version))
    assert read_resources(tmp_path / "all.rcc") == {"a/long.txt": b"again " * 50, "b": b"\x00\xff!"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04", "is no Qt resource collection"),
        (collection(9), "version 9; 1 to 3 are read"),
        (collection(2, flags=4), "b is compressed in a way that is not read here"),
    ],
)
def test_what_cannot_be_read_is_said(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "all.rcc").write_bytes(content)
    with pytest.raises(ValueError, match=says):
        read_resources(tmp_path / "all.rcc")
