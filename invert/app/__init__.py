"""The app: a page and an HTTP API over one loaded model, `invert serve`. Extra `app` (Gradio 6).

`service` does the work and knows no Gradio; `runs` lets a page follow a search; `views` turns results into HTML;
`page` and `api` are the two doors; `server` opens them, on loopback by default, with no path of the machine behind them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invert.app.limits import Limits as Limits
    from invert.app.server import build as build
    from invert.app.server import launch as launch

__all__ = ["Limits", "build", "launch"]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are asked for: they bring Gradio."""
    from invert.registry import resolve

    if name in __all__:
        return resolve(f"invert.app.{'limits' if name == 'Limits' else 'server'}:{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
