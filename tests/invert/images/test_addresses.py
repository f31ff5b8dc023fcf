"""Addresses: what is fetched, what is refused in one sentence, and that no server holds the command for long."""

from __future__ import annotations

import http.server
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from invert.errors import InputError
from invert.images import load_image, looks_like_image
from invert.images.addresses import DownloadLimits, download, is_public, shown

PATIENT = DownloadLimits(seconds=600, max_bytes=1 << 20)  # no machine is too busy to answer within it
QUICK = DownloadLimits(seconds=0.6)  # for servers that never come to an end
Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answer, host: str = "127.0.0.1") -> Iterator[str]:
    """A server that answers every request so; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that leaves is what some tests are about."""

    with Quiet((host, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://{host}:{server.server_port}"
        server.shutdown()


def content_of(photo: Image.Image) -> bytes:
    file = io.BytesIO()
    photo.save(file, "png")
    return file.getvalue()


def sends(content: bytes, status: int = 200, **headers: str) -> Answer:
    """An answer of that content; headers with _ for -."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content_Length": str(len(content)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def refused(url: str, limits: DownloadLimits = PATIENT) -> str:
    with pytest.raises(InputError) as caught:
        download(url, limits)
    message = str(caught.value)
    assert message.isprintable() and shown(url) in message
    return message


def test_a_picture_is_read_from_an_address(photo: Image.Image) -> None:
    with serving(sends(content_of(photo), Content_Type="image/png")) as home:
        assert np.array_equal(load_image(f"{home}/photo.png"), photo)


def test_a_server_that_says_no_type_is_believed(photo: Image.Image) -> None:
    with serving(sends(content_of(photo))) as home:
        assert np.array_equal(load_image(f"{home}/photo"), photo)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/a b.png", "/a%20b.png"),
        ("/é.png?q=ü x#part", "/%C3%A9.png?q=%C3%BC%20x"),
        ("/a%20b.png", "/a%20b.png"),
        ("?x=1", "/?x=1"),
        ("/[1].png", "/[1].png"),
    ],
)
def test_what_must_be_quoted_is_quoted(photo: Image.Image, path: str, asked: str) -> None:
    seen: list[str] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        seen.append(handler.path)
        sends(content_of(photo))(handler)

    with serving(answer) as home:
        download(home + path, PATIENT)
    assert seen == [asked]


IMPOSSIBLE = """http:// http://host:99999/ http://host:port/ http://host:0/ http://[::1/x http://[x]/ http://a..b/ https:///x.png
http://%20/ http://host\\path"""


@pytest.mark.parametrize("url", [*IMPOSSIBLE.split(), "http://a b/x.png", "http://x\ny/", "http://" + "ü" * 70 + ".org/"])
def test_an_impossible_address_is_one_sentence(url: str) -> None:
    assert "host" in refused(url)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x.png", "gopher://host/", "data://x", "HTTPX://x"])
def test_other_schemes_are_refused(url: str) -> None:
    assert "http" in refused(url) and looks_like_image(url)


def test_a_password_is_not_shown() -> None:
    with pytest.raises(InputError, match="user name") as caught:
        load_image("http://me:secret@host/x.png")
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    assert "refuses" in refused("http://127.0.0.1:9/picture.png")
    assert "not known" in refused("https://no-such-host.invalid/picture.png")


@pytest.mark.parametrize("status", [204, 304, 400, 401, 403, 404, 429, 500, 503])
def test_a_status_is_told(status: int) -> None:
    with serving(sends(b"", status)) as home:
        assert str(status) in refused(home)


def test_a_page_is_no_picture() -> None:
    with serving(sends(b"<html>", Content_Type="text/html; charset=utf-8")) as home:
        assert "text/html, not an image" in refused(home)


def drip(pause: float, head: bytes) -> Answer:
    """Sends head at once and then a byte now and then, without end."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(head)
        while True:
            handler.wfile.write(b"x")
            time.sleep(pause)

    return answer


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"])
def test_a_drip_of_bytes_ends_at_the_limit(head: bytes) -> None:
    before = set(threading.enumerate())
    with serving(drip(0.05, head)) as home:
        assert "more than 0.6 seconds" in refused(home, QUICK)
    for thread in set(threading.enumerate()) - before:  # the one that read it among them
        thread.join(600)
        assert not thread.is_alive()


def test_a_server_that_says_nothing_ends_at_the_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "more than 0.6 seconds" in refused(f"http://127.0.0.1:{silent.getsockname()[1]}/x.png", QUICK)


def test_a_body_that_is_cut_off_is_told(photo: Image.Image) -> None:
    whole = content_of(photo)
    with serving(sends(whole, Content_Length=str(len(whole) + 5))) as home:
        assert f"cut off after {len(whole)} of {len(whole) + 5} bytes" in refused(home)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nabc"
    with serving(lambda handler: handler.wfile.write(chunked) and None) as home:
        assert "cut off" in refused(home)


def test_a_body_that_is_too_large_is_refused() -> None:
    with serving(sends(b"", Content_Length=str(1 << 30))) as home:
        assert "larger than 1 MiB" in refused(home)

    def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            handler.wfile.write(bytes(1 << 16))

    with serving(endless) as home:
        assert "larger than 1 MiB" in refused(home)


@pytest.mark.parametrize(
    "head", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"\xff" * 70000]
)
def test_an_answer_that_is_not_http_is_one_sentence(head: bytes) -> None:
    with serving(lambda handler: handler.wfile.write(head) and None) as home:
        refused(home)


def redirecting(target: str, status: int = 302) -> Answer:
    return sends(b"", status, Location=target)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(photo: Image.Image, status: int) -> None:
    with serving(sends(content_of(photo))) as home, serving(redirecting(f"{home}/a b.png", status)) as first:
        assert np.array_equal(load_image(first), photo)


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[", "http://u:p@127.0.0.1/", "//", "data:,x"]
)
def test_a_redirect_to_anything_else_is_refused(target: str) -> None:
    with serving(redirecting(target)) as home:
        assert "cannot be downloaded" in refused(home)


def test_redirects_end() -> None:
    with serving(redirecting("/again")) as home:
        assert "redirected more than 5 times" in refused(home)


def test_the_endless_body_of_a_redirect_is_not_read(photo: Image.Image) -> None:
    with serving(sends(content_of(photo))) as home:

        def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
            redirecting(home, 302)(handler)
            while True:
                handler.wfile.write(bytes(1 << 16))

        with serving(answer) as first:
            assert download(first, PATIENT)


def test_a_public_server_cannot_lead_into_the_private_network(photo: Image.Image) -> None:
    """127.0.0.1 plays a public address here, 127.0.0.2 a private one."""
    limits = DownloadLimits(seconds=600, is_public=lambda address: address == "127.0.0.1")
    asked: list[str] = []

    def private(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        sends(content_of(photo))(handler)

    with serving(private, "127.0.0.2") as inside, serving(redirecting(inside)) as outside:
        assert "not public" in refused(outside, limits)
        assert not asked
        assert download(inside, limits)  # the user may name it himself
    with serving(private) as public, serving(redirecting(public), "127.0.0.2") as named:
        assert download(named, limits)


def test_a_name_that_resolves_anew_cannot_lead_there_either(photo: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public when it is checked and private when it is connected to."""
    with serving(sends(content_of(photo)), "127.0.0.2") as inside:
        port = inside.rsplit(":", 1)[1]
        resolved = iter(["127.0.0.1", "127.0.0.2"])
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda host, at, *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(resolved), at))]
        )
        limits = DownloadLimits(seconds=600, is_public=lambda address: address == "127.0.0.1")
        assert "not public" in refused(f"http://rebinding.example:{port}/", limits)


PRIVATE = """127.0.0.1 10.0.0.1 192.168.1.1 172.16.0.1 169.254.169.254 0.0.0.0 100.64.0.1 224.0.0.1
::1 :: fe80::1%eth0 fc00::1 ::ffff:127.0.0.1 64:ff9b::7f00:1 2002:7f00:1:: ff02::1"""


@pytest.mark.parametrize("address", PRIVATE.split())
def test_private_addresses_are_known_in_every_spelling(address: str) -> None:
    assert not is_public(address)


def test_public_addresses_are_public() -> None:
    assert is_public("93.184.216.34") and is_public("2606:2800:220:1:248:1893:25c8:1946") and is_public("64:ff9b::5db8:d822")
