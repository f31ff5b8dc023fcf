"""Gradio's inputs for files, made safe: what a visitor sends is an uploaded file and never an address or another path.

Gradio's own picture opens files by any of Pillow's readers and follows addresses; ours hands the file on unopened, to be
read by `invert.images`.
"""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.component_meta import ComponentMeta
from gradio.data_classes import FileData, ImageData, ListFiles
from gradio.utils import get_upload_folder
from gradio_client.utils import is_http_url_like

from invert.app.service import Upload, sentence
from invert.errors import InputError


@contextmanager
def told() -> Iterator[None]:
    """Within the context an error becomes one sentence in the page, and the error of the API."""
    try:
        yield
    except gr.Error:
        raise
    except Exception as error:
        title = "This cannot be done" if isinstance(error, InputError) else "Something went wrong"
        raise gr.Error(sentence(error), title=title, print_exception=False) from error


def upload_of(file: FileData | ImageData) -> Upload:
    """The uploaded file.

    Raises:
        gr.Error: it is an address, data in the request itself, or a path outside the folder of uploads.
    """
    path = file.path or ""
    if not path or is_http_url_like(path) or not Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve()):
        raise gr.Error("upload the picture itself: neither addresses nor paths are followed", print_exception=False)
    return Upload(path, file.orig_name or Path(path).name)


class NoStubs(ComponentMeta):
    """Gradio's metaclass, without the .pyi file that it writes beside the source of every component it meets."""

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> Any:
        return ABCMeta.__new__(cls, name, bases, attrs)


class NoStubsOfBlocks(type(gr.Blocks)):  # type: ignore[misc]
    """Likewise, of a page."""

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> Any:
        return type.__new__(cls, name, bases, attrs)


class Blocks(gr.Blocks, metaclass=NoStubsOfBlocks):
    """Gradio's, but what a component refuses is the visitor's to read: no traceback on the terminal of the server."""

    async def preprocess_data(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().preprocess_data(*args, **kwargs)
        except gr.Error as error:
            error.print_exception = False
            raise
        except Exception as error:
            reason = str(error.__cause__ or error).partition("\n")[0]
            raise gr.Error(f"a value is not of the kind that its parameter takes: {reason}", print_exception=False) from error


class UploadsOnly:
    """A component that downloads nothing. Those made of it take their base's arguments, which Gradio reads off `__init__`."""

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        if url_or_file_path is not None and is_http_url_like(str(url_or_file_path)):
            raise gr.Error("upload the picture itself: addresses are not followed", print_exception=False)
        moved: str | None = await super().async_move_resource_to_block_cache(url_or_file_path)  # type: ignore[misc]
        return moved


class PictureInput(UploadsOnly, gr.Image, metaclass=NoStubs):
    """One picture; handlers are given an `Upload`, or None."""

    def preprocess(self, payload: ImageData | None) -> Upload | None:  # type: ignore[override]
        return None if payload is None else upload_of(payload)

    def get_block_name(self) -> str:
        return "image"

    def get_block_class(self) -> str:
        return "image"


class PicturesInput(UploadsOnly, gr.File, metaclass=NoStubs):
    """Several pictures; handlers are given a list of `Upload`s."""

    def preprocess(self, payload: ListFiles | FileData | None) -> list[Upload]:  # type: ignore[override]
        if payload is None:
            return []
        return [upload_of(file) for file in (payload if isinstance(payload, ListFiles) else [payload])]

    def get_block_name(self) -> str:
        return "file"

    def get_block_class(self) -> str:
        return "file"


def chosen(picture: Upload | None) -> Upload:
    """The picture; InputError where none was chosen."""
    if picture is None:
        raise InputError("there is no picture yet: choose one first")
    return picture
