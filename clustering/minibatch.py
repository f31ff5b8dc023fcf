"""Mini-batch k-means: centers that learn from batches, for data that keeps coming.

In: batches (n, D) one at a time through `partial_fit`, or all points at once through `fit`; out: centers that have
seen every batch once. Source: Sculley, "Web-scale k-means clustering" (2010); a center's learning rate is one over
the weight that it has seen, which makes it the mean of all points that were ever assigned to it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clustering.arrays import generator_on, read_points, read_weights, sum_dtype, to_input_type
from clustering.kmeans import CentroidModel, inertia
from clustering.lloyd import accumulate, assign


class MiniBatchKMeans(CentroidModel):
    """k-means from mini-batches.

    Parameters: n_clusters, init, seed and spherical as in `KMeans`; batch_size: points in a step of `fit`;
    max_epochs: passes of `fit` over the points, in a new random order each; tol: `fit` ends after an epoch in which
    the centers' summed squared movement, relative to their summed squares, is at most this.

    Attributes: cluster_centers_ (K, D), labels_ and inertia_ of the points last given, n_iter_ (steps),
    counts_ (K,) weight that each center has seen. Raises ValueError as `KMeans` does; the first batch of
    `partial_fit` needs at least n_clusters points.

    >>> model = MiniBatchKMeans(n_clusters=2)
    >>> for batch in torch.tensor([[[0.0], [10.0]], [[1.0], [11.0]]]):
    ...     model = model.partial_fit(batch)
    >>> model.cluster_centers_.flatten().sort().values
    tensor([ 0.5000, 10.5000])
    """

    def __init__(
        self,
        n_clusters: int = 8,
        init: Any = "k-means++",
        batch_size: int = 1024,
        max_epochs: int = 10,
        tol: float = 1e-6,
        seed: int = 0,
        spherical: bool = False,
    ) -> None:
        self.n_clusters, self.init, self.batch_size = n_clusters, init, batch_size
        self.max_epochs, self.tol, self.seed, self.spherical = max_epochs, tol, seed, spherical

    def fit(self, x: Any, y: Any = None, sample_weight: Any = None) -> MiniBatchKMeans:
        """Learn from x (N, D) batch by batch, anew. y is ignored."""
        if self.batch_size < 1 or self.max_epochs < 1:
            raise ValueError(f"batch_size and max_epochs must be at least 1, not {self.batch_size} and {self.max_epochs}")
        points, weights = self._read(x, sample_weight, reset=True)
        generator = generator_on(points.device, self.seed)
        centers, seen = self._begin(points, weights, generator)
        steps = 0
        for _ in range(self.max_epochs):
            before = centers
            for rows in torch.randperm(len(points), generator=generator, device=points.device).split(self.batch_size):
                centers, seen = self._learn(points[rows], None if weights is None else weights[rows], centers, seen)
                steps += 1
            if float((centers - before).square().sum()) <= self.tol * float(before.square().sum()):
                break
        self.n_iter_ = steps
        return self._keep(x, points, weights, centers, seen)

    def partial_fit(self, x: Any, y: Any = None, sample_weight: Any = None) -> MiniBatchKMeans:
        """One step with the batch x (n, D); the first call also chooses the starting centers. y is ignored."""
        first = not hasattr(self, "cluster_centers_")
        points, weights = self._read(x, sample_weight, reset=first)
        if first:
            centers, seen = self._begin(points, weights, generator_on(points.device, self.seed))
            self.n_iter_ = 0
        else:
            centers = self._means
            seen = torch.as_tensor(self.counts_).to(centers)
        centers, seen = self._learn(points, weights, centers, seen)
        self.n_iter_ += 1
        return self._keep(x, points, weights, centers, seen)

    def _read(self, x: Any, sample_weight: Any, reset: bool) -> tuple[Tensor, Tensor | None]:
        points = read_points(self, x, reset=reset)
        if reset:
            self._check_clusters(len(points))
        weights = read_weights(sample_weight, points)
        return (normalize(points, dim=1) if self.spherical else points), weights

    def _begin(self, points: Tensor, weights: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        centers = self._start(points, weights, generator).to(sum_dtype(points.device))
        return centers, torch.zeros_like(centers[:, 0])

    def _learn(self, points: Tensor, weights: Tensor | None, centers: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Centers (K, D) and their weights (K,) after a batch: each is the running mean, in float64, of what came to it."""
        found = accumulate(points, centers, weights)
        after = seen + found.counts
        tiny = torch.finfo(after.dtype).tiny
        step = (found.sums - found.counts[:, None] * centers) / after.clamp(min=tiny)[:, None]
        moved = centers + step
        return (normalize(moved, dim=1) if self.spherical else moved), after

    def _keep(self, x: Any, points: Tensor, weights: Tensor | None, centers: Tensor, seen: Tensor) -> MiniBatchKMeans:
        self._means, centers = centers, centers.to(points.dtype)  # in full: small steps would be rounded away
        labels, nearest = assign(points, centers)
        self.cluster_centers_, self.labels_ = to_input_type(centers, x), to_input_type(labels, x)
        self.counts_, self.inertia_ = to_input_type(seen, x), inertia(nearest, weights)
        return self
