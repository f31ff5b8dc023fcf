"""An image endpoint on this machine: what is asked of it, what comes back, and one sentence for whatever else happens."""

from __future__ import annotations

import ast
import base64
import http.server
import inspect
import io
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image

import invert.cli
from invert.diffusion import drawing, endpoint, images_api, options, roundtrip
from invert.diffusion.drawing import WITHHELD, open_generator
from invert.diffusion.endpoint import ImageEndpoint
from invert.diffusion.images_api import KEY, endpoint_url
from invert.diffusion.options import DrawingOptions
from invert.errors import InputError
from invert.images.addresses import DownloadLimits
from invert.inverter import Inverter
from invert.methods import denoiser

QUICK = DownloadLimits(seconds=5.0, max_bytes=1 << 20)
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


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv(KEY, raising=False)
    with serving(Server()) as found:
        yield found


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


def draw(server: Server, limits: DownloadLimits = QUICK, **options: Any) -> list[Any]:
    return list(ImageEndpoint(server.url, limits).draw(["a fox"], [7], DrawingOptions(**options)))


def refusal(server: Server, limits: DownloadLimits = QUICK) -> str:
    with pytest.raises(InputError) as error:
        draw(server, limits)
    assert server.url.partition("//")[2] in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("address", "route"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1/images/generations"),
        ("https://api.example.com/v1/", "https://api.example.com/v1/images/generations"),
        ("https://example.com/x/images/generations?api-version=1", "https://example.com/x/images/generations?api-version=1"),
    ],
)
def test_a_server_its_version_or_the_whole_route_may_be_given(address: str, route: str) -> None:
    assert endpoint_url(address) == route


def test_an_image_is_asked_for_as_the_api_says(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "sk-secret")
    (drawn,) = draw(server, size="512x256", generator_model="paint-1")
    wanted = {"prompt": "a fox", "n": 1, "model": "paint-1", "size": "512x256", "seed": 7, "path": "/v1/images/generations"}
    assert server.asked == [wanted]
    assert server.headers["Authorization"] == "Bearer sk-secret" and server.headers["Content-Type"] == "application/json"
    assert drawn.image.shape == (3, 6, 8) and drawn.problem == ""
    torch.testing.assert_close(drawn.image[:, 0, 0], torch.tensor([0, 128, 128]) / 255)


def test_an_image_may_be_linked_to_and_is_fetched_without_the_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "sk-secret")
    for link in (f"{server.url}/made/1.png", "/made/1.png"):
        server.answer = lambda handler, link=link: send(handler, {"data": [{"url": link}]})
        (drawn,) = draw(server)
        assert drawn.image[0].min() == 1 and server.got[-1] == "/made/1.png" and "Authorization" not in server.headers
    encoded = "data:image/png;base64," + base64.b64encode(png("red")).decode()
    server.answer = lambda handler: send(handler, {"data": [{"url": encoded}]})
    assert draw(server)[0].image[0].min() == 1


def test_a_link_of_a_public_server_to_this_machine_is_not_followed(server: Server) -> None:
    api = images_api.ImagesApi("https://images.example.com", QUICK)
    with pytest.raises(InputError, match=r"does not come: it leads to 127\.0\.0\.1, which is not public"):
        api.linked(f"{server.url}/made/1.png", from_private=False)
    assert server.got == []


