"""The HTTP API: one named endpoint for each thing the app does, with plain JSON out. docs/app.md is its reference.

The names, the parameters and their order are kept stable; the page's own events are not part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from invert.app.components import PictureInput, PicturesInput, chosen, told
from invert.app.handlers import Handlers, session_of, zipped
from invert.app.service import Row, Upload

MODEL: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}  # of everything that computes: one at a time


@dataclass(frozen=True)
class Inputs:
    """Components of the page whose kind and defaults the endpoints share; settings are in the order of SETTINGS."""

    picture: PictureInput
    pictures: PicturesInput
    settings: list[Any]
    methods: Any
    top: Any
    prompt: Any
    images: Any
    seed: Any


def row_json(row: Row) -> dict[str, Any]:
    """A row as plain JSON types: its result, or its problem."""
    if row.result is None:
        return {"label": row.label, "problem": row.problem}
    judged = {} if row.judge is None else {"judge": row.judge}
    return {"label": row.label, **row.result.to_json(), **judged}


class Endpoints:
    """The functions behind the endpoints; their parameters are the endpoints'."""

    def __init__(self, handlers: Handlers) -> None:
        self.handlers, self.service = handlers, handlers.service

    def invert(
        self,
        request: gr.Request,
        picture: Upload | None,
        method: str,
        tokens: float,
        max_tokens: float,
        seed: float,
        seconds: float,
        init_prompt: str,
        must_include: str,
        ban: str,
    ) -> Any:
        """The prompt of a picture, with its score, alternatives, concepts and costs. After /stop the best so far."""
        with told():
            config = self.service.config(method, **settings(tokens, max_tokens, seed, seconds, init_prompt, must_include, ban))
            *_, last = self.service.search(chosen(picture), config, session_of(request))
            assert last.result is not None
            return last.result.to_json()

    def compare(self, request: gr.Request, picture: Upload | None, methods: list[str], seed: float, seconds: float) -> Any:
        """Several methods on one picture: a list of results, each with its cosine under the judge."""
        with told():
            config = self.service.config(**settings(seed=seed, seconds=seconds))
            *_, rows = self.service.compare(chosen(picture), methods, config, session_of(request))
            return [row_json(row) for row in rows]

    def batch(self, request: gr.Request, pictures: list[Upload], method: str, seed: float, seconds: float) -> Any:
        """The prompts of several pictures: a list of results, and a zip with NAME.txt and NAME.json of each."""
        with told():
            config = self.service.config(method, **settings(seed=seed, seconds=seconds))
            *_, rows = self.service.each(pictures, config, session_of(request))
            return [row_json(row) for row in rows], zipped(rows)

    def analyze(self, picture: Upload | None, top: float) -> Any:
        """The phrases of each category that the picture is nearest to, with their cosines."""
        with told():
            return self.service.analyze(chosen(picture), int(top)).to_json()

    def draw(self, prompt: str, images: float, seed: float, picture: Upload | None) -> Any:
        """Images that the generator draws of a prompt, each with a caption."""
        return self.handlers.draw(prompt, images, seed, picture)

    def embedded(self, picture: Upload | None) -> Any:
        """The prompt that the file itself carries, and where it was found; empty where there is none."""
        with told():
            found = self.service.embedded(chosen(picture))
            return {} if found is None else found.to_json()

    def stop(self, request: gr.Request) -> Any:
        """End the search that this client runs; whether one ran."""
        return {"stopped": self.handlers.stop(request)}

    def methods(self) -> Any:
        """The names of the methods that can run here."""
        return list(self.service.methods)


def settings(
    tokens: float | None = None,
    max_tokens: float | None = None,
    seed: float | None = None,
    seconds: float | None = None,
    init_prompt: str = "",
    must_include: str = "",
    ban: str = "",
) -> dict[str, Any]:
    """The settings by name, as `Service.config` takes them."""
    return locals()


def offer(handlers: Handlers, inputs: Inputs) -> None:
    """Add the endpoints to the page that is being built."""
    endpoints = Endpoints(handlers)
    method, *_ = inputs.settings
    seed, seconds = inputs.settings[3:5]
    answer = gr.JSON(visible=False, label="answer")
    archive = gr.File(visible=False, label="zip")
    gallery = gr.Gallery(visible=False, label="images", format="png")
    for function, parameters, outputs in (
        (endpoints.invert, [inputs.picture, *inputs.settings], answer),
        (endpoints.compare, [inputs.picture, inputs.methods, seed, seconds], answer),
        (endpoints.batch, [inputs.pictures, method, seed, seconds], [answer, archive]),
        (endpoints.analyze, [inputs.picture, inputs.top], answer),
        (endpoints.draw, [inputs.prompt, inputs.images, inputs.seed, inputs.picture], gallery),
    ):
        gr.on([], function, parameters, outputs, api_name=function.__name__, **MODEL)
    gr.on([], endpoints.embedded, inputs.picture, answer, api_name="embedded")
    gr.on([], endpoints.stop, None, answer, api_name="stop", queue=False)
    gr.on([], endpoints.methods, None, answer, api_name="methods", queue=False)
