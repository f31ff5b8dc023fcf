"""The images API that OpenAI began and many servers speak: one prompt is posted, one image comes back.

POST /v1/images/generations with `prompt`, `n`, and where they are asked for `model`, `size`, `seed`; the answer holds
`data[0].b64_json` or `data[0].url`. Time and size are bounded, every failure is one sentence, and the key, from the
environment variable INVERT_GENERATOR_KEY, goes to that server alone and into no message. Nothing here needs torch.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from invert.errors import InputError
from invert.images.addresses import DownloadLimits, Reply, TransferFailed, download, is_private_host, normal, post, shown

KEY = "INVERT_GENERATOR_KEY"
ROUTE = "/v1/images/generations"
LIMITS = DownloadLimits(seconds=300.0)  # of one image; some services take minutes
BUSY = {429, 503}  # what a server answers that wants to be asked later
PATIENCE = 60.0  # seconds to wait for a busy server before one image, in all
PAUSES = (2.0, 6.0, 18.0)  # seconds before each new try, where the server names none
MOST_SAID = 200  # characters of a server's own message that are shown
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
    parts = urlsplit(normal(address))
    path = parts.path.rstrip("/")
    if not path.endswith("/images/generations"):
        path = path + "/images/generations" if path else ROUTE
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


class ImagesApi:
    """One server. name: its address in messages, without what may be secret in it."""

    def __init__(self, address: str, limits: DownloadLimits | None = None) -> None:
        """InputError where the address is none, or the key would travel over the internet in the clear."""
        self.url, self.limits = endpoint_url(address), limits or LIMITS
        parts = urlsplit(self.url)
        self.name = shown(urlunsplit((parts.scheme, parts.netloc, parts.path.removesuffix(ROUTE), "", "")))
        self.key = os.environ.get(KEY, "").strip()
        if not all(" " < character <= "~" for character in self.key):
            raise InputError(f"the key in {KEY} holds characters that no key has: set it again")
        if self.key and parts.scheme == "http" and not is_private_host(parts.hostname or ""):
            raise InputError(f"the key in {KEY} would reach {self.name} unencrypted: give its https:// address, or unset {KEY}")

    def image(self, request: Mapping[str, Any]) -> bytes:
        """The bytes of the image that the server draws.

        Raises:
            Withheld: it refuses the prompt.
            SeedRefused: it knows no `seed`, and one was given.
            InputError: anything else that is no image.
        """
        reply = self.answer(json.dumps({**request, "n": 1}).encode())
        if reply.status == 200:
            return self.content(reply)
        message = self.message(reply)
        if reply.status in (400, 422) and "seed" in request and "seed" in message.lower():
            raise SeedRefused(message)
        if reply.status in (400, 403) and MODERATION.search(reply.content.decode(errors="replace")):
            raise Withheld(message)
        raise InputError(f"the image endpoint {self.name} {self.refusal(reply, message)}")

    def answer(self, body: bytes) -> Reply:
        """What the server answers, once it is not too busy."""
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "invert"}
        headers |= {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        waited = 0.0
        for pause in (*PAUSES, None):
            try:
                reply = post(self.url, body, headers, self.limits)
            except TransferFailed as error:
                raise InputError(f"the image endpoint {self.name} brings no image: {error}") from error
            if reply.status not in BUSY or pause is None:
                return reply
            wait = seconds_asked(reply, pause)
            if waited + wait > PATIENCE:
                return reply
            time.sleep(wait)
            waited += wait
        raise AssertionError("the last try returns")

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

    def message(self, reply: Reply) -> str:
        """The server's own words, as one short line without the key; "" where there are none."""
        try:
            said = json.loads(reply.content)
        except (ValueError, RecursionError):
            return ""
        for name in ("error", "message", "detail"):
            if isinstance(said, dict) and name in said:
                said = said[name]
        return self.safe(said) if isinstance(said, str) else ""

    def safe(self, text: str) -> str:
        """Another's words for a sentence of ours."""
        if self.key:
            text = text.replace(self.key, "…")
        text = " ".join(text.split()).rstrip(".")
        return text if len(text) <= MOST_SAID else text[:MOST_SAID] + "…"

    def refusal(self, reply: Reply, message: str) -> str:
        """What the server's status means, and what to do about it."""
        status, said = reply.status, f" ({message})" if message else ""
        if status in (401, 403):  # the message may repeat a part of the key
            return f"refuses the key in {KEY} ({status}): check it" if self.key else f"asks for a key ({status}): set {KEY}"
        if status == 429:
            return f"takes no more requests for now (429){said}: try again later"
        if 300 <= status < 400:
            return f"redirects ({status}): give the address that it moved to"
        if status in (404, 405):
            return f"has no images at {urlsplit(self.url).path}, or not that `generator_model` ({status}){said}: check both"
        if status >= 500:
            return f"fails ({status}){said}: try again later"
        return f"refuses the request ({status}){said}: check `size` and `generator_model`"


def seconds_asked(reply: Reply, otherwise: float) -> float:
    """How long a busy server wants to be left alone."""
    try:
        return max(0.0, float(reply.headers.get("Retry-After", "")))
    except ValueError:
        return otherwise


def first_item(content: bytes) -> tuple[str, str] | None:
    """("b64_json" or "url", its text) of the first image in an answer; None where there is none."""
    try:
        item = json.loads(content)["data"][0]
        return next((kind, item[kind]) for kind in ("b64_json", "url") if isinstance(item.get(kind), str) and item[kind])
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError, StopIteration):
        return None
