"""DBSCAN: clusters as dense regions, noise as what lies between, on any device.

In: points (N, D), a radius and a number; out: labels, −1 for noise. Neighbors are looked at a chunk at a time and
forgotten: regions grow by union-find, so memory does not grow with the number of neighbors. In main memory and few
features, one k-d tree serves all steps and passes over branches that are already one region. Source: Ester, Kriegel,
Sander and Xu (1996).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from clustering.arrays import compute_dtype, read_points, read_weights, squarable, to_input_type
from clustering.metrics import METRICS, embed, to_euclidean
from clustering.neighbors import check_algorithm
from clustering.params import RenamedParameters, choice, fitted, integer, real, remember, threads_of
from clustering.persistence import Persistent
from clustering.region_finders import RegionFinder, find_regions
from kernels.arrays import as_tensor


class DBSCAN(RenamedParameters, Persistent, ClusterMixin, BaseEstimator):
    """Density-based clusters.

    Args:
        eps: the distance up to which points are neighbors, in the metric's units.
        min_samples: the weight of neighbors, itself included, that makes a point a core point.
        metric: "euclidean" or "cosine" (zero vectors are at distance 0 of one another, and 1 of all others).
        algorithm: of `NearestNeighbors`; "auto" is exact.
        n_jobs: threads in main memory; None: as many as torch may use, −1: one a core.

    Attributes:
        labels_: (N,) int64, numbered by first core point, −1 for noise.
        core_sample_indices_: (C,) int64.
        components_: (C, D), the core points.
        n_features_in_: D.

    A border point between clusters goes to the first of them, as in scikit-learn.

    Raises:
        ValueError: NaN or infinity, and parameters out of range.

    Examples:
        >>> DBSCAN(eps=1.5, min_samples=2).fit(torch.tensor([[0.0], [1.0], [9.0], [20.0], [21.0]])).labels_
        tensor([ 0,  0, -1,  1,  1])
    """

    RENAMED: ClassVar[dict[str, str]] = {"method": "algorithm"}

    def __init__(
        self,
        eps: float = 0.5,
        min_samples: int = 5,
        metric: str = "euclidean",
        algorithm: str = "auto",
        n_jobs: int | None = None,
    ) -> None:
        self.eps, self.min_samples, self.metric, self.algorithm, self.n_jobs = eps, min_samples, metric, algorithm, n_jobs

    def fit(self, x: Any, y: Any = None, sample_weight: Any = None) -> DBSCAN:
        """Cluster x.

        Args:
            x: (N, D).
            y: ignored.
            sample_weight: (N,), what each point counts towards min_samples; a negative weight keeps its neighbors
                from being core points.

        Returns:
            The estimator itself.
        """
        self._check()
        remember(self, "eps", "metric", "algorithm")
        given = read_points(self, x, reset=True)
        weights = read_weights(sample_weight, given, signed=True)
        points = embed(compute_dtype(squarable(given)), self.metric)
        with threads_of(self.n_jobs):
            core, labels = self._regions(points).label(weights, self.min_samples)
        cores = core.nonzero()[:, 0]
        self._core_labels = labels[cores]
        self.labels_, self.core_sample_indices_ = to_input_type(labels, x), to_input_type(cores, x)
        self.components_ = to_input_type(given[cores], x)
        return self

    def predict(self, x: Any) -> Any:
        """Labels (Q,) of points x (Q, D) by the rule of `fit`: the first cluster with a core point within eps, or −1.

        The points that were fitted get their labels_ again.
        """
        check_is_fitted(self)
        queries = embed(compute_dtype(squarable(read_points(self, x))), fitted(self, "metric"))
        cores = as_tensor(self.components_, "components_").to(queries.device)
        if not len(cores):
            return to_input_type(torch.full((len(queries),), -1, device=queries.device), x)
        points = embed(compute_dtype(squarable(cores)), fitted(self, "metric"))
        kind = torch.promote_types(points.dtype, queries.dtype)
        labels = self._core_labels.to(queries.device)
        with threads_of(self.n_jobs):
            return to_input_type(self._regions(points.to(kind)).first_label(queries.to(kind), labels), x)

    def _regions(self, points: Tensor) -> RegionFinder:
        """What finds the regions of embedded points."""
        eps, metric, algorithm = (fitted(self, name) for name in ("eps", "metric", "algorithm"))
        return find_regions(points, to_euclidean(float(eps), metric), algorithm)

    def _check(self) -> None:
        real(self, "eps", open_below=True)
        integer(self, "min_samples")
        choice(self, "metric", METRICS)
        check_algorithm(self)
