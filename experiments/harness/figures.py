"""Figures of the clustering experiments, made without pyplot's global state."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure


def figure(columns: int = 1, rows: int = 1, width: float = 5.2, height: float = 4.0) -> tuple[Figure, list[Any]]:
    """A figure and its axes, row by row."""
    made = Figure(figsize=(width * columns, height * rows), dpi=110, layout="constrained")
    return made, list(made.subplots(rows, columns, squeeze=False).flatten())
