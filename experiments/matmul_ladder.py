"""How much does each step of the matmul ladder win, from three Python loops to the vendor's library and XLA?

Every backend on square products from 64 up, each until its next one would take longer than eight seconds, and on the
lesson's (50000×784)·(784×10): time, rate, and speed-up over the step before. With `--device cuda` the GPU's backends
alone, in a minute and a half; the thread's Nx notebooks climb from plain code to XLA on CPU and GPU.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from experiments.harness.runner import Context
from kernels import available
from kernels.bench import Row, compare, operands
from kernels.bench_input import LESSON, is_feasible, sizes
from kernels.timing import copy_bandwidth

PER_DEVICE = True  # a card's figures lie beside the CPU's
SQUARES = (64, 128, 256, 512, 1024, 2048, 4096)
End = tuple[tuple[float, float], str, str]  # of a line: its last point, name and color
BUDGET = {"cpu": 2.0, "cuda": 0.8}  # seconds to spend on each product; kernels for a GPU are compiled besides
MOST_SECONDS = 8.0  # that one product of the next size may be expected to take; it runs at least twice


def run(context: Context) -> dict[str, Any]:
    squares, most = (SQUARES[:4], 1.0) if context.quick else (SQUARES, MOST_SECONDS)
    devices = [context.device]
    seconds = BUDGET[context.device.type]
    ladder: dict[str, list[Row]] = {}
    lesson: dict[str, list[Row]] = {}
    bandwidth = {}
    for device in devices:
        bandwidth[device.type] = copy_bandwidth(device)
        ladder[device.type] = climb(device, squares, most, bandwidth[device.type], context.seed, seconds)
        lesson[device.type] = on_lesson(device, bandwidth[device.type], context.seed, seconds)
    draw(ladder, context)
    return {
        "copy_bytes_per_second": bandwidth,
        "ladder": {device: [figures(row) for row in rows] for device, rows in ladder.items()},
        "lesson": {device: [figures(row) for row in rows] for device, rows in lesson.items()},
        "speed_up_over_the_step_before": {device: speed_ups(rows) for device, rows in ladder.items()},
    }


def climb(device: torch.device, squares: tuple[int, ...], most: float, bandwidth: float, seed: int, seconds: float) -> list[Row]:
    """Every backend on every size; one that would take more than `most` seconds on the next size stops where it is."""
    names, rows = available(device.type), []
    for size in squares:
        found = compare(names, *operands(size, size, size, torch.float32, device, seed), bandwidth, seconds)
        rows += found
        grown = {row.backend: row.seconds * 8 for row in found}
        names = [name for name in names if grown[name] <= most]
    return rows


def on_lesson(device: torch.device, bandwidth: float, seed: int, seconds: float) -> list[Row]:
    """The lesson's product with every backend that ends in seconds."""
    names = [name for name in available(device.type) if is_feasible(name, *sizes(LESSON))]
    return compare(names, *operands(*sizes(LESSON), torch.float32, device, seed), bandwidth, seconds)


def figures(row: Row) -> dict[str, Any]:
    """A row for the JSON, in three digits."""
    rounded = {name: float(f"{value:.3g}") for name, value in vars(row).items() if isinstance(value, float)}
    return {name: value for name, value in {**vars(row), **rounded}.items() if value is not None}


def speed_ups(rows: list[Row]) -> list[dict[str, Any]]:
    """Each backend against the one before it in the ladder, on the largest size that both reached."""
    found = []
    names = list(dict.fromkeys(row.backend for row in rows))
    for before, after in pairwise(names):
        times = [{row.m: row.seconds for row in rows if row.backend == name} for name in (before, after)]
        size = max(set(times[0]) & set(times[1]))
        found.append({"from": before, "to": after, "size": size, "times": float(f"{times[0][size] / times[1][size]:.3g}")})
    return found


def draw(ladder: dict[str, list[Row]], context: Context) -> None:
    """Seconds against size, both logarithmic, a line for each backend, named at its end."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(ladder), figsize=(7.5 * len(ladder), 5.5), squeeze=False, layout="constrained")
    for axis, (device, rows) in zip(axes[0], ladder.items(), strict=True):
        ends: list[End] = []
        for name in dict.fromkeys(row.backend for row in rows):
            points = [(row.m, row.seconds) for row in rows if row.backend == name]
            (line,) = axis.plot(*zip(*points, strict=True), marker="o", markersize=3)
            ends.append((points[-1], name, line.get_color()))
        axis.set(xscale="log", yscale="log", xlabel="n, for (n×n)·(n×n) in float32", title=device)
        axis.set_xticks([row.m for row in rows], [str(row.m) for row in rows], minor=False)
        axis.set_xticks([], minor=True)
        label(axis, ends)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", linewidth=0.4)
    axes[0, 0].set_ylabel("seconds")
    figure.savefig(context.path("ladder.png"), dpi=130)
    plt.close(figure)


def label(axis: Any, ends: list[End], apart: float = 1.6) -> None:
    """Write each name to the right of its line's end, names above one another at least by a factor `apart`."""
    lowest: dict[float, float] = {}
    for (x, y), name, color in sorted(ends):
        height = max(y, lowest.get(x, 0.0) * apart)
        lowest[x] = height
        axis.annotate(name, (x, height), xytext=(6, 0), textcoords="offset points", color=color, va="center", fontsize=9)
