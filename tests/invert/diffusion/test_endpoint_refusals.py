"""An image endpoint on this machine: whatever comes that is no image is one sentence, soon, and without the key."""

from __future__ import annotations

import base64
import threading
from typing import Any

import pytest

from invert.diffusion.drawing import open_generator
from invert.diffusion.endpoint import ImageEndpoint
from invert.diffusion.images_api import KEY
from invert.errors import InputError
from invert.images.addresses import DownloadLimits
from tests.invert.diffusion.image_server import Handler, Server, png, refusal, send


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
            left.wait(600)
            return
        handler.send_response(200)
        handler.end_headers()
        while not left.wait(0.05):
            handler.wfile.write(b" ")

    server.answer = answer
    assert "it took more than 0.4 seconds" in refusal(server, DownloadLimits(seconds=0.4))
    assert not left.is_set()  # the server is still at it
    left.set()


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
