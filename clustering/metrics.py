"""The cosine distance by the Euclidean one: so every search structure serves both.

In: points (N, D) and a metric's name; out: points whose Euclidean distances say the metric's. On the unit sphere
|x − y|² = 2 (1 − cos); zero vectors share an axis of their own: they are at cosine distance 1 of all others, and at 0
of one another, as equal points are, where `distances` and scikit-learn say 1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

METRICS = ("euclidean", "cosine")


def embed(points: Tensor, metric: str) -> Tensor:
    """Points (N, D) as they are, or on the unit sphere with one axis more (N, D + 1)."""
    if metric == "euclidean":
        return points
    largest = points.abs().amax(1, keepdim=True)
    unit = normalize(points / largest.clamp(min=torch.finfo(points.dtype).tiny), dim=1)  # squares of tiny numbers vanish
    return torch.cat([unit, (largest == 0).to(unit)], 1)


def from_euclidean(distances: Tensor, metric: str) -> Tensor:
    """Distances between embedded points in the metric's units."""
    return distances if metric == "euclidean" else distances.square() / 2


def to_euclidean(radius: float, metric: str) -> float:
    """A radius of the metric between embedded points."""
    return radius if metric == "euclidean" else (2 * radius) ** 0.5
