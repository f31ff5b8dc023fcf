"""Means with intervals → Markdown tables and the cells of other tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.harness.statistics import QUALITY

TITLES = {
    "word_f1": "word F1",
    "named": "objects named",
    "objects": "exactly the objects",
    "relation": "relation right",
    "judge": "judge",
    "optimised": "optimised CLIP",
}


def markdown(summary: dict[str, Any], measures: Sequence[str] = QUALITY) -> str:
    """One row a method: means with half-widths of their intervals, seconds and token passes."""
    titles = ["method", "pictures", *(TITLES[m] for m in measures), "seconds", "token passes"]
    rows = [
        [f"`{method}`", row["pictures"], *(interval(row[m]) for m in measures), seconds(row), f"{token_passes(row):,.0f}"]
        for method, row in summary.items()
    ]
    return table(titles, rows)


def table(titles: list[str], rows: list[list[Any]]) -> str:
    """Markdown; all columns but the first hold numbers."""
    lines = [titles, ["---"] + ["---:"] * (len(titles) - 1), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def token_passes(row: dict[str, Any]) -> float:
    """Mean positions of prompts that a method ran through the text encoder, forward and backward; row: of `means`."""
    return row["forward"]["mean"] + row["backward"]["mean"]


def seconds(row: dict[str, Any]) -> str:
    """Mean wall seconds, where they are known; row: of `means`."""
    return f"{row['seconds']['mean']:.1f}" if "seconds" in row else "–"


def interval(cell: dict[str, float], digits: int = 3) -> str:
    """Mean and half the width of its interval."""
    return f"{cell['mean']:.{digits}f} ± {(cell['high'] - cell['low']) / 2:.{digits}f}"
