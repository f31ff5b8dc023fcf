"""The README's headline table, written from the result of `compare` and never by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments._summary import interval

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- compare: written by `python -m experiments run compare` -->\n", "<!-- /compare -->"
MEASURES = {"word_f1": "word F1", "objects": "exactly the objects", "judge": "judge"}
KINDS = {"held-out": "", "foreign": ", foreign"}


def headline(found: dict[str, Any]) -> str:
    """One row a method, quality on both kinds of pictures, cost on the held-out ones; found: kind → method → measure."""
    titles = [title + suffix for suffix in KINDS.values() for title in MEASURES.values()]
    lines = [f"| method | {' | '.join(titles)} | token passes | seconds |", "| --- |" + " ---: |" * (len(titles) + 2)]
    for method, row in found["held-out"].items():
        cells = [cell(found[kind].get(method), measure) for kind in KINDS for measure in MEASURES]
        passes = row["forward"]["mean"] + row["backward"]["mean"]
        lines.append(f"| `{method}` | {' | '.join(cells)} | {passes:,.0f} | {row['seconds']['mean']:.1f} |")
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
