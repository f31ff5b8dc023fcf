"""What the page's buttons do: their inputs → the service → values and updates of components."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from invert.app import views
from invert.app.components import chosen, told
from invert.app.service import Row, Service, Upload
from invert.app.sidecars import write_zip
from invert.errors import InputError

SETTINGS = ("method", "tokens", "max_tokens", "seed", "seconds", "init_prompt", "must_include", "ban")


def session_of(request: gr.Request | None) -> str:
    return (request.session_hash if request is not None else None) or ""


def note(text: str, kind: str = "note") -> str:
    return f'<p class="{kind}" role="status">{html.escape(text)}</p>'


class Handlers:
    """The page's functions over one service. Searches take the settings in the order of SETTINGS."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def looked_at(self, picture: Upload | None) -> tuple[Any, Any, Any, Any]:
        """Of the picture that was just chosen: itself, a notice, and the prompt that its file carries with where it was found.

        One that cannot be read leaves the box, where a browser would show a sliver of it, and the notice says why.
        """
        if picture is None:  # one that has just left the box: what is said of it stays
            return gr.skip(), gr.skip(), gr.skip(), gr.skip()
        try:
            found = self.service.embedded(picture)
        except InputError as error:
            return None, note(str(error), "notice problem"), "", ""
        if found is None:
            return gr.skip(), "", "", note("This file carries no prompt.")
        told_of = note("This file carries the prompt that drew it: see In the file.", "notice")
        return gr.skip(), told_of, found.prompt, note(found.source)

    def taken_away(self) -> tuple[str, str, str]:
        """The visitor emptied the box: no notice, and no prompt in a file."""
        return "", "", ""

    def search(self, request: gr.Request, picture: Upload | None, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Prompt, note, curve and details, while it searches."""
        with told():
            config = self.service.config(**dict(zip(SETTINGS, values, strict=True)))
            for progress in self.service.search(chosen(picture), config, session_of(request)):
                details = views.details(progress.result) if progress.result else ""
                yield progress.prompt, note(progress.note), views.curve(progress.entries), details

    def compare(
        self, request: gr.Request, picture: Upload | None, methods: Sequence[str], *values: Any
    ) -> Iterator[tuple[str, str]]:
        """Note and table, a method at a time."""
        with told():
            config = self.service.config(**dict(zip(SETTINGS, values, strict=True)))
            yield note("comparing"), ""
            rows: list[Row] = []
            for rows in self.service.compare(chosen(picture), methods, config, session_of(request)):
                yield note(f"{len(rows)} of {len(methods)} methods"), views.comparison(rows)

    def batch(self, request: gr.Request, pictures: list[Upload], *values: Any) -> Iterator[tuple[str, Any]]:
        """Table, and the zip at the end: of what is done, where it was stopped."""
        with told():
            config = self.service.config(**dict(zip(SETTINGS, values, strict=True)))
            rows: list[Row] = []
            yield views.batch(rows, len(pictures)), gr.update(interactive=False)
            for rows in self.service.each(pictures, config, session_of(request)):
                yield views.batch(rows, len(pictures)), gr.update(interactive=False)
            yield views.batch(rows, len(pictures)), gr.update(value=zipped(rows), interactive=True)

    def analyze(self, picture: Upload | None, top: float) -> str:
        with told():
            return views.analysis(self.service.analyze(chosen(picture), int(top)))

    def draw(self, prompt: str, images: float, seed: float, picture: Upload | None) -> list[tuple[Any, str]]:
        """Images with their captions."""
        with told():
            return [(one.image, one.caption) for one in self.service.draw(prompt, int(images), int(seed), picture)]

    def stop(self, request: gr.Request) -> bool:
        """End this visitor's search; whether one ran."""
        return self.service.sessions.stop(session_of(request))

    def leave(self, request: gr.Request) -> None:
        """End this visitor's search, who pressed the button or left the page."""
        self.stop(request)


def zipped(rows: Sequence[Row]) -> str:
    """The path of a zip of the rows, in the folder that the page serves files from."""
    with told():
        folder = get_upload_folder()
        Path(folder).mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(dir=folder)) / "prompts.zip"
        write_zip(rows, path)
        return str(path)
