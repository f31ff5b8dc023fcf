"""Can k-means on ten million points be watched?

Ten million points of the plane, eight clusters, drawn as a density raster: the animation, the seconds that an
iteration takes, and the seconds that a frame takes on top.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from clustering import KMeans
from clustering.animate import box_of, frame, save
from clustering.lloyd import assign
from experiments.harness.lesson import lesson
from experiments.harness.runner import Context

CLUSTERS = 8
SIZE = (720, 600)


def run(context: Context) -> dict[str, Any]:
    n = 200_000 if context.quick else 10_000_000
    points = lesson(n, CLUSTERS, seed=7).points
    points = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(context.seed))].to(context.device)
    model = KMeans(CLUSTERS, init="random", random_state=context.seed + 4, max_iter=30)
    model.fit(points[:100_000])  # loads what is compiled
    steps: list[torch.Tensor] = []
    iterations: list[float] = []
    drawing: list[float] = []
    began = time.perf_counter()
    for centers in model.steps(points):  # each step waits for the GPU, to see whether the centers rest
        steps.append(centers)
        iterations.append(time.perf_counter() - began)
        began = time.perf_counter()
    box, frames = box_of(points), []
    for number, centers in enumerate(steps):
        began = time.perf_counter()
        frames.append(frame(points, assign(points, centers)[0], centers, box, f"k-means, step {number}", SIZE))
        drawing.append(time.perf_counter() - began)
    path = save(frames, context.path("steps.gif"), fps=2)
    return {
        "points": len(points),
        "iterations": len(steps) - 1,
        "milliseconds_per_iteration": 1e3 * statistics.median(iterations[1:]),
        "milliseconds_per_frame": 1e3 * statistics.median(drawing),
        "bytes_of_gif": path.stat().st_size,
    }
