"""Can mean shift look at the nearest points only, and be faster in wall time than looking at all pairs?

The lesson's "super bonus" and the thread's open problem. Each neighbor structure from 1,500 points to a million, to
convergence: time, growth exponent, error; against all pairs, against the two naive attempts that the thread found
slower, and against scikit-learn's MeanShift, extrapolated from the largest size that it finishes in its time.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import sklearn.cluster
import torch
from torch import Tensor

from clustering import MeanShift
from experiments.harness.figures import figure
from experiments.harness.lesson import BANDWIDTH, Labeled, lesson
from experiments.harness.runner import Context
from experiments.harness.timing import growth_exponent, median_seconds, wall_seconds

K = 64  # nearest points looked at
SIZES = (1_500, 6_000, 24_000, 96_000, 384_000, 1_000_000)
METHODS = ("kd_tree", "ball_tree", "grid", "lsh", "faiss-ivf", "faiss-hnsw")
MOST_SECONDS = 60.0  # a contender that took longer is not asked for the next size
SKLEARN_SECONDS = 300.0
NAIVE_STEPS = 5
GOAL_TIMES, GOAL_EXPONENT = 50.0, 1.2


def run(context: Context) -> dict[str, Any]:
    sizes = SIZES[:3] if context.quick else SIZES
    repeats = 1 if context.quick else 5
    curves = {name: measure(fit, sizes, repeats, context) for name, fit in contenders(context).items()}
    theirs = scikit_learn(sizes, 10.0 if context.quick else SKLEARN_SECONDS)
    draw(context, curves, theirs)
    best = min((c for name, c in curves.items() if name in METHODS), key=lambda c: c["seconds"][-1] / c["sizes"][-1])
    extrapolated = extrapolate(theirs, best["sizes"][-1])
    return {
        "k": K,
        "bandwidth": BANDWIDTH,
        "contenders": curves,
        "naive": naive(context),
        "scikit-learn": theirs,
        "scikit-learn_extrapolated_seconds": extrapolated,
        "times_faster_than_scikit-learn": extrapolated / best["seconds"][-1],
        "best_exponent": best["exponent"],
        "goals_met": extrapolated / best["seconds"][-1] >= GOAL_TIMES and (best["exponent"] or 9) <= GOAL_EXPONENT,
    }


def contenders(context: Context) -> dict[str, Callable[[Tensor], MeanShift]]:
    """How each fits: every structure with the nearest K, the structure's work without merging, and all pairs."""

    def nearest(method: str, resolution: float | None = None) -> Callable[[Tensor], MeanShift]:
        return lambda x: MeanShift(BANDWIDTH, neighbors=("nearest", K), algorithm=method, resolution=resolution).fit(x)

    on_cpu = context.device.type == "cpu"
    found = {method: nearest(method) for method in METHODS if on_cpu or method in ("grid", "lsh")}
    found["all pairs"] = lambda x: MeanShift(BANDWIDTH).fit(x)
    found["all pairs, merging"] = lambda x: MeanShift(BANDWIDTH, resolution=0.1).fit(x)
    if on_cpu:
        found["kd_tree, no merging"] = nearest("kd_tree", 0.0)
    return found


def measure(fit: Callable[[Tensor], MeanShift], sizes: tuple[int, ...], repeats: int, context: Context) -> dict[str, Any]:
    """Medians of a contender at growing sizes, for as long as it takes no more than MOST_SECONDS."""
    done: list[int] = []
    seconds, errors, clusters, steps = [], [], [], []
    fit(lesson(600).points.to(context.device))  # loads what is compiled
    for n in sizes:
        data = lesson(n)
        points = data.points.to(context.device)
        model = fit(points)
        times = [wall_seconds(partial(fit, points), context.device)]
        while len(times) < repeats and sum(times) < MOST_SECONDS / 2:
            times.append(wall_seconds(partial(fit, points), context.device))
        done.append(n)
        seconds.append(statistics.median(times))
        errors.append(data.error(model.shifted_.cpu()))
        clusters.append(len(model.cluster_centers_))
        steps.append(model.n_iter_)
        if seconds[-1] > MOST_SECONDS / 6:  # the next size is four times as large
            break
    exponent = growth_exponent(done, seconds)
    return {"sizes": done, "seconds": seconds, "exponent": exponent, "error": errors, "clusters": clusters, "steps": steps}


