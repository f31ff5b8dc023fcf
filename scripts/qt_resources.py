"""Read the files that a Qt resource collection (.rcc) holds, as GCompris ships its pictures.

The format is documented by the source of Qt's own tool alone (qtbase, src/tools/rcc/rcc.cpp): a header with the places of three
tables, a tree of nodes, the files' bytes, and the names in UTF-16; numbers are big-endian.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

MAGIC = b"qres"
NODE = {1: 14, 2: 22, 3: 22}  # version → bytes of a node of the tree
COMPRESSED, FOLDER = 1, 2  # flags of a node


def read_resources(path: Path) -> dict[str, bytes]:
    """Name with its folders, slashes between them → the file's bytes.

    Raises:
        ValueError: the file is no collection, or of a kind that is not read here (a newer version, Zstandard's compression).
    """
    data = path.read_bytes()
    if data[:4] != MAGIC:
        raise ValueError(f"{path} is no Qt resource collection")
    version, tree, files, names = struct.unpack_from(">4I", data, 4)
    if version not in NODE:
        raise ValueError(f"{path} is a Qt resource collection of version {version}; 1 to 3 are read")

    def walk(node: int, above: str) -> Iterator[tuple[str, bytes]]:
        place = tree + node * NODE[version]
        name_offset, flags = struct.unpack_from(">IH", data, place)
        name = above + name_at(data, names + name_offset) if node else ""
        if flags & FOLDER:
            count, first = struct.unpack_from(">II", data, place + 6)
            for child in range(first, first + count):
                yield from walk(child, f"{name}/" if node else "")
            return
        if flags & ~(COMPRESSED | FOLDER):
            raise ValueError(f"{path}: {name} is compressed in a way that is not read here")
        (offset,) = struct.unpack_from(">I", data, place + 10)
        (size,) = struct.unpack_from(">I", data, files + offset)
        content = data[files + offset + 4 : files + offset + 4 + size]
        yield name, zlib.decompress(content[4:]) if flags & COMPRESSED else content  # four bytes of length come first

    return dict(walk(0, ""))


def name_at(data: bytes, place: int) -> str:
    """The name whose length, hash and characters stand at a place."""
    (length,) = struct.unpack_from(">H", data, place)
    return data[place + 6 : place + 6 + 2 * length].decode("utf-16-be")
