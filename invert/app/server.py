"""Opens the page: on loopback by default, silent to the outside, with nothing of the machine within reach.

Gradio serves the files that were uploaded to it or that it made, which lie in a folder of this process alone. Its own
way of fetching addresses for visitors is shut.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from invert.app.limits import Limits
from invert.app.listening import check_address
from invert.errors import InputError
from invert.extras import require

if TYPE_CHECKING:
    import gradio as gr

    from invert.diffusion.options import DrawingOptions
    from invert.inverter import Inverter

Scope = MutableMapping[str, Any]
FETCHES = ("/file=http", "/file/http", "/proxy=")  # paths by which a visitor would have the server fetch an address


def build(
    inverter: Inverter, limits: Limits | None = None, generator: str | None = None, drawing: DrawingOptions | None = None
) -> gr.Blocks:
    """The page over a loaded model, with its queue.

    Args:
        inverter: the model.
        limits: what visitors may ask for.
        generator: the pipeline or the address of the image endpoint that draws; None for the bundle's own.
        drawing: how it draws; None as it does by itself.

    Raises:
        MissingExtraError: Gradio is not installed.
    """
    require("gradio", "the app")
    prepare_environment()
    from invert.app.page import page
    from invert.app.service import Service

    return page(Service(inverter, limits, generator, drawing))


def prepare_environment() -> None:
    """Before Gradio is imported: no telemetry, and a folder for files that is this process's own."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if "GRADIO_TEMP_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="invert-app-")
        os.environ["GRADIO_TEMP_DIR"] = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


def launch_options(limits: Limits | None = None) -> dict[str, Any]:
    """What `Blocks.launch` is given wherever the page runs: here, in a notebook, as a Space."""
    from starlette.middleware import Middleware

    from invert.app.style import CSS, theme

    return {
        "max_file_size": f"{(limits or Limits()).megabytes}mb",
        "allowed_paths": [],
        "blocked_paths": [os.path.abspath(os.sep + name) for name in ("etc", "proc", "sys", "dev")],
        "app_kwargs": {"middleware": [Middleware(NoFetching)]},
        "enable_monitoring": False,
        "run_history": False,
        "ssr_mode": False,
        "show_error": False,
        "footer_links": ["api", "settings"],
        "theme": theme(),
        "css": CSS,
    }


def launch(
    blocks: gr.Blocks,
    limits: Limits | None = None,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
) -> list[str]:
    """Open the page, in threads of its own, and return its addresses: the local one, and the public one where there is one.

    Args:
        blocks: what `build` made.
        limits: those that it was built with.
        host: the interface to listen on; loopback is this machine alone.
        port: None for the first free one from 7860.
        share: through a public link of gradio.live as well.

    Raises:
        InputError: the host or the port cannot be had, or a public link is wanted and there is none.
    """
    check_address(host, port)
    try:
        _, local, public = blocks.launch(
            server_name=host,
            server_port=port,
            share=share,
            prevent_thread_lock=True,
            quiet=True,
            **launch_options(limits),
        )
    except OSError as error:
        where = f"`port` {port}" if port is not None else f"a port of `host` {host}"
        raise InputError(f"{where} cannot be opened: choose another one, or end what listens there") from error
    if share and not public:
        blocks.close(verbose=False)
        raise InputError("there is no public link, gradio.live cannot be reached: leave out `share`")
    return [str(local), *([str(public)] if public else [])]


class NoFetching:
    """ASGI middleware: answers 403 where a visitor would have the server fetch an address."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        path = str(scope.get("path", "")).lower()
        if scope["type"] != "http" or not any(part in path for part in FETCHES):
            await self.app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"addresses are not followed"})
