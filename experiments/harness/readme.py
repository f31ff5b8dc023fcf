"""The README's headline table, written from the result of `compare` and never by hand."""

from __future__ import annotations

from typing import Any

from experiments.harness.runner import FOLDER
from experiments.harness.tables import TITLES, interval, seconds, table, token_passes

README = FOLDER.parent / "README.md"
BEGIN, END = "<!-- compare: written by `python -m experiments run compare` -->\n", "<!-- /compare -->"
OF_SCENES, OF_OTHERS = ("word_f1", "objects", "judge"), ("word_f1", "objects")  # measures
NAMES = {"foreign": "Twemoji", "stamps": "stamps", "clip-art": "clip art"}  # of kinds that others drew, in titles


def headline(found: dict[str, Any]) -> str:
    """A table of the held-out scenes with the cost on them, and one of what others drew; one row a method.

    found: kind → method → measure, of `means`.
    """
    titles = ["method", "scenes", *(TITLES[measure] for measure in OF_SCENES), "token passes", "seconds"]
    rows = [
        [
            f"`{method}`",
            row["pictures"],
            *(cell(row, measure) for measure in OF_SCENES),
            f"{token_passes(row):,.0f}",
            seconds(row),
        ]
        for method, row in found["held-out"].items()
    ]
    others = [kind for kind in NAMES if kind in found]
    return table(titles, rows) + ("\nPictures that others drew:\n\n" + of_others(found, others) if others else "")


def of_others(found: dict[str, Any], kinds: list[str]) -> str:
    """Quality on those kinds."""
    titles = ["method", "pictures", *(f"{TITLES[measure]}, {NAMES[kind]}" for kind in kinds for measure in OF_OTHERS)]
    rows = []
    for method in found["held-out"]:
        of_kinds = [found[kind].get(method) for kind in kinds]
        pictures = " + ".join(str(row["pictures"]) for row in of_kinds if row) or "–"
        rows.append([f"`{method}`", pictures, *(cell(row, measure) for row in of_kinds for measure in OF_OTHERS)])
    return table(titles, rows)


def cell(row: dict[str, Any] | None, measure: str) -> str:
    return interval(row[measure], 2) if row else "–"


def with_headline(text: str, tables: str) -> str:
    """The README's text with the tables between its two marks; ValueError where they are missing."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + tables + END + after


def write_headline(found: dict[str, Any]) -> None:
    README.write_text(with_headline(README.read_text(), headline(found)))
