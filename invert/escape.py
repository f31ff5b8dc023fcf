"""Text of users on one visible line: file names and prompts may hold line feeds, control codes and lone surrogates."""

from __future__ import annotations

import html


def escaped(text: str, encoding: str = "utf-8") -> str:
    """The text with backslash escapes for what does not print or that the encoding lacks."""
    visible = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)
    return visible.encode(encoding, "backslashreplace").decode(encoding)


def as_html(text: str) -> str:
    """The text as HTML on one line."""
    return html.escape(escaped(text))
