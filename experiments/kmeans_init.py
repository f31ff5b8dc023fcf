"""How often does k-means end in a bad place, from random starts and from k-means++?

1,000 seeds of each on the lesson's data: the distributions of inertia and of steps, how often the best clustering is
found, and pictures of the failures that happen most.
"""

from __future__ import annotations

import statistics
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from clustering import KMeans
from experiments.harness.figures import figure
from experiments.harness.lesson import Labeled, lesson
from experiments.harness.runner import Context

INITS = ("random", "k-means++")
SAME = 1.005  # inertias within half a per cent are one outcome


def run(context: Context) -> dict[str, Any]:
    data = lesson()
    points = data.points.to(context.device)
    seeds = 60 if context.quick else 1000
    runs = {init: [fit(points, init, context.seed + seed) for seed in range(seeds)] for init in INITS}
    best = min(model.inertia_ for models in runs.values() for model in models)
    draw_distributions(context, runs, best)
    draw_failures(context, data, runs["random"], best)
    return {"seeds": seeds, "best_inertia": best, **{init: summary(models, best) for init, models in runs.items()}}


def fit(points: Tensor, init: str, seed: int) -> KMeans:
    return KMeans(6, init=init, random_state=seed, tol=0).fit(points)


def summary(models: list[KMeans], best: float) -> dict[str, Any]:
    ratios = sorted(model.inertia_ / best for model in models)
    return {
        "found_the_best": sum(ratio < SAME for ratio in ratios) / len(ratios),
        "inertia_over_best": {"mean": statistics.fmean(ratios), "median": statistics.median(ratios), "worst": ratios[-1]},
        "steps": {"mean": statistics.fmean(m.n_iter_ for m in models), "most": max(m.n_iter_ for m in models)},
    }


def outcomes(models: list[KMeans], centroids: Tensor) -> list[tuple[KMeans, int]]:
    """Different endings, the commonest first, with how often each was reached: how many centers each true cluster got."""
    key = {}
    for model in models:
        labels = torch.cdist(model.cluster_centers_.cpu(), centroids).argmin(1)
        key[id(model)] = tuple(torch.bincount(labels, minlength=len(centroids)).tolist())
    first = {key[id(model)]: model for model in reversed(models)}
    return [(first[outcome], count) for outcome, count in Counter(key.values()).most_common()]


def draw_distributions(context: Context, runs: dict[str, list[KMeans]], best: float) -> None:
    made, (left, right) = figure(2)
    worst = max(model.inertia_ for models in runs.values() for model in models) / best
    edges = [1 + (worst - 1) * i / 40 for i in range(41)]
    left.hist([[m.inertia_ / best for m in models] for models in runs.values()], edges, label=list(runs))
    right.hist([[m.n_iter_ for m in models] for models in runs.values()], 25, label=list(runs))
    left.set(xlabel="inertia ÷ best inertia", ylabel="seeds", yscale="log")
    right.set(xlabel="steps", ylabel="seeds")
    left.legend()
    right.legend()
    made.savefig(context.path("distributions.png"))


def draw_failures(context: Context, data: Labeled, models: list[KMeans], best: float) -> None:
    """The three commonest failures: two centers share a cluster and one center has two."""
    failures = [(model, count) for model, count in outcomes(models, data.centroids) if model.inertia_ > SAME * best][:3]
    made, axes = figure(max(1, len(failures)), width=4, height=4)
    for ax, (model, count) in zip(axes, failures, strict=False):
        across, up = data.points.T
        ax.scatter(across, up, s=3, c=model.labels_.cpu(), cmap="tab10", vmax=9)
        across, up = model.cluster_centers_.cpu().T
        ax.scatter(across, up, s=120, c="black", marker="x", linewidths=2.5)
        ax.set_title(f"{count} of {len(models)} random starts\ninertia × {model.inertia_ / best:.1f}")
    made.savefig(context.path("failures.png"))
