"""Starting centers for k-means: random points, or spread-out ones by greedy k-means++.

In: points (N, D) on any device, weights, and a random state; out: centers (K, D) there. Every draw, the weighted
ones included, is made where the points lie. Source: Arthur and Vassilvitskii (2007); several candidates for each
center, of which the best is kept, as in their own implementation.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from clustering.arrays import compute_dtype, read_points, read_weights, squarable, sum_dtype, to_input_type
from clustering.pairwise import expansion
from clustering.params import generator_on, whole
from clustering.weights import scaled
from kernels.arrays import without_autocast

CHUNK_ROWS = 1 << 17


def kmeans_plusplus(
    x: Any, n_clusters: int, sample_weight: Any = None, random_state: Any = 0, n_local_trials: int | None = None
) -> tuple[Any, Any]:
    """Spread-out starting centers for k-means.

    Args:
        x: points (N, D), a tensor on any device, an array or a list.
        n_clusters: K, at most N.
        sample_weight: (N,); a point is drawn in proportion to weight × squared distance to the nearest center so far.
        random_state: an int, RandomState, torch.Generator, or None for other centers every time.
        n_local_trials: candidates for each center, of which the best is kept; None: 2 + log(K).

    Returns:
        centers (K, D) and their indices (K,) among the points, of x's kind.

    Raises:
        ValueError: fewer points than clusters, and what `KMeans` refuses.

    Examples:
        >>> centers, indices = kmeans_plusplus(torch.tensor([[0.0], [0.0], [9.0]]), 2)
        >>> centers.flatten().sort().values
        tensor([0., 9.])
    """
    from sklearn.base import BaseEstimator  # a slow import, which `choose_spread` does without

    points = read_points(BaseEstimator(), x, reset=True)
    n_clusters = whole(n_clusters, "n_clusters", "kmeans_plusplus")
    if n_clusters > len(points):
        raise ValueError(f"n_samples={len(points)} should be >= n_clusters={n_clusters}.")
    weights, _ = scaled(read_weights(sample_weight, points))
    trials = None if n_local_trials is None else whole(n_local_trials, "n_local_trials", "kmeans_plusplus")
    chosen = choose_spread(squarable(points), n_clusters, generator_on(points.device, random_state), weights, trials)
    return to_input_type(points[chosen], x), to_input_type(chosen, x)


def choose_spread(
    x: Tensor, n_clusters: int, generator: torch.Generator, weights: Tensor | None = None, trials: int | None = None
) -> Tensor:
    """Indices (K,) of spread-out points (N, D) by greedy k-means++.

    A point that coincides with a center already drawn is never drawn, until nothing else is left.
    """
    trials = trials or 2 + int(math.log(n_clusters))
    weights = torch.ones(len(x), dtype=torch.float32, device=x.device) if weights is None else weights
    chosen = torch.empty(n_clusters, dtype=torch.int64, device=x.device)
    chosen[:1] = draw(weights, 1, generator)
    nearest = sq_distances(x, x[chosen[:1]])[:, 0]
    for k in range(1, n_clusters):
        candidates = draw(nearest * weights, trials, generator)
        best = candidates[potential(x, x[candidates], nearest, weights).argmin(0, keepdim=True)]
        torch.minimum(nearest, sq_distances(x, x[best])[:, 0], out=nearest)
        chosen[k : k + 1] = best
    return chosen


def choose_random(x: Tensor, n_clusters: int, generator: torch.Generator, weights: Tensor | None = None) -> Tensor:
    """Indices (K,) of n_clusters different points, drawn in proportion to weight.

    The largest keys log(u) / weight are a weighted draw without replacement (Efraimidis and Spirakis, 2006).
    """
    keys = torch.rand(len(x), generator=generator, dtype=torch.float32, device=x.device).log_()
    if weights is not None:
        keys = keys / weights.clamp(min=torch.finfo(weights.dtype).tiny)
    return keys.topk(n_clusters).indices


def draw(weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n indices (n,) int64 with replacement, in proportion to weights (N,); none without weight, unless none has any."""
    ends = weights.cumsum(0, dtype=sum_dtype(weights.device))
    at = torch.rand(n, generator=generator, dtype=torch.float32, device=weights.device).to(ends) * ends[-1]
    return torch.searchsorted(ends, at, right=True).clamp_(max=len(weights) - 1)


def sq_distances(x: Tensor, few: Tensor) -> Tensor:
    """Squared distances (N, few) in float32 or wider, row chunk by row chunk."""
    return torch.cat([expansion(compute_dtype(rows), compute_dtype(few)) for rows in x.split(CHUNK_ROWS)])


@without_autocast
def potential(x: Tensor, candidates: Tensor, nearest: Tensor, weights: Tensor) -> Tensor:
    """The inertia that each candidate (C, D) would leave, (C,), without an N × C matrix."""
    left = torch.zeros(len(candidates), dtype=nearest.dtype, device=x.device)
    for rows, near, weight in zip(x.split(CHUNK_ROWS), nearest.split(CHUNK_ROWS), weights.split(CHUNK_ROWS), strict=True):
        block = torch.minimum(near[:, None], expansion(compute_dtype(rows), compute_dtype(candidates)))
        left += weight.to(block) @ block
    return left
