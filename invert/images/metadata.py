"""A prompt into a picture's file, every pixel as it was: one chunk of PNG, the EXIF UserComment of JPEG and WebP.

Nothing is decoded or encoded again. Other metadata stays: of EXIF the old block is kept as it is and a new directory
with the comment is put behind it, so that whatever it holds (a camera's notes) keeps its place.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from invert.errors import InputError
from invert.images.embedded import SIGNATURE
from invert.images.exif import with_comment

KEYWORD = b"parameters"
PNG_START = b"\x89PNG\r\n\x1a\n"
APP1_LIMIT = 65_533  # bytes of a JPEG segment, its length aside
EXIF_START = b"Exif\0\0"
EXIF_FLAG, ALPHA_FLAG = 0x08, 0x10  # of WebP's extended header


def with_prompt(content: bytes, prompt: str) -> bytes:
    """The file with the prompt in its metadata, in the place of one that was there.

    Args:
        content: a PNG, JPEG or WebP file.
        prompt: without a line of settings.

    Raises:
        InputError: it is another kind of file, is damaged, or its metadata has no room left. It completes "NAME …".
    """
    try:
        if content.startswith(PNG_START):
            return png_with(content, f"{prompt}{SIGNATURE}")
        if content.startswith(b"\xff\xd8"):
            return jpeg_with(content, f"{prompt}{SIGNATURE}")
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            return webp_with(content, f"{prompt}{SIGNATURE}")
    except (struct.error, IndexError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("has damaged metadata, into which nothing can be written: save it again") from error
    raise InputError("has no place for a prompt: metadata is written into PNG, JPEG and WebP files")


# PNG --------------------------------------------------------------------------------------------


def png_with(content: bytes, text: str) -> bytes:
    """The text as the chunk `parameters`, right behind the header; older ones are dropped."""
    out = [PNG_START]
    for kind, chunk in png_chunks(content):
        if kind in (b"tEXt", b"zTXt", b"iTXt") and chunk[8 : 8 + len(KEYWORD) + 1] == KEYWORD + b"\0":
            continue
        out.append(chunk)
        if kind == b"IHDR":
            out.append(text_chunk(text))
    return b"".join(out)


def png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each chunk's kind and its bytes, length and checksum included; last what stands behind the end."""
    place = len(PNG_START)
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        kind, end = content[place + 4 : place + 8], place + 12 + length
        if end > len(content):
            raise ValueError("a chunk is cut off")
        yield kind, content[place:end]
        place = end
        if kind == b"IEND":
            break
    yield b"", content[place:]


def text_chunk(text: str) -> bytes:
    try:
        kind, body = b"tEXt", KEYWORD + b"\0" + text.encode("latin-1")
    except UnicodeEncodeError:
        kind, body = b"iTXt", KEYWORD + b"\0\0\0\0\0" + text.encode()
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


# JPEG -------------------------------------------------------------------------------------------


def jpeg_with(content: bytes, text: str) -> bytes:
    """The text in the EXIF segment, which is made behind JFIF's where there is none."""
    exif, insert, place = None, 2, 2
    while content[place] == 0xFF and content[place + 1] not in (0xDA, 0xD9):
        if content[place + 1] == 0xFF:  # padding before a marker
            place += 1
            continue
        (length,) = struct.unpack(">H", content[place + 2 : place + 4])
        end = place + 2 + length
        if content[place + 1] == 0xE0:
            insert = end
        if content[place + 1] == 0xE1 and content[place + 4 : place + 10] == EXIF_START and exif is None:
            exif = (place, end)
        place = end
    if content[place] != 0xFF:
        raise ValueError("no marker where one belongs")
    first, last = exif or (insert, insert)
    block = EXIF_START + with_comment(content[first + 10 : last], text)
    if len(block) > APP1_LIMIT:
        raise InputError("has no room left in its EXIF data: nothing is written into it")
    return content[:first] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + content[last:]


# WebP -------------------------------------------------------------------------------------------


def webp_with(content: bytes, text: str) -> bytes:
    """The text in the EXIF chunk at the end; a simple file becomes an extended one."""
    chunks = list(webp_chunks(content))
    old = next((body for kind, body in chunks if kind == b"EXIF"), b"")
    exif = with_comment(old.removeprefix(EXIF_START), text)
    kept = [(kind, body) for kind, body in chunks if kind != b"EXIF"]
    if kept[0][0] == b"VP8X":
        flags = kept[0][1]
        kept[0] = b"VP8X", bytes([flags[0] | EXIF_FLAG]) + flags[1:]
    else:
        kept.insert(0, (b"VP8X", extended_header(*kept[0])))
    place = next((i for i, (kind, _) in enumerate(kept) if kind == b"XMP "), len(kept))
    kept.insert(place, (b"EXIF", exif))
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2) for kind, part in kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place, end = 12, 8 + struct.unpack("<I", content[4:8])[0]
    if end > len(content):
        raise ValueError("cut off")
    while place + 8 <= end:
        (length,) = struct.unpack("<I", content[place + 4 : place + 8])
        if place + 8 + length > end:
            raise ValueError("a chunk is cut off")
        yield content[place : place + 4], content[place + 8 : place + 8 + length]
        place += 8 + length + length % 2


def extended_header(kind: bytes, body: bytes) -> bytes:
    """VP8X of a simple file: flags and the size of the canvas, each side less one in 24 bits."""
    if kind == b"VP8L":  # signature, then 14 bits a side less one, and whether alpha is used
        (bits,) = struct.unpack("<I", body[1:5])
        width, height, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1
    elif kind == b"VP8 ":  # frame tag, start code, then 14 bits a side
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", body[6:10]))
        width, height, alpha = width - 1, height - 1, 0
    else:
        raise ValueError("begins with another chunk")
    flags = EXIF_FLAG | (ALPHA_FLAG if alpha else 0)
    return bytes([flags, 0, 0, 0]) + width.to_bytes(3, "little") + height.to_bytes(3, "little")
