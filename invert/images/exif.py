"""A UserComment into an EXIF block (TIFF), by appending: no offset in it moves, so nothing that it holds breaks."""

from __future__ import annotations

import struct

USER_COMMENT, EXIF_POINTER = 0x9286, 0x8769
LONG, UNDEFINED = 4, 7  # types of an entry's value
ENTRY = 12  # bytes
MAX_ENTRIES = 4_096
EMPTY = b"MM\0\x2a\0\0\0\x08\0\0\0\0\0\0"  # big-endian, one directory without entries


def with_comment(block: bytes, text: str) -> bytes:
    """The block with the text as its UserComment.

    Args:
        block: EXIF data from its TIFF header on; empty where there is none.
        text: of any characters; written as UTF-16, big-endian, as A1111's own.

    Raises:
        struct.error, ValueError: the block is damaged.
    """
    block = block or EMPTY
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or struct.unpack(f"{order}H", block[2:4])[0] != 42:
        raise ValueError("no TIFF header")
    (first,) = struct.unpack(f"{order}I", block[4:8])
    entries, following = directory(block, first, order)
    exif_entries: list[bytes] = []
    after_exif = 0
    if (pointer := find(entries, EXIF_POINTER, order)) is not None:
        exif_entries, after_exif = directory(block, struct.unpack(f"{order}I", pointer[8:12])[0], order)
    out = bytearray(block + b"\0" * (len(block) % 2))

    comment = b"UNICODE\0" + text.encode("utf-16-be", "replace")
    place = append(out, comment)
    entry = struct.pack(f"{order}HHII", USER_COMMENT, UNDEFINED, len(comment), place)
    exif_place = append(out, packed(put(exif_entries, entry, order), after_exif, order))
    if pointer is not None:  # it may be pointed elsewhere where it stands
        at = first + 2 + ENTRY * entries.index(pointer) + 8
        out[at : at + 4] = struct.pack(f"{order}I", exif_place)
        return bytes(out)
    entry = struct.pack(f"{order}HHII", EXIF_POINTER, LONG, 1, exif_place)
    out[4:8] = struct.pack(f"{order}I", append(out, packed(put(entries, entry, order), following, order)))
    return bytes(out)


def append(out: bytearray, part: bytes) -> int:
    """Put a part behind, on an even place; the place."""
    place = len(out)
    out += part + b"\0" * (len(part) % 2)
    return place


def directory(block: bytes, place: int, order: str) -> tuple[list[bytes], int]:
    """The entries of the directory there, and the place of the next."""
    (n,) = struct.unpack(f"{order}H", block[place : place + 2])
    end = place + 2 + ENTRY * n
    if n > MAX_ENTRIES or end > len(block):
        raise ValueError("a directory is cut off")
    following = struct.unpack(f"{order}I", block[end : end + 4])[0] if end + 4 <= len(block) else 0
    return [block[i : i + ENTRY] for i in range(place + 2, end, ENTRY)], following


def tag_of(entry: bytes, order: str) -> int:
    return int(struct.unpack(f"{order}H", entry[:2])[0])


def find(entries: list[bytes], tag: int, order: str) -> bytes | None:
    return next((entry for entry in entries if tag_of(entry, order) == tag), None)


def put(entries: list[bytes], entry: bytes, order: str) -> list[bytes]:
    """The entries with this one in its tag's place; they are sorted by tag."""
    tag = tag_of(entry, order)
    return sorted([old for old in entries if tag_of(old, order) != tag] + [entry], key=lambda e: tag_of(e, order))


def packed(entries: list[bytes], following: int, order: str) -> bytes:
    return struct.pack(f"{order}H", len(entries)) + b"".join(entries) + struct.pack(f"{order}I", following)
