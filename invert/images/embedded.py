"""The prompt that a picture's file already carries, where the program that drew it left one there.

Read are the text chunks of PNG (`parameters` of AUTOMATIC1111 and Fooocus, `prompt` and `workflow` of ComfyUI,
`invokeai_metadata`, `sd-metadata` and `Dream` of InvokeAI, `Description` of NovelAI) and EXIF (the UserComment of JPEG
and WebP; ComfyUI's tags in WebP). Whatever is malformed is read as no prompt. Pixels are not decoded.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from PIL import Image

from invert.images.comfyui import positive_prompt
from invert.images.formats import FORMATS
from invert.silence import no_warnings

USER_COMMENT, EXIF_IFD, MAKE, MODEL = 0x9286, 0x8769, 0x010F, 0x0110
BLANK = "\0 \r\n\t"
MAX_TEXT = 1 << 20  # characters of a chunk that is looked at
# What `invert.images.metadata` puts behind a prompt: settings that nobody sets, so that readers of A1111's find where it ends.
SIGNATURE = "\nSoftware: Invert, Source: the picture, Kind: prompt inversion"
SETTINGS = re.compile(r"\n(?:Negative prompt:|Steps: \d|Software: Invert, )")
DREAM = re.compile(r'^"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class EmbeddedPrompt:
    """prompt: not empty. source: the program and place it was found in, for people."""

    prompt: str
    source: str

    def to_json(self) -> dict[str, str]:
        return vars(self).copy()


def read_embedded(source: str | Path | bytes | IO[bytes]) -> EmbeddedPrompt | None:
    """The prompt in a picture's file, or None; never an error, whatever the file holds.

    Args:
        source: a path, the bytes of a file, or a seekable stream, which is left at its beginning.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with no_warnings():
            return _first(_texts_of(stream))
    except Exception:  # a reader may raise anything on damaged metadata
        return None
    finally:
        if not isinstance(stream, str | Path):
            stream.seek(0)


def _first(texts: Mapping[str, str]) -> EmbeddedPrompt | None:
    for key, (program, read) in READERS.items():
        text = texts.get(key, "")
        if not text or len(text) > MAX_TEXT:
            continue
        try:
            prompt = read(text)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            continue
        if isinstance(prompt, str) and prompt.strip(BLANK):
            return EmbeddedPrompt(prompt.strip(BLANK).encode("utf-8", "replace").decode(), program)
    return None


def _texts_of(stream: str | Path | IO[bytes]) -> dict[str, str]:
    """Key → text of everything that may hold a prompt."""
    with Image.open(stream, formats=[name for name in FORMATS if name in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF")]) as image:
        texts = {key: value for key, value in image.info.items() if isinstance(key, str) and isinstance(value, str)}
        exif = image.getexif()
        comment = exif.get_ifd(EXIF_IFD).get(USER_COMMENT)
        if comment:
            texts.setdefault("UserComment", user_comment(comment))
        for tag in (MODEL, MAKE):  # "prompt:{…}" and "workflow:{…}"
            name, colon, value = str(exif.get(tag, "")).partition(":")
            if colon and name in ("prompt", "workflow"):
                texts.setdefault(name, value)
        return texts


def user_comment(value: bytes | str) -> str:
    """The text of an EXIF UserComment: eight bytes name its character set, of which UNICODE may be of either order."""
    if isinstance(value, str):
        return value
    code, body = bytes(value[:8]), bytes(value[8:])
    if code == b"UNICODE\0":
        zeros_first = body[::2].count(0) >= body[1::2].count(0)  # in Latin text the high byte is zero
        return body.decode("utf-16-be" if zeros_first else "utf-16-le", "replace")
    if code in (b"ASCII\0\0\0", b"\0" * 8):
        return body.decode("utf-8", "replace")
    return bytes(value).decode("utf-8", "replace")


def of_parameters(text: str) -> str:
    """AUTOMATIC1111: the prompt, then "Negative prompt:" and a line of settings. Fooocus: an object."""
    if text.lstrip().startswith("{"):
        return _member(json.loads(text), "prompt", "Prompt")
    found = SETTINGS.search(f"\n{text}")
    return text if found is None else text[: max(0, found.start() - 1)]


def of_invokeai(text: str) -> str:
    return _member(json.loads(text), "positive_prompt")


def of_sd_metadata(text: str) -> str:
    """InvokeAI 2: {"image": {"prompt": text, or [{"prompt": text, "weight": 1}, …]}}."""
    prompt = json.loads(text)["image"]["prompt"]
    return prompt if isinstance(prompt, str) else ", ".join(part["prompt"] for part in prompt)


def of_dream(text: str) -> str:
    """InvokeAI 1: a command line that begins with the prompt in quotes."""
    found = DREAM.match(text)
    return "" if found is None else found[1].replace('\\"', '"')


def of_comment(text: str) -> str:
    """A UserComment, which is anybody's: a prompt only where settings follow."""
    if text.lstrip().startswith("{"):
        return _member(json.loads(text), "prompt", "positive_prompt")
    return of_parameters(text) if SETTINGS.search(f"\n{text}") else ""


def _member(value: Any, *names: str) -> str:
    return next((value[name] for name in names if isinstance(value.get(name), str)), "")


READERS: dict[str, tuple[str, Callable[[str], str]]] = {
    "parameters": ("parameters", of_parameters),
    "UserComment": ("EXIF UserComment", of_comment),
    "prompt": ("ComfyUI prompt", positive_prompt),
    "workflow": ("ComfyUI workflow", positive_prompt),
    "invokeai_metadata": ("InvokeAI metadata", of_invokeai),
    "sd-metadata": ("InvokeAI sd-metadata", of_sd_metadata),
    "Dream": ("InvokeAI Dream", of_dream),
    "Description": ("NovelAI Description", str),
}
