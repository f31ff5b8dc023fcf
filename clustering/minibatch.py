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

from clustering.arrays import read_points, read_weights, sum_dtype, to_input_type
from clustering.centroids import CentroidModel, prepared, prepared_beside
from clustering.lloyd import accumulate, assign, inertia
from clustering.params import boolean, fitted, generator_on, integer, real, remember
from clustering.progress import progress
from clustering.runs import mean_variance
from clustering.weights import scaled
from kernels.arrays import as_tensor


class MiniBatchKMeans(CentroidModel):
    """k-means from mini-batches.

    Args:
        n_clusters: K.
        init: as in `KMeans`.
        batch_size: points in a step of `fit`.
        max_epochs: passes of `fit` over the points, in a new random order each.
        tol: `fit` ends after an epoch in which the centers' summed squared movement, relative to the points' mean
            variance, is at most this.
        verbose: show the epochs of `fit`, and the centers' movement, on standard error.
        random_state: as in `KMeans`.
        spherical: as in `KMeans`.

    Attributes:
        cluster_centers_: (K, D), in x's dtype, or in the widest of those that `partial_fit` was given.
        labels_, inertia_: of the points last given.
        n_iter_: steps.
        counts_: (K,) float64, the weight that each center has seen.

    Raises:
        ValueError: as `KMeans` does; the first batch of `partial_fit` needs at least n_clusters points.

    Examples:
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
        tol: float = 1e-4,
        random_state: Any = 0,
        spherical: bool = False,
        verbose: int | bool = 0,
    ) -> None:
        self.verbose = verbose
        self.n_clusters, self.init, self.batch_size = n_clusters, init, batch_size
        self.max_epochs, self.tol, self.random_state, self.spherical = max_epochs, tol, random_state, spherical

    def fit(self, x: Any, y: Any = None, sample_weight: Any = None) -> MiniBatchKMeans:
        """Learn from x (N, D) batch by batch, anew. y is ignored; sample_weight: (N,), not negative."""
        integer(self, "batch_size")
        integer(self, "max_epochs")
        limit = real(self, "tol")
        given, weights = self._read(x, sample_weight, reset=True)
        points = prepared(given, self.spherical)
        limit *= mean_variance([points])
        generator = generator_on(points.device, self.random_state)
        weights, scale = scaled(weights)
        centers, seen = self._begin(points, weights, generator, x)
        steps = 0
        with progress(self, self.max_epochs, "movement") as report:
            for epoch in range(1, self.max_epochs + 1):
                before = centers
                for rows in torch.randperm(len(points), generator=generator, device=points.device).split(self.batch_size):
                    centers, seen = self._learn(points[rows], None if weights is None else weights[rows], centers, seen)
                    steps += 1
                shift = float((centers - before).square().sum())
                if report is not None:
                    report(epoch, shift)
                if shift <= limit:
                    break
        self.n_iter_ = steps
        return self._keep(x, points, given.dtype, weights, centers, seen, scale)

    def partial_fit(self, x: Any, y: Any = None, sample_weight: Any = None) -> MiniBatchKMeans:
        """One step with the batch x (n, D); the first call also chooses the starting centers. y is ignored."""
        first = not hasattr(self, "cluster_centers_")
        given, weights = self._read(x, sample_weight, reset=first)
        if first:
            points, dtype = prepared(given, self.spherical), given.dtype
            weights, scale = scaled(weights)
            centers, seen = self._begin(points, weights, generator_on(points.device, self.random_state), x)
            self.n_iter_ = 0
        else:
            known = as_tensor(self.cluster_centers_, "cluster_centers_")
            points, dtype = (
                prepared_beside(given, known, fitted(self, "spherical"))[0],
                torch.promote_types(given.dtype, known.dtype),
            )
            centers = self._means.to(points.device)
            weights, seen, scale = scaled_together(weights, as_tensor(self.counts_, "counts_").to(centers))
        centers, seen = self._learn(points, weights, centers, seen)
        self.n_iter_ += 1
        return self._keep(x, points, dtype, weights, centers, seen, scale)

    def _read(self, x: Any, sample_weight: Any, reset: bool) -> tuple[Tensor, Tensor | None]:
        points = read_points(self, x, reset=reset)
        if reset:
            self._check_clusters(len(points))
            boolean(self, "spherical")
            remember(self, "spherical")
        return points, read_weights(sample_weight, points)

    def _begin(self, points: Tensor, weights: Tensor | None, generator: torch.Generator, like: Any) -> tuple[Tensor, Tensor]:
        centers = self._start(points, weights, generator, like).to(sum_dtype(points.device))
        return centers, torch.zeros_like(centers[:, 0])

    def _learn(self, points: Tensor, weights: Tensor | None, centers: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Centers (K, D) and their weights (K,) after a batch: each is the running mean, in float64, of what came to it."""
        found = accumulate(points, centers, weights)
        after = seen + found.counts
        step = (found.sums - found.counts[:, None] * centers) / after.clamp(min=torch.finfo(after.dtype).tiny)[:, None]
        moved = centers + step
        return (normalize(moved, dim=1) if fitted(self, "spherical") else moved), after

    def _keep(
        self,
        x: Any,
        points: Tensor,
        dtype: torch.dtype,
        weights: Tensor | None,
        centers: Tensor,
        seen: Tensor,
        scale: float,
    ) -> MiniBatchKMeans:
        self._means = centers  # in full: from a 16-bit center small steps would be rounded away
        centers = centers.to(dtype)
        labels, nearest = assign(points, centers)
        self.cluster_centers_, self.labels_ = to_input_type(centers, x), to_input_type(labels, x)
        self.counts_, self.inertia_ = to_input_type(seen * scale, x), inertia(nearest, weights) * scale
        return self


def scaled_together(weights: Tensor | None, seen: Tensor) -> tuple[Tensor | None, Tensor, float]:
    """A batch's weights (n,) and the weights (K,) seen before, both divided by one power of two, and that power."""
    if weights is None:
        return None, seen, 1.0
    both, scale = scaled(torch.cat([weights, seen.to(weights)]))
    assert both is not None
    return both[: len(weights)], both[len(weights) :], scale