def scikit_learn(sizes: tuple[int, ...], most: float) -> dict[str, Any]:
    """scikit-learn's MeanShift with the radius of a flat kernel, at sizes that double until its time is used up."""
    done: list[int] = []
    seconds: list[float] = []
    n = sizes[0]
    while not seconds or (seconds[-1] * 4 <= most and n <= sizes[-1]):
        points = lesson(n).points.numpy()
        seconds.append(wall_seconds(partial(sklearn.cluster.MeanShift(bandwidth=BANDWIDTH, n_jobs=-1).fit, points)))
        done.append(n)
        n *= 2
    return {"sizes": done, "seconds": seconds, "exponent": growth_exponent(done[-2:], seconds[-2:]), "time_limit_s": most}


def extrapolate(theirs: dict[str, Any], n: int) -> float:
    """Seconds at size n if time grows from the largest size as it grew up to it; at least in proportion."""
    return float(theirs["seconds"][-1] * (n / theirs["sizes"][-1]) ** max(1.0, theirs["exponent"] or 1.0))


def weights_of(squares: Tensor) -> Tensor:
    return torch.exp(-0.5 * squares / BANDWIDTH**2)


def all_pairs_step(x: Tensor) -> Tensor:
    weights = weights_of(torch.cdist(x, x).square())
    return weights @ x / weights.sum(1, keepdim=True)


def topk_step(x: Tensor) -> Tensor:
    """Naive attempt 1: all distances, then the smallest k of each row: all the work of all pairs, and a selection."""
    far, index = torch.cdist(x, x).topk(K, largest=False)
    weights = weights_of(far.square())
    return (weights[:, :, None] * x[index]).sum(1) / weights.sum(1, keepdim=True)


def mask_step(x: Tensor) -> Tensor:
    """Naive attempt 2: point by point, keep what a mask says is near: all distances again, and 1,500 small calls."""
    moved = torch.empty_like(x)
    for i, point in enumerate(x):
        squares = (x - point).square().sum(1)
        near = squares < (3 * BANDWIDTH) ** 2
        weights = weights_of(squares[near])
        moved[i] = weights @ x[near] / weights.sum()
    return moved


def naive(context: Context) -> dict[str, float]:
    """Milliseconds of NAIVE_STEPS steps on the lesson's 1,500 points, medians."""
    data: Labeled = lesson()
    steps = {"all pairs": all_pairs_step, "topk of all distances": topk_step, "mask, point by point": mask_step}

    def walk(step: Callable[[Tensor], Tensor]) -> None:
        x = data.points.to(context.device)
        for _ in range(NAIVE_STEPS):
            x = step(x)

    times = {name: median_seconds(partial(walk, step), 5, context.device) for name, step in steps.items()}
    return {name: 1e3 * seconds for name, seconds in times.items()}


def draw(context: Context, curves: dict[str, dict[str, Any]], theirs: dict[str, Any]) -> None:
    made, (left, right) = figure(2, width=6)
    for name, curve in curves.items():
        label = f"{name} (n^{curve['exponent']:.2f})" if curve["exponent"] is not None else name
        left.plot(curve["sizes"], curve["seconds"], "o-" if name in METHODS else "s--", label=label)
        right.plot(curve["sizes"], curve["error"], "o-" if name in METHODS else "s--", label=name)
    left.plot(theirs["sizes"], theirs["seconds"], "k^:", label="scikit-learn")
    left.set(xscale="log", yscale="log", xlabel="points", ylabel="seconds to convergence")
    right.set(xscale="log", yscale="log", xlabel="points", ylabel="mean distance to the true centroid")
    left.legend(fontsize=7, loc="upper left")
    made.savefig(context.path("growth.png"))
