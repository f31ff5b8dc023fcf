"""The README's headline table, written from the result of `compare` and never by hand."""

from __future__ import annotations

from typing import Any

from experiments.harness.runner import FOLDER
from experiments.harness.tables import TITLES, interval, seconds, token_passes

README = FOLDER.parent / "README.md"
BEGIN, END = "<!-- compare: written by `python -m experiments run compare` -->\n", "<!-- /compare -->"
MEASURES = ("word_f1", "objects", "judge")


def headline(found: dict[str, Any]) -> str:
    """One row a method: its pictures of each kind, quality on both, cost on the held-out ones.

    found: kind → method → measure, of `means`.
    """
    titles = [TITLES[m] + ("" if kind == "held-out" else f", {kind}") for kind in found for m in MEASURES]
    lines = [f"| method | pictures | {' | '.join(titles)} | token passes | seconds |", "| --- |" + " ---: |" * (len(titles) + 3)]
    for method, row in found["held-out"].items():
        cells = [cell(found[kind].get(method), measure) for kind in found for measure in MEASURES]
        pictures = " + ".join(str(found[kind][method]["pictures"]) for kind in found if method in found[kind])
        lines.append(f"| `{method}` | {pictures} | {' | '.join(cells)} | {token_passes(row):,.0f} | {seconds(row)} |")
    return "\n".join(lines) + "\n"


def cell(row: dict[str, Any] | None, measure: str) -> str:
    return interval(row[measure], 2) if row else "–"


def with_headline(text: str, table: str) -> str:
    """The README's text with the table between its two marks; ValueError where they are missing."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + table + END + after


def write_headline(found: dict[str, Any]) -> None:
    README.write_text(with_headline(README.read_text(), headline(found)))
