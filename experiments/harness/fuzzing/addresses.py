"""Addresses on this machine's own servers: statuses, redirects, drips, cut and endless bodies, answers that are not HTTP."""

from __future__ import annotations

import http.server
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from experiments.harness.fuzzing.verdicts import Case, Part, watch
from invert.errors import InputError
from invert.images.addresses import DownloadLimits, download

Handler = http.server.BaseHTTPRequestHandler
Answer = Callable[[Handler], None]
LIMITS = DownloadLimits(seconds=0.7, max_bytes=1 << 18)
SECONDS = 5.0  # that a case may take: the limit above, and what a busy machine adds


def run(count: int, seed: int) -> Part:
    """The verdict on that many addresses."""
    with served() as (home, answers):
        return watch("addresses", seed, cases(count, seed, home, answers), seconds=SECONDS)


@contextmanager
def served() -> Iterator[tuple[str, dict[str, Answer]]]:
    """A server and its table of answers by path."""
    answers: dict[str, Answer] = {}

    class Table(Handler):
        def do_GET(self) -> None:
            answers.get(self.path.split("?")[0], status(404))(self)

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Clients leave: that is what is tried here."""

    with Server(("127.0.0.1", 0), Table) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", answers
        server.shutdown()


def cases(count: int, seed: int, home: str, answers: dict[str, Answer]) -> Iterator[Case]:
    kinds = (whole, whole, refused_status, followed, led_astray, dripping, cut, too_large, mistyped, not_http, misspelt, chunked)
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        yield kinds[i % len(kinds)](rng, f"{seed}/{i}", home, answers)


def picture(rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(file, "png")
    return file.getvalue()


def sends(content: bytes, code: int = 200, length: int | None = None, **headers: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def status(code: int) -> Answer:
    return sends(b"", code)


def raw(content: bytes, forever: bytes = b"", pause: float = 0.0) -> Answer:
    """Writes the content, and then a part of it again and again."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(content)
        while forever:
            handler.wfile.write(forever)
            time.sleep(pause)

    return answer


def fetched(name: str, url: str, content: bytes) -> Case:
    def wrong(got: bytes) -> str | None:
        return None if got == content else f"{len(got)} bytes instead of {len(content)}"

    return Case(name, lambda: download(url, LIMITS), (InputError,), wrong)


def failing(name: str, url: str) -> Case:
    return Case(name, lambda: download(url, LIMITS), (InputError,), must_fail=True)


def whole(rng: np.random.Generator, name: str, home: str, answers: dict[str, Answer]) -> Case:
    path = ["/a.png", "/a b.png", "/ä?q=ü ü", "/%41.png#part", "/a?x=1&y=[2]"][rng.integers(5)]
    content = picture(rng)
    for asked in ("/a.png", "/a%20b.png", "/%C3%A4", "/%41.png", "/a"):
        answers[asked] = sends(content, Content_Type=str(rng.choice(["image/png", "application/octet-stream", "nonsense"])))
    return must_answer(fetched(f"{name} whole {path}", home + path, content))


def must_answer(case: Case) -> Case:
    """A refusal would be wrong, too."""
    return Case(case.name, case.run, (), case.check)


def refused_status(rng: np.random.Generator, name: str, home: str, answers: dict[str, Answer]) -> Case:
    code = int(rng.choice([201, 204, 206, 300, 304, 400, 401, 403, 404, 407, 410, 418, 429, 500, 502, 503, 599]))
    answers["/status"] = status(code)
    return failing(f"{name} status {code}", f"{home}/status")


def followed(rng: np.random.Generator, name: str, home: str, answers: dict[str, Answer]) -> Case:
    content, steps = picture(rng), int(rng.integers(1, 6))
    for step in range(steps):
        target = f"/hop{step + 1}" if rng.integers(2) else f"{home}/hop{step + 1}"
        answers[f"/hop{step}"] = sends(b"x", int(rng.choice([301, 302, 303, 307, 308])), Location=target)
    answers[f"/hop{steps}"] = sends(content)
    return must_answer(fetched(f"{name} {steps} redirects", f"{home}/hop0", content))