def test_a_server_without_seeds_is_asked_without(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    def answer(handler: Handler) -> None:
        if "seed" in server.asked[-1]:
            send(handler, {"error": {"message": "Unknown parameter: 'seed'."}}, 400)
        else:
            send(handler, image_answer())

    server.answer = answer
    assert len(list(ImageEndpoint(server.url, QUICK).draw(["a fox"], [0, 1]))) == 2
    assert ["seed" in body for body in server.asked] == [True, False, False]
    assert [record.getMessage() for record in caplog.records] == [
        f"the image endpoint {server.url} takes no seeds: the same prompt will draw other images"
    ]


def test_a_prompt_that_is_refused_on_principle_is_a_picture_withheld(server: Server) -> None:
    error = {"code": "moderation_blocked", "message": "Your request was rejected by the safety system."}
    server.answer = lambda handler: send(handler, {"error": error}, 400)
    assert draw(server)[0].problem == WITHHELD


def test_a_busy_server_is_asked_again(server: Server) -> None:
    def answer(handler: Handler) -> None:
        busy = len(server.asked) < 3
        send(handler, {} if busy else image_answer(), 429 if busy else 200, Retry_After="0")

    server.answer = answer
    assert draw(server)[0].problem == "" and len(server.asked) == 3


@pytest.mark.parametrize(
    ("status", "answer", "message"),
    [
        (401, {"error": {"message": "Incorrect key: sk-se***et"}}, f"refuses the key in {KEY} (401): check it"),
        (403, b"no", f"refuses the key in {KEY} (403): check it"),
        (404, b"<html>", "has no images at /v1/images/generations"),
        (429, {"error": {"message": "Quota of sk-secret used up."}}, "takes no more requests for now (429) (Quota of … used up)"),
        (500, {"detail": "out\n of memory"}, "fails (500) (out of memory): try again later"),
        (503, b"\xff\xfe", "fails (503): try again later"),
        (400, {"message": "x" * 999}, f"refuses the request (400) ({'x' * 200}…): check `size`"),
        (302, b"", "redirects (302): give the address that it moved to"),
        (418, [1], "refuses the request (418)"),
    ],
)
def test_a_refusal_is_one_sentence_without_the_key(
    server: Server, monkeypatch: pytest.MonkeyPatch, status: int, answer: Any, message: str
) -> None:
    monkeypatch.setenv(KEY, "sk-secret")
    server.answer = lambda handler: send(handler, answer, status, Location="http://127.0.0.1:1/", Retry_After="999")
    said = refusal(server)
    assert message in said and "sk-" not in said
    assert len(server.asked) == 1


def test_a_server_that_wants_a_key_is_one_sentence(server: Server) -> None:
    server.answer = lambda handler: send(handler, b"", 401)
    assert f"asks for a key (401): set {KEY}" in refusal(server)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>hello</html>",
        b"[" * 100_000,
        b"null",
        {},
        {"data": []},
        {"data": {"0": 1}},
        {"data": [None]},
        {"data": ["image"]},
        {"data": [{"b64_json": None, "url": 7}]},
    ],
)
def test_nonsense_is_no_image(server: Server, answer: Any) -> None:
    server.answer = lambda handler: send(handler, answer)
    assert "answers with no image: check that it speaks OpenAI's images API" in refusal(server)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"b64_json": "%%%"}, "damaged image"),
        ({"b64_json": base64.b64encode(b"hello").decode()}, "what is no image"),
        ({"b64_json": base64.b64encode(png()[:40]).decode()}, "what is no image"),
        ({"url": "ftp://example.com/a.png"}, "links to does not come: it is no web address"),
        ({"url": "http://127.0.0.1:1/a.png"}, "links to does not come: its server refuses the connection"),
    ],
)
def test_wrong_content_is_one_sentence(server: Server, item: dict[str, str], message: str) -> None:
    server.answer = lambda handler: send(handler, {"data": [item]})
    assert message in refusal(server)


def test_a_huge_body_is_not_read_to_its_end(server: Server) -> None:
    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        with pytest.raises(OSError):
            for _ in range(1000):
                handler.wfile.write(b" " * (1 << 20))

    server.answer = answer
    assert "it is larger than 1 MiB" in refusal(server)
    server.answer = lambda handler: send(handler, b" " * (2 << 20), 500)
    assert "it is larger than 1 MiB" in refusal(server)


@pytest.mark.parametrize("slow", ["silence", "drip"])
def test_a_slow_server_does_not_hold_the_command(server: Server, slow: str) -> None:
    left = threading.Event()

    def answer(handler: Handler) -> None:
        if slow == "silence":
            left.wait(10)
            return
        handler.send_response(200)
        handler.end_headers()
        while not left.wait(0.05):
            handler.wfile.write(b" ")

    server.answer = answer
    started = time.monotonic()
    assert "it took more than 0.4 seconds" in refusal(server, DownloadLimits(seconds=0.4))
    left.set()
    assert time.monotonic() - started < 8


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(InputError, match="brings no image: its server refuses the connection"):
        list(open_generator("http://127.0.0.1:1").draw(["a fox"], [0]))


