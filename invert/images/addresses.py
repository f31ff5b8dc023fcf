"""What comes from an http(s) address, within a total time, a size, and without being led astray.

Redirects are followed to http(s) only, and never to a loopback, private or link-local address unless the user's own
address was one. A name is resolved before it is followed, and the address that was reached is checked before anything
is asked of it. The transfer runs in a thread of its own, so that neither a slow name server nor a drip of bytes
outlasts the limit.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from invert.errors import InputError
from invert.escape import escaped

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
HEADERS = {"User-Agent": "Mozilla/5.0 (compatible; invert)", "Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity"}
REDIRECTS = {301, 302, 303, 307, 308}
CHUNK = 1 << 16
ADVICE = "save the image to a file and give that"


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, also where IPv6 wraps one of IPv4."""
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return inner.is_global and not inner.is_multicast
    return ip.is_global and not ip.is_multicast


@dataclass(frozen=True)
class DownloadLimits:
    """What a download may take."""

    seconds: float = 30.0  # in all: names, connections, redirects and content
    max_bytes: int = 64 << 20
    redirects: int = 5
    is_public: Callable[[str], bool] = field(default=is_public)


@dataclass(frozen=True)
class Reply:
    """What a server answers. from_private: whether its address is not public."""

    status: int
    headers: Message
    content: bytes
    from_private: bool


class TransferFailed(Exception):
    """Why nothing comes; the text completes "ADDRESS cannot be downloaded: …"."""


def is_private_host(host: str) -> bool:
    """Whether a host's name is known here and leads to no address of the public internet."""
    try:
        return not any(is_public(str(entry[4][0])) for entry in socket.getaddrinfo(host, None))
    except OSError:
        return False


def is_address(text: str) -> bool:
    """Whether a text is an address with a scheme rather than a path."""
    return SCHEME.match(text) is not None


def shown(text: str) -> str:
    """A name as one printable line: control characters escaped, a password left out."""
    text = re.sub(r"(?<=://)[^/@\s]*:[^/@\s]*@", "…@", text)
    return escaped(text)


def download(url: str, limits: DownloadLimits | None = None, *, linked_from_private: bool | None = None) -> bytes:
    """The content that an http(s) address leads to.

    Args:
        url: the address.
        limits: what the download may take.
        linked_from_private: None where the user named the address; where a server did, whether that one's is not public.

    Raises:
        InputError: Not an http(s) address, or no whole content within the limits.
    """
    limits = limits or DownloadLimits()
    transfer = _Transfer(normal(url), limits, private=linked_from_private)
    try:
        return _finished(transfer, limits).content
    except TransferFailed as error:
        raise InputError(f"{shown(url)} cannot be downloaded: {error}; {ADVICE}") from error


def post(url: str, body: bytes, headers: Mapping[str, str], limits: DownloadLimits) -> Reply:
    """What the server at an http(s) address that the user named answers to a body, whatever its status.

    A redirect is not followed: headers may hold what is meant for that server alone.

    Raises:
        InputError: not an http(s) address.
        TransferFailed: no whole answer within the limits.
    """
    return _finished(_Transfer(normal(url), limits, headers, body), limits)


def _finished(transfer: _Transfer, limits: DownloadLimits) -> Reply:
    """What a transfer brings within its time."""
    thread = threading.Thread(target=transfer.run, daemon=True, name="download")
    thread.start()
    try:
        thread.join(limits.seconds)
        unfinished = thread.is_alive() or isinstance(getattr(transfer.error, "reason", transfer.error), TimeoutError)
    finally:
        transfer.abandon()
    reason = f"it took more than {limits.seconds:g} seconds" if unfinished else transfer.reason
    if reason is not None or transfer.reply is None:
        raise TransferFailed(reason) from transfer.error
    return transfer.reply


