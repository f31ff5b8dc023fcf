"""k-means by Lloyd iterations, seeded by k-means++ (Arthur and Vassilvitskii, 2007).

Points come as a tensor (N, D) on any device or a NumPy array; results are of the same kind, on the
same device. No Python loop runs over points or clusters in the assignment or the update.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clustering.distances import distance_chunks, squared_euclidean


def assign(x: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest center of each point: labels (N,) int64 and squared distances (N,)."""
    labels = torch.empty(len(x), dtype=torch.int64, device=x.device)
    nearest = torch.empty(len(x), dtype=x.dtype, device=x.device)
    for part, distances in distance_chunks(x, centers):
        nearest[part], labels[part] = distances.min(1)
    return labels, nearest


def update(x: Tensor, labels: Tensor, nearest: Tensor, centers: Tensor) -> Tensor:
    """Means of the clusters (K, D); an empty cluster moves to one of the points worst served."""
    sums = torch.zeros_like(centers).index_add_(0, labels, x)
    counts = torch.zeros(len(centers), dtype=x.dtype, device=x.device).index_add_(0, labels, torch.ones_like(nearest))
    empty = counts == 0
    means = sums / counts.clamp(min=1)[:, None]
    worst = x[nearest.topk(min(len(centers), len(x))).indices]
    rank = (empty.long().cumsum(0) - 1).clamp(min=0, max=len(worst) - 1)
    return torch.where(empty[:, None], worst[rank], means)


def kmeans_plusplus(x: Tensor, n_clusters: int, generator: torch.Generator) -> Tensor:
    """Spread-out starting centers (K, D): each drawn with odds by squared distance, best of a few trials.

    generator: on the CPU, whatever the device, so that a seed means the same everywhere.
    """
    trials = 2 + int(math.log(n_clusters))
    first = int(torch.randint(len(x), (1,), generator=generator))
    chosen = [first]
    nearest = squared_euclidean(x, x[first : first + 1])[:, 0]
    while len(chosen) < n_clusters:
        total = nearest.cumsum(0)
        draws = torch.rand(trials, generator=generator).to(x) * total[-1]
        candidates = torch.searchsorted(total, draws).clamp(max=len(x) - 1)
        left = torch.minimum(nearest[:, None], squared_euclidean(x, x[candidates]))  # (N, trials)
        best = left.sum(0).argmin()
        nearest = left[:, best]
        chosen.append(int(candidates[best]))
    return x[chosen]


class KMeans:
    """Lloyd's k-means.

    >>> x = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    >>> KMeans(n_clusters=2).fit(x).cluster_centers_.flatten().sort().values
    tensor([ 0.5000, 10.5000])

    init: "k-means++", "random", or starting centers (K, D). n_init: runs, the best is kept. tol:
    movement of the centers, relative to the data's variance, below which a run ends. Raises
    ValueError for fewer points than clusters, for NaN or infinity, and for unknown inits.
    """

    cluster_centers_: Any
    labels_: Any
    inertia_: float
    n_iter_: int

    def __init__(
        self, n_clusters: int = 8, init: Any = "k-means++", n_init: int = 1, max_iter: int = 300, tol: float = 1e-4, seed: int = 0
    ) -> None:
        self.n_clusters, self.init, self.n_init = n_clusters, init, n_init
        self.max_iter, self.tol, self.seed = max_iter, tol, seed

    def fit(self, x: Any) -> KMeans:
        """Cluster x (N, D)."""
        points = self._points(x)
        if len(points) < self.n_clusters:
            raise ValueError(f"{len(points)} points cannot form {self.n_clusters} clusters: ask for fewer")
        generator = torch.Generator().manual_seed(self.seed)
        runs = [self._lloyd(points, self._start(points, generator)) for _ in range(self.n_init)]
        centers, labels, self.inertia_, self.n_iter_ = min(runs, key=lambda run: run[2])
        as_given = (lambda t: t.numpy()) if isinstance(x, np.ndarray) else (lambda t: t)
        self.cluster_centers_, self.labels_ = as_given(centers), as_given(labels)
        return self

    def predict(self, x: Any) -> Any:
        """Labels (N,) of the nearest fitted centers."""
        labels, _ = assign(self._points(x), torch.as_tensor(self.cluster_centers_))
        return labels.numpy() if isinstance(x, np.ndarray) else labels

    def _points(self, x: Any) -> Tensor:
        points = torch.as_tensor(x).detach()
        if points.ndim != 2 or not points.is_floating_point():
            raise ValueError(f"expected floating-point points (N, D), got {points.dtype} of shape {tuple(points.shape)}")
        if not torch.isfinite(points).all():
            raise ValueError("the points hold NaN or infinity: remove those rows first")
        return points

    def _start(self, x: Tensor, generator: torch.Generator) -> Tensor:
        if isinstance(self.init, str):
            if self.init == "k-means++":
                return kmeans_plusplus(x, self.n_clusters, generator)
            if self.init == "random":
                return x[torch.randperm(len(x), generator=generator)[: self.n_clusters].to(x.device)]
            raise ValueError(f"unknown init {self.init!r}: 'k-means++', 'random' or an array of centers")
        return torch.as_tensor(self.init).to(x).clone()

    def _lloyd(self, x: Tensor, centers: Tensor) -> tuple[Tensor, Tensor, float, int]:
        limit = self.tol * float(x.var(0, correction=0).mean())
        for iteration in range(1, self.max_iter + 1):  # noqa: B007
            labels, nearest = assign(x, centers)
            moved = update(x, labels, nearest, centers)
            shift = float((moved - centers).square().sum())
            centers = moved
            if shift <= limit:
                break
        labels, nearest = assign(x, centers)
        return centers, labels, float(nearest.sum()), iteration
