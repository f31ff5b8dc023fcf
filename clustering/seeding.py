"""Starting centers for k-means: random points, or spread-out ones by greedy k-means++.

In: points (N, D) on any device, weights, and a random generator of that device; out: centers (K, D) there. Every
draw, the weighted ones included, is made where the points lie. Source: Arthur and Vassilvitskii (2007); several
candidates for each center, of which the best is kept, as in their own implementation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clustering.arrays import compute_dtype
from clustering.distances import by_matmul

CHUNK_ROWS = 1 << 17


def kmeans_plusplus(x: Tensor, n_clusters: int, generator: torch.Generator, weights: Tensor | None = None) -> Tensor:
    """Spread-out starting centers (K, D): each drawn with odds weight × squared distance, best of a few trials.

    generator: of x's device. Points that coincide with a center already drawn have no odds, until nothing else is left.
    """
    trials = 2 + int(math.log(n_clusters))
    odds = torch.ones(len(x), device=x.device) if weights is None else weights.float()
    chosen = torch.empty(n_clusters, dtype=torch.int64, device=x.device)
    chosen[:1] = draw(odds, 1, generator)
    nearest = reach(x, x[chosen[:1]])[:, 0]
    for k in range(1, n_clusters):
        candidates = draw(nearest * odds, trials, generator)
        best = candidates[left_over(x, x[candidates], nearest, odds).argmin(0, keepdim=True)]
        torch.minimum(nearest, reach(x, x[best])[:, 0], out=nearest)
        chosen[k : k + 1] = best
    return x[chosen]


def random_points(x: Tensor, n_clusters: int, generator: torch.Generator, weights: Tensor | None = None) -> Tensor:
    """n_clusters different points (K, D), drawn with odds by weight.

    The largest keys log(u) / weight are a weighted draw without replacement (Efraimidis and Spirakis, 2006).
    """
    keys = torch.rand(len(x), generator=generator, device=x.device).log_()
    if weights is not None:
        keys /= weights.float().clamp(min=torch.finfo(torch.float32).tiny)
    return x[keys.topk(n_clusters).indices]


def draw(odds: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n indices (n,) int64 with replacement, with these odds (N,); never one without odds, unless none has any."""
    ends = odds.cumsum(0)
    at = torch.rand(n, generator=generator, device=odds.device) * ends[-1]
    return torch.searchsorted(ends, at, right=True).clamp_(max=len(odds) - 1)


def reach(x: Tensor, few: Tensor) -> Tensor:
    """Squared distances (N, few) in float32 or wider, row chunk by row chunk."""
    return torch.cat([by_matmul(compute_dtype(rows), compute_dtype(few)) for rows in x.split(CHUNK_ROWS)])


def left_over(x: Tensor, candidates: Tensor, nearest: Tensor, odds: Tensor) -> Tensor:
    """The inertia that each candidate (C, D) would leave, (C,), without an N × C matrix."""
    left = torch.zeros(len(candidates), dtype=nearest.dtype, device=x.device)
    for rows, near, weight in zip(x.split(CHUNK_ROWS), nearest.split(CHUNK_ROWS), odds.split(CHUNK_ROWS), strict=True):
        block = torch.minimum(near[:, None], by_matmul(compute_dtype(rows), compute_dtype(candidates)))
        left += weight.to(block) @ block
    return left
