"""The README's headline table, written from the result of `compare` and never by hand."""

from __future__ import annotations

from typing import Any

from experiments.harness.runner import FOLDER
from experiments.harness.tables import TITLES, interval, seconds, token_passes

README = FOLDER.parent / "README.md"
BEGIN, END = "<!-- compare: written by `python -m experiments run compare` -->\n", "<!-- /compare -->"
MEASURES = {"held-out": ("word_f1", "objects", "judge")}  # of other kinds OF_OTHERS: a wider table would not fit
OF_OTHERS = ("word_f1", "objects")
NAMES = {"foreign": "Twemoji", "stamps": "stamps", "clip-art": "clip art"}  # of kinds, in titles


def headline(found: dict[str, Any]) -> str:
    """One row a method: its pictures of each kind, quality on each, cost on the held-out ones.

    found: kind → method → measure, of `means`.
    """
    columns = [(kind, measure) for kind in found for measure in MEASURES.get(kind, OF_OTHERS)]
    titles = [TITLES[measure] + (f", {NAMES[kind]}" if kind in NAMES else "") for kind, measure in columns]
    lines = [f"| method | pictures | {' | '.join(titles)} | token passes | seconds |", "| --- |" + " ---: |" * (len(titles) + 3)]
    for method, row in found["held-out"].items():
        cells = [cell(found[kind].get(method), measure) for kind, measure in columns]
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
