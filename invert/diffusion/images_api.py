"""The images API that OpenAI began and many servers speak: one prompt is posted, one image comes back.

POST /v1/images/generations with `prompt`, `n`, and where they are asked for `model`, `size`, `seed`; the answer holds
`data[0].b64_json` or `data[0].url`. Time and size are bounded, every failure is one sentence, and the key, from the
environment variable INVERT_GENERATOR_KEY, goes to that server alone and into no message. Nothing here needs torch.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin

from invert.errors import InputError
from invert.images.addresses import DownloadLimits, Reply, download
from invert.json_api import JsonApi, route_of

KEY = "INVERT_GENERATOR_KEY"
ROUTE = "/v1/images/generations"
LIMITS = DownloadLimits(seconds=300.0)  # of one image; some services take minutes
MODERATION = re.compile(r"content.?policy|moderation|safety.?system|content.?filter", re.IGNORECASE)


class Withheld(Exception):
    """The server draws no such prompt, on principle."""


class SeedRefused(Exception):
    """The server takes no `seed`."""


def endpoint_url(address: str) -> str:
    """Where images are asked for: a server, its /v1, or the whole route → the whole route.

    Raises:
        InputError: it is no http(s) address.
    """
    return route_of(address, ROUTE)


class ImagesApi(JsonApi):
    """One server."""

    called, brings, key_name, route = "the image endpoint", "image", KEY, ROUTE
    settings, model_setting = "`size` and `generator_model`", "generator_model"

    def __init__(self, address: str, limits: DownloadLimits | None = None) -> None:
        """InputError where the address is none, or the key would travel over the internet in the clear."""
        super().__init__(address, limits or LIMITS)

    def image(self, request: Mapping[str, Any]) -> bytes:
        """The bytes of the image that the server draws.

        Raises:
            Withheld: it refuses the prompt.
            SeedRefused: it knows no `seed`, and one was given.
            InputError: anything else that is no image.
        """
        reply = self.answer({**request, "n": 1})
        if reply.status == 200:
            return self.content(reply)
        message = self.message(reply)
        if reply.status in (400, 422) and "seed" in request and "seed" in message.lower():
            raise SeedRefused(message)
        if reply.status in (400, 403) and MODERATION.search(reply.content.decode(errors="replace")):
            raise Withheld(message)
        raise self.refused(reply, message)

    def content(self, reply: Reply) -> bytes:
        """The image that a good answer holds, or leads to."""
        item = first_item(reply.content)
        if item is None:
            raise InputError(
                f"the image endpoint {self.name} answers with no image: check that it speaks OpenAI's images API ({ROUTE})"
            )
        kind, text = item
        encoded = text.partition(",")[2] if text.startswith("data:") else text if kind == "b64_json" else None
        if encoded is None:
            return self.linked(text, reply.from_private)
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError(f"the image endpoint {self.name} answers with a damaged image: try again") from error

    def linked(self, url: str, from_private: bool) -> bytes:
        """The image at an address that the server gives: fetched without the key, and never from a private one of others."""
        try:
            return download(urljoin(self.url, url), self.limits, linked_from_private=from_private)
        except (InputError, ValueError) as error:
            reason = str(error).partition("cannot be downloaded: ")[2].partition(";")[0] or "it is no web address"
            raise InputError(f"the image that the endpoint {self.name} links to does not come: {self.safe(reason)}") from error


def first_item(content: bytes) -> tuple[str, str] | None:
    """("b64_json" or "url", its text) of the first image in an answer; None where there is none."""
    try:
        item = json.loads(content)["data"][0]
        return next((kind, item[kind]) for kind in ("b64_json", "url") if isinstance(item.get(kind), str) and item[kind])
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError, StopIteration):
        return None
