"""A server on this machine that speaks the images API, or whatever a test wants it to say."""

from __future__ import annotations

import base64
import http.server
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from PIL import Image

from invert.diffusion.endpoint import ImageEndpoint
from invert.diffusion.options import DrawingOptions
from invert.errors import InputError
from invert.images.addresses import DownloadLimits

PATIENT = DownloadLimits(seconds=600, max_bytes=1 << 20)  # no machine is too busy to answer within it
Handler = http.server.BaseHTTPRequestHandler


@dataclass
class Server:
    """A server on this machine. answer: what it does with a post; asked: the bodies; headers: those of the last post."""

    answer: Callable[[Handler], None] = lambda handler: send(handler, image_answer())
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    got: list[str] = field(default_factory=list)  # paths of GET
    url: str = ""


def png(color: str = "teal", size: tuple[int, int] = (8, 6)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def image_answer(content: bytes | None = None) -> dict[str, Any]:
    return {"created": 1, "data": [{"b64_json": base64.b64encode(content or png()).decode()}]}


def send(handler: Handler, answer: Any, status: int = 200, **headers: str) -> None:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    class Answering(Handler):
        def do_POST(self) -> None:
            server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))) | {"path": self.path})
            server.headers = dict(self.headers)
            server.answer(self)

        def do_GET(self) -> None:
            server.got.append(self.path)
            server.headers = dict(self.headers)
            send(self, png("red"))

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that leaves is what some tests are about."""

    with Quiet(("127.0.0.1", 0), Answering) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        server.url = f"http://127.0.0.1:{running.server_port}"
        yield server
        running.shutdown()


def draw(server: Server, limits: DownloadLimits = PATIENT, **options: Any) -> list[Any]:
    return list(ImageEndpoint(server.url, limits).draw(["a fox"], [7], DrawingOptions(**options)))


def refusal(server: Server, limits: DownloadLimits = PATIENT) -> str:
    with pytest.raises(InputError) as error:
        draw(server, limits)
    assert server.url.partition("//")[2] in str(error.value) and "\n" not in str(error.value)
    return str(error.value)