def led_astray(rng: np.random.Generator, name: str, home: str, answers: dict[str, Answer]) -> Case:
    targets = ["file:///etc/passwd", "ftp://127.0.0.1/", "/astray", "http://[::1", "//", "javascript:1", "http://a b/", "data:,x"]
    target = str(targets[rng.integers(len(targets))])
    answers["/astray"] = sends(b"", 302, Location=target)
    return failing(f"{name} redirect to {target}", f"{home}/astray")


def dripping(rng: np.random.Generator, name: str, home: str, answers: dict[str, Answer]) -> Case:
    heads = [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"]
    answers["/drip"] = raw(heads[rng.integers(len(heads))], b"x", float(rng.choice([0.02, 0.2])))
    return failing(f"{name} drip", f"{home}/drip")


def cut(rng: np.random.Generator, name: str, home: str, answers: dict[str, Answer]) -> Case:
    content = picture(rng)
    answers["/cut"] = sends(content[: int(rng.integers(0, len(content)))], length=len(content))
    return failing(f"{name} cut off", f"{home}/cut")


def too_large(rng: np.random.Generator, name: str, home: str, answers: dict[str, Answer]) -> Case:
    endless = raw(b"HTTP/1.1 200 OK\r\n\r\n", bytes(1 << 16))
    answers["/large"] = [endless, sends(b"", length=1 << 40), sends(bytes(1 << 19))][rng.integers(3)]
    return failing(f"{name} too large", f"{home}/large")


def mistyped(rng: np.random.Generator, name: str, home: str, answers: dict[str, Answer]) -> Case:
    kind = str(rng.choice(["text/html", "text/html; charset=utf-8", "video/mp4", "audio/mpeg", "TEXT/HTML"]))
    answers["/page"] = sends(picture(rng), Content_Type=kind)
    return failing(f"{name} {kind}", f"{home}/page")


def not_http(rng: np.random.Generator, name: str, home: str, answers: dict[str, Answer]) -> Case:
    heads = [b"", rng.bytes(50), b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\nContent-Encoding: gzip\r\n"]
    heads += [
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n",
        b"HTTP/1.1 200 " + b"x" * 70000,
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ]
    answers["/raw"] = raw(heads[rng.integers(len(heads))])
    return Case(f"{name} not HTTP", lambda: download(f"{home}/raw", LIMITS), (InputError,), lambda got: str(got) if got else None)


def chunked(rng: np.random.Generator, name: str, home: str, answers: dict[str, Answer]) -> Case:
    content, head = picture(rng), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    if rng.integers(2):
        answers["/chunks"] = raw(head + b"%x\r\n" % len(content) + content + b"\r\n0\r\n\r\n")
        return must_answer(fetched(f"{name} chunks", f"{home}/chunks", content))
    body = [b"zz\r\n" + content, b"%x\r\n" % (len(content) + 9) + content, b"-5\r\nabc", b"5\r\nabcde"][rng.integers(4)]
    answers["/chunks"] = raw(head + body)
    return failing(f"{name} bad chunks", f"{home}/chunks")


def misspelt(rng: np.random.Generator, name: str, home: str, _: dict[str, Answer]) -> Case:
    port = home.rsplit(":", 1)[1]
    urls = ["http://", "http:///x", f"http://127.0.0.1:{port}9/", "http://[::1/", "http://[x]/", "http://a b/", "http://ü..org/"]
    urls += ["http://x\ny/", "http://127.0.0.1:1/", "file:///etc/hosts", "ftp://x/", "http://me:secret@127.0.0.1/", "http://\0/"]
    urls += [
        "http://127.0.0.1:-1/",
        "HTTP://",
        "http://%31/",
        "http://" + "a" * 300 + "/",
        "http://\ud800/",
        f"http://{json.dumps(home)}",
    ]
    url = urls[rng.integers(len(urls))]
    return failing(f"{name} misspelt {url!r}", url)