def test_a_key_never_crosses_the_internet_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "sk-secret")
    with pytest.raises(InputError, match=r"would reach http://192\.88\.99\.1 unencrypted") as error:
        ImageEndpoint("http://192.88.99.1/v1/images/generations?token=abc")
    assert "sk-secret" not in str(error.value) and "abc" not in str(error.value)
    monkeypatch.setenv(KEY, "sk\nX-Other: 1")
    with pytest.raises(InputError, match="characters that no key has"):
        ImageEndpoint("https://127.0.0.1")


# The command --------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch: pytest.MonkeyPatch, inverter: Inverter) -> None:
    """The command takes the model that other tests have loaded; generators are really loaded."""
    monkeypatch.setattr(Inverter, "load", lambda *_, **__: inverter)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "teal.png")
    return tmp_path / "teal.png"


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["invert", *map(str, words)])
    with pytest.raises(SystemExit) as exit:
        invert.cli.main()
    return int(exit.value.code or 0)


def test_the_command_draws_by_an_endpoint_and_keeps_what_came_before_a_refusal(
    monkeypatch: pytest.MonkeyPatch, server: Server, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    server.answer = lambda handler: send(handler, *((image_answer(),) if len(server.asked) < 3 else (b"", 500)))
    words = ("--generate", 4, "--generator", server.url, "--report", page, "--json", "--method", "retrieve")
    assert run(monkeypatch, picture, *words) == 2
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert len(result["drawn"]) == 2 and [body["prompt"] for body in server.asked] == [result["prompt"]] * 3
    assert err.splitlines() == [f"invert: the image endpoint {server.url} fails (500): try again later"]
    assert page.read_text().count("<figure>") == 2


def test_the_command_chooses_by_an_endpoint(
    monkeypatch: pytest.MonkeyPatch, server: Server, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(handler: Handler) -> None:
        prompts = list(dict.fromkeys(body["prompt"] for body in server.asked))
        send(handler, image_answer(png("teal" if len(prompts) == 6 else "red", (64, 64))))

    server.answer = answer
    words = ("--select", "generator", "--generator", server.url, "--method", "retrieve")
    assert run(monkeypatch, picture, *words) == 0
    prompts = list(dict.fromkeys(body["prompt"] for body in server.asked))
    assert len(prompts) == 8 and capsys.readouterr().out.splitlines() == [prompts[5]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--generator", "ftp://example.com", "--generate", 1, "--json"), "is no web address"),
        (("--generator", "http://user:word@example.com", "--generate", 1, "--json"), "holds a user name"),
        (("--generator", "http://127.0.0.1:1", "--method", "ph2p"), "the method 'ph2p' learns through CLIP and the U-Net"),
        (("--generator", "http://127.0.0.1:1", "--compare", "textual-inversion"), "the method 'textual-inversion' learns"),
        (("--generator", "http://127.0.0.1:1", "--generate", 1, "--json", "--steps", 3), "takes no --steps"),
    ],
)
def test_what_an_endpoint_cannot_do_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, picture: Path, words: tuple[object, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, picture, *words) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and message in err and "word@" not in err


@pytest.mark.parametrize(
    "module", [drawing, endpoint, images_api, options, roundtrip, denoiser], ids=lambda module: module.__name__
)
def test_an_endpoint_needs_no_diffusers(module: ModuleType) -> None:
    tops = [node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.Import | ast.ImportFrom)]
    named = {node.module or "" for node in tops if isinstance(node, ast.ImportFrom)}
    named |= {alias.name for node in tops if isinstance(node, ast.Import) for alias in node.names}
    with_diffusers = {"invert.diffusion.generator", "invert.diffusion.loading", "invert.diffusion.pipelines"}
    assert named and not {name for name in named if name.startswith("diffusers") or name in with_diffusers}
