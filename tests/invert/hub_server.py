"""A hub on this machine: it serves one folder as a repository of any name, to the libraries' own clients."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMIT = "0" * 40


class Handler(BaseHTTPRequestHandler):
    """What of the hub's interface downloads ask for: a repository's files, and each of them."""

    server: Hub

    def log_message(self, *words: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        path, files = self.path.split("?")[0], self.server.files()
        if path.startswith("/api/models/") and "/tree/" in path:
            self.answer(json.dumps([{"type": "file", "path": file, "size": len(files[file]), "oid": COMMIT} for file in files]))
        elif path.startswith("/api/models/"):
            self.answer(json.dumps({"id": "me/model", "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}))
        elif self.server.refusal:
            self.answer(b"", 403)
        elif "/resolve/" in path and (file := path.split("/resolve/")[1].partition("/")[2]) in files:
            self.server.fetched.add(file)
            self.answer(files[file])
        else:
            self.answer(b"", 404 if "/resolve/" in path else 200)

    do_HEAD = do_GET

    def answer(self, content: str | bytes, status: int = 200) -> None:
        data = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        problem = self.server.refusal if status == 403 else "EntryNotFound"
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(data))}
        for name, value in (headers | ({"X-Error-Code": problem} if status != 200 else {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


class Hub(ThreadingHTTPServer):
    """fetched: the files that were asked for."""

    def __init__(self, folder: Path, refusal: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.refusal, self.fetched = folder, refusal, set[str]()

    def files(self) -> dict[str, bytes]:
        found = sorted(file for file in self.folder.rglob("*") if file.is_file())
        return {file.relative_to(self.folder).as_posix(): file.read_bytes() for file in found}


@contextmanager
def hub_of(folder: Path, cache: Path, refusal: str = "") -> Iterator[Hub]:
    """Within the context every name is that folder's on the hub; downloads go to the cache.

    refusal: the hub's code for why it gives no file out, as "GatedRepo"; "" where it does.
    """
    from huggingface_hub import constants, hf_api

    with Hub(folder, refusal) as hub, pytest.MonkeyPatch.context() as patch:
        address = f"http://127.0.0.1:{hub.server_port}"
        patch.setattr(constants, "ENDPOINT", address)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(hf_api.api, "endpoint", address)
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()
