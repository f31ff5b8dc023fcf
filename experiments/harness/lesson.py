"""The data of fast.ai's lesson 12: points around a few centroids, with the centroid that each was drawn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

SPREAD = 5.0  # variance of each of the lesson's clusters, along each axis
BANDWIDTH = 2.5  # the lesson's


class Labeled(NamedTuple):
    """points (N, D), the cluster that each was drawn from (N,), and the clusters' true centroids (K, D)."""

    points: Tensor
    labels: Tensor
    centroids: Tensor

    def error(self, moved: Tensor) -> float:
        """Mean distance of the points, where they are now, to the centroid that they were drawn from."""
        return float((moved - self.centroids[self.labels]).norm(dim=1).mean())


def lesson(n: int = 1500, clusters: int = 6, features: int = 2, seed: int = 42, sizes: Sequence[int] | None = None) -> Labeled:
    """The lesson's data: centroids uniform in [−35, 35]^D, points around them with variance 5; of equal sizes unless given."""
    generator = torch.Generator().manual_seed(seed)
    centroids = torch.rand(clusters, features, generator=generator) * 70 - 35
    counts = torch.tensor(sizes) if sizes else torch.full((clusters,), n // clusters)
    labels = torch.arange(clusters).repeat_interleave(counts)
    noise = torch.randn(len(labels), features, generator=generator) * math.sqrt(SPREAD)
    return Labeled(centroids[labels] + noise, labels, centroids)
