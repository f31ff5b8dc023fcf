"""How fast are mean shift and DBSCAN on a GPU, beside the lesson's ten lines?

Five steps over the lesson's 1,500 points by the lesson's batched loop and by `MeanShift` looking at all points, at random
and at the nearest ones; a million points to convergence; DBSCAN of 100,000 points. Wall time with everything that a user
waits for: checks, clusters and labels. Each figure beside the goal that was set before it was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from clustering import DBSCAN, MeanShift
from experiments.harness.lesson import BANDWIDTH, lesson
from experiments.harness.runner import Context
from experiments.harness.timing import median_seconds

STEPS, BATCH = 5, 500
GOALS_MS = {"all": 0.5, "a million, nearest 100": 25.0, "dbscan, eps 0.5": 15.0}  # others: faster than the lesson's loop
# before the fused kernels, NVIDIA H200, 2026-11-26
BEFORE_MS = {
    "lesson's loop": 2.10,
    "all": 4.77,
    "random 150": 3.34,
    "nearest 75": 9.69,
    "a million, nearest 100": 55.6,
    "dbscan, eps 0.5": 155.7,
}


def run(context: Context) -> dict[str, Any]:
    if context.device.type != "cuda":
        raise SystemExit("meanshift-gpu measures a GPU: give --device cuda")
    few = lesson(1500).points.to(context.device)
    many = lesson(96_000 if context.quick else 1_020_000).points.to(context.device)
    some = lesson(24_000 if context.quick else 100_000).points.to(context.device)
    five = partial(MeanShift, BANDWIDTH, max_iter=STEPS, tol=0)
    calls: dict[str, Callable[[], Any]] = {
        "lesson's loop": partial(lesson_loop, few),
        "all": partial(five().fit, few),
        "random 150": partial(five(neighbors=("random", 150)).fit, few),
        "nearest 75": partial(five(neighbors=("nearest", 75)).fit, few),
        "nearest 75, no merging": partial(five(neighbors=("nearest", 75), resolution=0.0).fit, few),
        "a million, nearest 100": partial(MeanShift(BANDWIDTH, neighbors=("nearest", 100)).fit, many),
        "dbscan, eps 0.1": partial(DBSCAN(0.1).fit, some),
        "dbscan, eps 0.5": partial(DBSCAN(0.5, min_samples=10).fit, some),
        "dbscan, eps 3": partial(DBSCAN(3.0, min_samples=10).fit, some),
    }
    found = {name: milliseconds(call, context) for name, call in calls.items()}
    return {"milliseconds": found, "goals_ms": GOALS_MS, "before_ms": BEFORE_MS}


def milliseconds(call: Callable[[], Any], context: Context) -> float:
    """The median of calls, after two that compile and capture."""
    for _ in range(2):
        call()
    return 1e3 * median_seconds(call, 3 if context.quick else 9, context.device)


def lesson_loop(points: Tensor) -> Tensor:
    """The lesson's own steps: a batch of points at a time, distances by broadcasting."""
    x = points.clone()
    for _ in range(STEPS):
        for first in range(0, len(x), BATCH):
            part = slice(first, first + BATCH)
            weights = torch.exp(-0.5 * (x[None] - x[part, None]).square().sum(2) / BANDWIDTH**2)
            x[part] = weights @ x / weights.sum(1, keepdim=True)
    return x
