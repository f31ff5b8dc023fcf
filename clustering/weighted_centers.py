"""Centers of clusters whose points belong to them more or less strongly, as HDBSCAN's do.

In: points (N, D), labels (N,), −1 for none, and strengths (N,); out: for each cluster the mean of its points, or the one of
them that the others are nearest to, both weighted by strength.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clustering.arrays import compute_dtype, sum_dtype
from clustering.pairwise import distance_chunks
from kernels.arrays import without_autocast


def centroids_of(points: Tensor, labels: Tensor, strengths: Tensor) -> Tensor:
    """Weighted means (K, D), in the points' dtype."""
    k, wide = int(labels.max()) + 1, sum_dtype(points.device)
    own, weights = labels[labels >= 0], strengths[labels >= 0].to(wide)
    sums = torch.zeros(k, points.shape[1], dtype=wide, device=points.device)
    sums.index_add_(0, own, points[labels >= 0].to(wide) * weights[:, None])
    return (sums / torch.zeros(k, dtype=wide, device=points.device).index_add_(0, own, weights)[:, None]).to(points.dtype)


@without_autocast
def medoids_of(points: Tensor, labels: Tensor, strengths: Tensor, metric: str) -> Tensor:
    """Points (K, D) with the smallest weighted sum of distances to their clusters."""
    found = points.new_empty(int(labels.max()) + 1, points.shape[1])
    for cluster in range(len(found)):
        own = points[labels == cluster]
        wide = compute_dtype(own)
        weights = strengths[labels == cluster].to(wide)
        found[cluster] = own[torch.cat([block @ weights for _, block in distance_chunks(wide, wide, metric)]).argmin()]
    return found
