"""What estimators with cluster centers share: where the centers start, and what a fitted set of them can do.

In: points (N, D) as a tensor on any device, an array, a list, a frame or `Chunks`; out: labels, distances and scores
of the same kind.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from clustering.arrays import beside, read_centers, read_points, read_weights, squarable, to_input_type
from clustering.lloyd import assign, inertia
from clustering.metrics import unit
from clustering.pairwise import distance_chunks
from clustering.params import RenamedParameters, bad_parameter, fitted, integer
from clustering.persistence import Persistent
from clustering.seeding import choose_random, choose_spread
from clustering.stream import Chunks
from clustering.weights import list_weights, weighted_chunks
from kernels.arrays import as_tensor

INITS = ("k-means++", "random")


class CentroidModel(
    RenamedParameters, Persistent, TransformerMixin, ClassNamePrefixFeaturesOutMixin, ClusterMixin, BaseEstimator
):
    """What a fitted set of centers can do: `predict`, `transform` and `score`."""

    RENAMED: ClassVar[dict[str, str]] = {"seed": "random_state"}

    n_clusters: int
    init: Any
    spherical: bool
    cluster_centers_: Any
    labels_: Any
    inertia_: float
    n_iter_: int

    def predict(self, x: Any) -> Any:
        """Labels (N,) int64 of the nearest centers; for `Chunks` as one tensor."""
        if isinstance(x, Chunks):
            check_is_fitted(self)
            return torch.cat([self.predict(chunk) for chunk in x])
        points, centers, _ = self._beside_centers(x)
        return to_input_type(assign(points, centers)[0], x)

    def transform(self, x: Any) -> Any:
        """Euclidean distances (N, K) to the centers, in x's dtype."""
        points, centers, dtype = self._beside_centers(x)
        out = torch.empty(len(points), len(centers), dtype=points.dtype, device=points.device)
        for part, block in distance_chunks(points, centers, "euclidean"):
            out[part] = block
        return to_input_type(out.to(dtype), x)

    def score(self, x: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Minus the inertia of x under the fitted centers: the larger, the better."""
        if isinstance(x, Chunks):
            check_is_fitted(self)
            weighted = weighted_chunks(x, list_weights(x, sample_weight, signed=True))
            return sum(self._score_beside(self._beside_centers(chunk), own) for chunk, own in weighted)
        found = self._beside_centers(x)
        return self._score_beside(found, read_weights(sample_weight, found[0], signed=True))

    def _score_beside(self, found: tuple[Tensor, Tensor, torch.dtype], weights: Tensor | None) -> float:
        points, centers, _ = found
        return -inertia(assign(points, centers)[1], weights)

    def _beside_centers(self, x: Any) -> tuple[Tensor, Tensor, torch.dtype]:
        """Points and centers in one dtype in which their distances are finite, and the dtype that results are to have."""
        check_is_fitted(self)
        given = read_points(self, x)
        centers = as_tensor(self.cluster_centers_, "cluster_centers_")
        return *prepared_beside(given, centers, fitted(self, "spherical")), given.dtype

    def _start(
        self, points: Tensor, weights: Tensor | None, generator: torch.Generator, like: Any = None, n_clusters: int | None = None
    ) -> Tensor:
        """Starting centers (K, D) beside the points.

        like: what the user passed, whose kind a callable init is given. n_clusters: K, unless the estimator's own.
        """
        k = self.n_clusters if n_clusters is None else n_clusters
        if isinstance(self.init, str):
            if self.init not in INITS:
                raise bad_parameter(self, "init", f"a str among {set(INITS)}, a callable or an array-like (K, D)")
            choose = choose_spread if self.init == "k-means++" else choose_random
            return points[choose(points, k, generator, weights)]
        if callable(self.init):
            device = generator.device
            seed = int(torch.randint(2**31 - 1, (), generator=generator, device=device))
            given = self.init(to_input_type(points, like), k, random_state=np.random.RandomState(seed))
            return read_centers(given, points, k)
        if self.init is None or np.ndim(self.init) != 2:
            raise bad_parameter(self, "init", f"a str among {set(INITS)}, a callable or an array-like (K, D)")
        return read_centers(self.init, points, k)

    def _check_clusters(self, n: int) -> None:
        k = integer(self, "n_clusters")
        if n < k:
            raise ValueError(f"n_samples={n} should be >= n_clusters={k}.")

    @property
    def _n_features_out(self) -> int:
        return int(self.cluster_centers_.shape[-2])


def prepared(points: Tensor, spherical: bool) -> Tensor:
    """Points (…, D) in a dtype in which their squared distances are finite; their directions where `spherical`."""
    return unit(points) if spherical else squarable(points)


def prepared_beside(points: Tensor, centers: Tensor, spherical: bool) -> tuple[Tensor, Tensor]:
    """The same, and centers (…, D) in their dtype, on their device. Neither is rounded: each may be the wider."""
    points = points.to(torch.promote_types(points.dtype, centers.dtype))
    return beside(unit(points) if spherical else points, centers)