def normal(url: str) -> str:
    """The address with everything quoted that must be, its host in ASCII; InputError where it is none of http(s)."""
    named = shown(url)
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise InputError(f"{named} has no valid host and port: correct the address") from error
    if parts.scheme not in ("http", "https"):
        raise InputError(f"{named} is no web address: give a path, or an address that begins with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise InputError(f"{named} holds a user name: {ADVICE}")
    host = _ascii_host(parts.hostname or "")
    if host is None or port == 0:
        raise InputError(f"{named} has no valid host and port: correct the address")
    where = host if port is None else f"{host}:{port}"
    return urlunsplit((parts.scheme, where, _quoted(parts.path) or "/", _quoted(parts.query, "?"), ""))


def _quoted(text: str, more: str = "") -> str:
    return quote(text, safe="/%:@!$&'()*+,;=~-._[]" + more, errors="surrogateescape")


def _ascii_host(host: str) -> str | None:
    if ":" in host:
        try:
            return f"[{ipaddress.IPv6Address(host)}]"
        except ValueError:
            return None
    try:
        ascii_host = host.encode("idna").decode()
    except UnicodeError:
        return None
    return ascii_host if re.fullmatch(r"[A-Za-z0-9._-]+", ascii_host) else None


class _Transfer:
    """One download, or one post with its answer, in its thread: run() leaves the reply, or reason and error."""

    def __init__(
        self,
        url: str,
        limits: DownloadLimits,
        headers: Mapping[str, str] = HEADERS,
        body: bytes | None = None,
        private: bool | None = None,
    ) -> None:
        """private: whether the address that the user named is not public; None: url is that address."""
        self.url, self.limits, self.headers, self.body = url, limits, headers, body
        self.reply: Reply | None = None
        self.reason: str | None = None
        self.error: Exception | None = None
        self.named = private is None
        self.private = bool(private)  # whether the user's own address is not public
        self._abandoned = False
        self._sockets: list[socket.socket] = []

    def run(self) -> None:
        try:
            self.reply = self._follow()
        except TransferFailed as error:
            self.reason, self.error = str(error), error
        except http.client.IncompleteRead as error:
            self.reason, self.error = "it was cut off", error
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.reason, self.error = _plain(error), error
        except Exception as error:  # nothing may end this thread with a traceback
            self.reason, self.error = "the server's answer cannot be read", error

    def abandon(self) -> None:
        """Close what is open, so that the thread ends."""
        self._abandoned = True
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                sock.close()

    def reached(self, sock: socket.socket) -> None:
        """Called with every connection, before anything is asked of it; None of them outlives the transfer."""
        self._sockets.append(sock)
        if self._abandoned:
            raise TransferFailed("it was given up")

    def check_peer(self, sock: socket.socket) -> None:
        """A name that resolved to a public address may have been resolved to another one since."""
        if not self.private and not self.limits.is_public(sock.getpeername()[0]):
            raise TransferFailed("it leads to an address that is not public")

    def _follow(self) -> Reply:
        url = self.url
        opener = _opener(self)
        for step in range(self.limits.redirects + 1):
            self._check_host(url, named=step == 0 and self.named)
            request = urllib.request.Request(url, self.body, dict(self.headers))
            with _answer(opener, request, self.limits.seconds) as reply:
                if self.body is not None:
                    return self._whole(reply)
                if reply.status in REDIRECTS and reply.headers.get("Location"):
                    url = _redirected(url, reply.headers)
                    continue
                if reply.status != 200:
                    raise TransferFailed(f"the server answers {reply.status}")
                check_kind(reply.headers)
                return self._whole(reply)
        raise TransferFailed(f"it is redirected more than {self.limits.redirects} times")

    def _check_host(self, url: str, named: bool) -> None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        try:
            found = socket.getaddrinfo(host, parts.port or 80, type=socket.SOCK_STREAM)
        except OSError:
            if urllib.request.getproxies().get(parts.scheme):
                return  # the proxy knows the name
            raise
        private = any(not self.limits.is_public(str(entry[4][0])) for entry in found)
        if named:
            self.private = private
        elif private and not self.private:
            raise TransferFailed(f"it leads to {host}, which is not public")

    def _whole(self, reply: http.client.HTTPResponse) -> Reply:
        too_large = TransferFailed(f"it is larger than {self.limits.max_bytes >> 20} MiB")
        expected = reply.length
        if expected is not None and expected > self.limits.max_bytes:
            raise too_large
        parts: list[bytes] = []
        size = 0
        while chunk := reply.read(CHUNK):
            parts.append(chunk)
            size += len(chunk)
            if size > self.limits.max_bytes:
                raise too_large
        if expected is not None and size < expected:
            raise TransferFailed(f"it was cut off after {size:,} of {expected:,} bytes")
        return Reply(reply.status, reply.headers, b"".join(parts), self.private)


def check_kind(headers: Message) -> None:
    """TransferFailed where what comes is declared to be no image."""
    kind = headers.get_content_type()
    if kind == "text/html" or kind.startswith(("audio/", "video/")):
        raise TransferFailed(f"it is {shown(kind)}, not an image")


@contextmanager
def _answer(
    opener: urllib.request.OpenerDirector, request: urllib.request.Request, seconds: float
) -> Iterator[http.client.HTTPResponse]:
    reply: Any = opener.open(request, timeout=seconds)
    try:
        yield reply
    finally:
        reply.close()


def _redirected(url: str, headers: Message) -> str:
    # http.client reads headers as Latin-1, servers write UTF-8
    target = headers["Location"].encode("latin-1", "replace").decode("utf-8", "replace")
    try:
        return normal(urljoin(url, target.strip()))
    except (InputError, ValueError) as error:
        raise TransferFailed("it is redirected to what is no web address") from error


def _plain(error: Exception) -> str:
    """Why a connection failed, in words."""
    cause = getattr(error, "reason", error)
    if isinstance(cause, TransferFailed):
        return str(cause)
    if isinstance(cause, socket.gaierror):
        return "its host is not known"
    if isinstance(cause, ConnectionRefusedError):
        return "its server refuses the connection"
    if isinstance(cause, http.client.HTTPException):
        return "the server's answer cannot be read"
    return shown(getattr(cause, "strerror", None) or type(cause).__name__).lower()


def _opener(transfer: _Transfer) -> urllib.request.OpenerDirector:
    """Speaks http(s) only, through the user's proxies, and follows no redirect by itself."""

    class Connection(http.client.HTTPConnection):
        direct = True

        def connect(self) -> None:
            super().connect()
            transfer.reached(self.sock)
            if self.direct:
                transfer.check_peer(self.sock)

    class SecureConnection(Connection, http.client.HTTPSConnection):  # connects as the second, then checks as the first
        pass

    class Proxied(Connection):
        direct = False

    class SecureProxied(SecureConnection):
        direct = False

    class Plain(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Proxied if request.has_proxy() else Connection, request)

    class Secure(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            tunneled = getattr(request, "_tunnel_host", None) or request.has_proxy()
            return self.do_open(SecureProxied if tunneled else SecureConnection, request)

    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), Plain(), Secure()):
        opener.add_handler(handler)
    return opener
