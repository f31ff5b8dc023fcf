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
    lines = [
        "| method | pictures | " + " | ".join(TITLES[m] for m in measures) + " | seconds | token passes |",
        "| --- |" + " ---: |" * (len(measures) + 3),
    ]
    for method, row in summary.items():
        cells = [interval(row[m]) for m in measures]
        cost = f"{seconds(row)} | {token_passes(row):,.0f}"
        lines.append(f"| `{method}` | {row['pictures']} | {' | '.join(cells)} | {cost} |")
    return "\n".join(lines) + "\n"


def token_passes(row: dict[str, Any]) -> float:
    """Mean positions of prompts that a method ran through the text encoder, forward and backward; row: of `means`."""
    return row["forward"]["mean"] + row["backward"]["mean"]


def seconds(row: dict[str, Any]) -> str:
    """Mean wall seconds, where they are known; row: of `means`."""
    return f"{row['seconds']['mean']:.1f}" if "seconds" in row else "–"


def interval(cell: dict[str, float], digits: int = 3) -> str:
    """Mean and half the width of its interval."""
    return f"{cell['mean']:.{digits}f} ± {(cell['high'] - cell['low']) / 2:.{digits}f}"
