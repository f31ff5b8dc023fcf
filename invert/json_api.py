"""A server that is posted JSON and answers with JSON, as OpenAI's APIs are spoken: time, size, busy servers, refusals.

Every failure is one sentence. The key comes from an environment variable, goes to that server alone and into no message.
Nothing here needs torch.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

from invert.errors import InputError
from invert.images.addresses import DownloadLimits, Reply, TransferFailed, is_private_host, normal, post, shown

BUSY = {429, 503}  # what a server answers that wants to be asked later
PATIENCE = 60.0  # seconds to wait for a busy server before one answer, in all
PAUSES = (2.0, 6.0, 18.0)  # seconds before each new try, where the server names none
MOST_SAID = 200  # characters of a server's own message that are shown


class JsonApi:
    """One server. A kind of API says what it is called, where it is, and what it brings.

    Attributes:
        url: where requests are posted.
        name: its address in messages, without what may be secret in it.
        key: "" where there is none.
    """

    called: ClassVar[str]  # "the image endpoint"
    brings: ClassVar[str]  # what does not come when it fails: "image"
    key_name: ClassVar[str]  # environment variable
    route: ClassVar[str]  # of a server whose address alone was given, from /v1 on
    settings: ClassVar[str]  # what a refused request may be wrong in
    model_setting: ClassVar[str]  # the parameter that names a model of the server
    limits: DownloadLimits

    def __init__(self, address: str, limits: DownloadLimits) -> None:
        """InputError where the address is none, or the key would travel over the internet in the clear."""
        self.url, self.limits = route_of(address, self.route), limits
        parts = urlsplit(self.url)
        self.name = shown(urlunsplit((parts.scheme, parts.netloc, parts.path.removesuffix(self.route), "", "")))
        self.key = os.environ.get(self.key_name, "").strip()
        if not all(" " < character <= "~" for character in self.key):
            raise InputError(f"the key in {self.key_name} holds characters that no key has: set it again")
        if self.key and parts.scheme == "http" and not is_private_host(parts.hostname or ""):
            raise InputError(
                f"the key in {self.key_name} would reach {self.name} unencrypted: give its https:// address, "
                f"or unset {self.key_name}"
            )

    def answer(self, request: Mapping[str, Any]) -> Reply:
        """What the server answers, once it is not too busy.

        Raises:
            InputError: nothing whole within the limits.
        """
        body = json.dumps(request).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "invert"}
        headers |= {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        waited = 0.0
        for pause in (*PAUSES, None):
            try:
                reply = post(self.url, body, headers, self.limits)
            except TransferFailed as error:
                raise InputError(f"{self.called} {self.name} brings no {self.brings}: {error}") from error
            if reply.status not in BUSY or pause is None:
                return reply
            wait = seconds_asked(reply, pause)
            if waited + wait > PATIENCE:
                return reply
            time.sleep(wait)
            waited += wait
        raise AssertionError("the last try returns")

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

    def refused(self, reply: Reply, message: str) -> InputError:
        """The error for an answer that is none."""
        return InputError(f"{self.called} {self.name} {self.refusal(reply, message)}")

    def refusal(self, reply: Reply, message: str) -> str:
        """What the server's status means, and what to do about it."""
        status, said, key_name = reply.status, f" ({message})" if message else "", self.key_name
        if status in (401, 403):  # the message may repeat a part of the key
            return (
                f"refuses the key in {key_name} ({status}): check it"
                if self.key
                else f"asks for a key ({status}): set {key_name}"
            )
        if status == 429:
            return f"takes no more requests for now (429){said}: try again later"
        if 300 <= status < 400:
            return f"redirects ({status}): give the address that it moved to"
        if status in (404, 405):
            where = urlsplit(self.url).path
            return f"has no {self.brings}s at {where}, or not that `{self.model_setting}` ({status}){said}: check both"
        if status >= 500:
            return f"fails ({status}){said}: try again later"
        return f"refuses the request ({status}){said}: check {self.settings}"


def route_of(address: str, route: str) -> str:
    """Where requests go: a server, its /v1, or the whole route → the whole route.

    route: from the version on, as in "/v1/images/generations".

    Raises:
        InputError: it is no http(s) address.
    """
    parts = urlsplit(normal(address))
    path, ending = parts.path.rstrip("/"), "/" + route.split("/", 2)[2]
    if not path.endswith(ending):
        path = path + ending if path else route
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def seconds_asked(reply: Reply, otherwise: float) -> float:
    """How long a busy server wants to be left alone."""
    try:
        return max(0.0, float(reply.headers.get("Retry-After", "")))
    except ValueError:
        return otherwise
