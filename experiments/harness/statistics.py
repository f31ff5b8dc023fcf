"""Rows of the bench → means with intervals, paired differences, and a Markdown table.

A picture's runs with several seeds are averaged first: pictures are the sample, seeds are not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from experiments.harness.bench import Row
from experiments.harness.measures import estimate

QUALITY = ("word_f1", "named", "objects", "relation", "judge", "optimised")
COST = ("tokens", "seconds", "forward", "backward", "images", "peak_mib")
TITLES = {
    "word_f1": "word F1",
    "named": "objects named",
    "objects": "exactly the objects",
    "relation": "relation right",
    "judge": "judge",
    "optimised": "optimised CLIP",
}

Table = dict[str, dict[str, dict[str, float]]]  # method → picture → measure → mean over seeds


def by_picture(rows: Iterable[Row], kind: str | None = None) -> Table:
    """Method → picture → measure, averaged over seeds; of one kind of picture, or of all."""
    grouped: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if kind in (None, row["kind"]):
            grouped[row["method"]][f"{row['kind']}/{row['picture']}"].append(row)
    return {
        method: {picture: {m: mean(run[m] for run in runs) for m in (*QUALITY, *COST)} for picture, runs in pictures.items()}
        for method, pictures in grouped.items()
    }


def mean(values: Iterable[float | None]) -> float:
    """NaN where nothing was measured."""
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else float("nan")


def means(table: Table, seed: int = 0) -> dict[str, Any]:
    """Method → measure → {"mean", "low", "high"} (95 % bootstrap over pictures), and the number of pictures."""
    found: dict[str, Any] = {}
    for method, pictures in table.items():
        found[method] = {"pictures": len(pictures)}
        for measure in (*QUALITY, *COST):
            values = [row[measure] for row in pictures.values() if not np.isnan(row[measure])]
            if values:
                found[method][measure] = estimate(values, seed)
    return found


def paired(table: Table, ours: str, seed: int = 0) -> dict[str, Any]:
    """Other method → measure → ours minus theirs on the pictures of both: mean, 95 % interval, Wilcoxon's p."""
    found: dict[str, Any] = {}
    for method, pictures in table.items():
        shared = [name for name in pictures if name in table.get(ours, {})]
        if method == ours or not shared:
            continue
        found[method] = {"pictures": len(shared)}
        for measure in (*QUALITY, "seconds"):
            differences = np.array([table[ours][name][measure] - pictures[name][measure] for name in shared])
            differences = differences[~np.isnan(differences)]
            if len(differences):
                p = float(wilcoxon(differences).pvalue) if np.any(differences) else 1.0
                found[method][measure] = {**estimate(differences, seed), "p": p}
        theirs = sum(pictures[name]["forward"] + pictures[name]["backward"] for name in shared)
        own = sum(table[ours][name]["forward"] + table[ours][name]["backward"] for name in shared)
        found[method]["token_passes_ratio"] = theirs / own if own else None
    return found


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
