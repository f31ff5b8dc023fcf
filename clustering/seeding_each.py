"""Starting centers of many independent problems at once, drawn for each as `seeding` draws them for one.

In: points (B, N, D) and weights (B, N); out: indices (B, K) among each problem's points. One stream of random numbers
serves all problems, as B fits with the same `random_state` would each see it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clustering.arrays import sum_dtype
from kernels.arrays import without_autocast


@without_autocast
def choose_spread_each(x: Tensor, n_clusters: int, generator: torch.Generator, weights: Tensor | None = None) -> Tensor:
    """Indices (B, K) of spread-out points by greedy k-means++; x (B, N, D) of float32 or float64."""
    trials = 2 + int(math.log(n_clusters))
    weights = torch.ones(x.shape[:2], dtype=torch.float32, device=x.device) if weights is None else weights
    chosen = torch.empty(len(x), n_clusters, dtype=torch.int64, device=x.device)
    chosen[:, :1] = draw_each(weights, 1, generator)
    nearest = expansion_each(x, rows_of(x, chosen[:, :1]))[..., 0]
    for k in range(1, n_clusters):
        candidates = draw_each(nearest * weights, trials, generator)
        blocks = torch.minimum(nearest[..., None], expansion_each(x, rows_of(x, candidates)))
        left = (weights.to(blocks)[:, None] @ blocks)[:, 0]
        best = candidates.gather(1, left.argmin(1, keepdim=True))
        torch.minimum(nearest, expansion_each(x, rows_of(x, best))[..., 0], out=nearest)
        chosen[:, k : k + 1] = best
    return chosen


def choose_random_each(x: Tensor, n_clusters: int, generator: torch.Generator, weights: Tensor | None = None) -> Tensor:
    """Indices (B, K) of different points, drawn in proportion to weight."""
    keys = torch.rand(x.shape[1], generator=generator, dtype=torch.float32, device=x.device).log_().expand(x.shape[:2])
    if weights is not None:
        keys = keys / weights.clamp(min=torch.finfo(weights.dtype).tiny)
    return keys.topk(n_clusters, dim=1).indices


def draw_each(weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n indices of each problem, (B, n), with replacement and in proportion to weights (B, N)."""
    ends = weights.cumsum(1, dtype=sum_dtype(weights.device))
    at = torch.rand(n, generator=generator, dtype=torch.float32, device=weights.device).to(ends) * ends[:, -1:]
    return torch.searchsorted(ends, at, right=True).clamp_(max=weights.shape[1] - 1)


def rows_of(x: Tensor, indices: Tensor) -> Tensor:
    """Rows (B, n, D) of x (B, N, D) by indices (B, n)."""
    return x.gather(1, indices[..., None].expand(-1, -1, x.shape[2]))


def expansion_each(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances (B, N, K) of each problem as |x|² − 2 x·y + |y|²: `pairwise.expansion` as one batched product."""
    center = y.mean(1, keepdim=True)
    x, y = x - center, y - center
    norms = y.square().sum(2)[:, None] + x.square().sum(2, keepdim=True)
    return norms.baddbmm_(x, y.transpose(1, 2), alpha=-2).clamp_(min=0)
