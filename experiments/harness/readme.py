"""The README's tables, written from the results of `compare` and `open-world` and never by hand."""

from __future__ import annotations

from typing import Any

from experiments.harness.runner import FOLDER
from experiments.harness.tables import TITLES, interval, seconds, table, token_passes

README = FOLDER.parent / "README.md"
COMPARE, OPEN_WORLD = "compare", "open-world"  # experiments whose tables the README shows
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


def open_world(found: dict[str, Any], non_words: dict[str, float], perplexity: dict[str, float]) -> str:
    """A table of what comes of a model that brings nothing, one row a method.

    Args:
        found: kind → method → measure, of `means`.
        non_words: method → share of its prompts that hold a word which English lacks.
        perplexity: method → perplexity of a character of its prompts.
    """
    others = [kind for kind in NAMES if kind in found]
    titles = ["method", "pictures", *(TITLES[measure] for measure in OF_SCENES)]
    titles += [f"{TITLES['word_f1']}, {NAMES[kind]}" for kind in others]
    titles += ["prompts with a non-word", "perplexity", "token passes"]
    rows = []
    for method, row in found["held-out"].items():
        of_others = [found[kind].get(method) for kind in others]
        pictures = " + ".join(str(each["pictures"]) for each in [row, *of_others] if each)
        cells = [*(cell(row, measure) for measure in OF_SCENES), *(cell(each, "word_f1") for each in of_others)]
        spelled = [f"{non_words[method]:.0%}", f"{perplexity[method]:.1f}", f"{token_passes(row):,.0f}"]
        rows.append([f"`{method}`", pictures, *cells, *spelled])
    return table(titles, rows)


def marks(experiment: str) -> tuple[str, str]:
    """What stands in the README before and behind an experiment's table."""
    return f"<!-- {experiment}: written by `python -m experiments run {experiment}` -->\n", f"<!-- /{experiment} -->"


def with_table(text: str, experiment: str, tables: str) -> str:
    """The README's text with the tables between an experiment's two marks; ValueError where they are missing."""
    begin, end = marks(experiment)
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return before + begin + tables + end + after


def write_table(experiment: str, tables: str) -> None:
    README.write_text(with_table(README.read_text(), experiment, tables))
