"""The cosine distance by the Euclidean one: so every search structure serves both.

In: points (N, D) and a metric's name; out: points whose Euclidean distances say the metric's. On the unit sphere
|x − y|² = 2 (1 − cos); zero vectors share an axis of their own: they are at cosine distance 1 of all others, and at 0
of one another, as equal points are, where `distances` and scikit-learn say 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clustering.arrays import compute_dtype

METRICS = ("euclidean", "cosine")


def embed(points: Tensor, metric: str) -> Tensor:
    """Points (N, D) as they are, or on the unit sphere with one axis more (N, D + 1)."""
    if metric == "euclidean":
        return points
    directions = unit(points)
    return torch.cat([directions, (~points.any(1, keepdim=True)).to(directions)], 1)


def unit(points: Tensor) -> Tensor:
    """Directions (…, D) of points (…, D) in their compute dtype: of length 1, and zero where a point is zero.

    Squares of tiny and of huge numbers leave the range of a dtype, so rows are first scaled to a largest value near 1, by a
    power of two, which rounds nothing.
    """
    wide = compute_dtype(points)
    if not wide.numel():
        return wide
    most = wide.detach().abs().amax(-1, keepdim=True)  # a tenth of the time of the infinity norm, which copies nothing
    last = 1022 if wide.dtype == torch.float64 else 126  # the largest exponent whose power has a reciprocal that is not subnormal
    scaled = wide * torch.exp2(-torch.frexp(most).exponent.clamp(-last, last).to(wide))
    length = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    return scaled / length.clamp(min=torch.finfo(wide.dtype).tiny)  # not in place: `distances` have gradients


def from_euclidean(distances: Tensor, metric: str) -> Tensor:
    """Distances between embedded points in the metric's units."""
    return distances if metric == "euclidean" else distances.square() / 2


def to_euclidean(radius: float, metric: str) -> float:
    """A radius of the metric between embedded points."""
    return radius if metric == "euclidean" else (2 * radius) ** 0.5
