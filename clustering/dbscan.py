"""DBSCAN: clusters as dense regions, noise as what lies between, on any device.

In: points (N, D), a radius and a number; out: labels, −1 for noise. Neighbors are looked at a chunk at a time and
forgotten: regions grow by union-find, so memory does not grow with the number of neighbors. In main memory and few
features, one k-d tree serves all steps and passes over branches that are already one region. Source: Ester, Kriegel,
Sander and Xu (1996).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from clustering.arrays import compute_dtype, read_points, read_weights, squarable, sum_dtype, to_input_type
from clustering.buckets import Neighborhoods
from clustering.metrics import METRICS, embed, to_euclidean
from clustering.neighbors import NearestNeighbors, check_algorithm
from clustering.params import RenamedParameters, choice, integer, real, threads_of

TREE_FEATURES = 16  # up to which the k-d tree is the faster way through all neighbors
PAIRS = 1 << 22  # of neighbors held at a time


class DBSCAN(RenamedParameters, ClusterMixin, BaseEstimator):
    """Density-based clusters.

    Args:
        eps: the distance up to which points are neighbors, in the metric's units.
        min_samples: the weight of neighbors, itself included, that makes a point a core point.
        metric: "euclidean" or "cosine".
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
        queries = embed(compute_dtype(squarable(read_points(self, x))), self.metric)
        cores = torch.as_tensor(self.components_).to(queries.device)
        if not len(cores):
            return to_input_type(torch.full((len(queries),), -1, device=queries.device), x)
        points = embed(compute_dtype(squarable(cores)), self.metric)
        kind = torch.promote_types(points.dtype, queries.dtype)
        labels = self._core_labels.to(queries.device)
        with threads_of(self.n_jobs):
            return to_input_type(self._regions(points.to(kind)).first_label(queries.to(kind), labels), x)

    def _regions(self, points: Tensor) -> TreeRegions | ChunkRegions:
        """What finds the regions of embedded points."""
        few = points.device.type == "cpu" and points.shape[1] <= TREE_FEATURES
        eps = to_euclidean(float(self.eps), self.metric)
        if self.algorithm == "kd_tree" or (self.algorithm == "auto" and few):
            return TreeRegions(points, eps)
        return ChunkRegions(points, eps, self.algorithm)

    def _check(self) -> None:
        real(self, "eps", open_below=True)
        integer(self, "min_samples")
        choice(self, "metric", METRICS)
        check_algorithm(self)


class TreeRegions:
    """Regions by a k-d tree in main memory: no list of neighbors is ever written."""

    def __init__(self, points: Tensor, eps: float) -> None:
        from clustering import kdtree
        from clustering.engines import in_main_memory

        self.tree = kdtree.build(in_main_memory(points, "kd_tree"))
        self.square = eps * eps

    def label(self, weights: Tensor | None, least: int) -> tuple[Tensor, Tensor]:
        """core (N,) bool and labels (N,) int64."""
        from clustering import regions

        n = len(self.tree.order)
        core = np.empty(n, bool)
        in_order = np.ascontiguousarray(self.tree.points.T)  # neighbors in the tree ask the same leaves
        core[self.tree.order] = self._mass(in_order, weights, least) >= least
        root = np.arange(n)
        regions.link_core_points(self.tree, core, self.square, root)
        regions.settle(root)
        labels = np.full(n, -1, np.int64)
        labels[core] = np.unique(root[core], return_inverse=True)[1].reshape(-1)
        others = self.tree.order[~core[self.tree.order]]
        labels[others] = self._first(in_order[~core[self.tree.order]], labels.copy())
        return torch.from_numpy(core), torch.from_numpy(labels)

    def first_label(self, queries: Tensor, labels: Tensor) -> Tensor:
        """The first label within eps of each query (Q, D), or −1."""
        return torch.from_numpy(self._first(queries.double().contiguous().numpy(), labels.numpy()))

    def _mass(self, queries: np.ndarray, weights: Tensor | None, least: int) -> np.ndarray:
        """What lies within eps of each query: at least `least` where it is that much or more."""
        from clustering import kdtree, regions

        if weights is None:
            counts = np.empty(len(queries), np.int64)
            self._share(
                lambda part: kdtree.count_within(self.tree, queries[part], self.square, least, counts[part]), len(queries)
            )
            return counts
        sums, own = np.empty(len(queries)), weights.numpy()
        self._share(lambda part: regions.weigh_neighbors(self.tree, queries[part], self.square, own, sums[part]), len(queries))
        return sums

    def _first(self, queries: np.ndarray, labels: np.ndarray) -> np.ndarray:
        from clustering import regions

        found = np.empty(len(queries), np.int64)
        self._share(
            lambda part: regions.first_label_within(self.tree, queries[part], self.square, labels, found[part]), len(queries)
        )
        return found

    @staticmethod
    def _share(work: Any, rows: int) -> None:
        from clustering import cpu

        parts = cpu.shares_of(rows, torch.get_num_threads())
        cpu.run_shares(lambda thread: work(parts[thread]), len(parts))


class ChunkRegions:
    """Regions by any search and on any device, from the neighbors of a chunk of points at a time."""

    def __init__(self, points: Tensor, eps: float, algorithm: str) -> None:
        self.points, self.eps = points, eps
        self.index = NearestNeighbors(algorithm=algorithm).fit(points)

    def _chunks(self, queries: Tensor) -> Iterator[tuple[int, Neighborhoods]]:
        """The neighbors of queries, of so many at a time that about PAIRS are held."""
        first, rows = 0, 256
        while first < len(queries):
            near = self.index.neighborhoods(queries[first : first + rows], self.eps)
            yield first, near
            first += rows
            each = max(1.0, len(near.indices) / max(1, len(near.offsets) - 1))
            rows = int(max(1, min(4 * rows, PAIRS / each)))

    def label(self, weights: Tensor | None, least: int) -> tuple[Tensor, Tensor]:
        """core (N,) bool and labels (N,) int64.

        A pair is linked when the later of its two points is looked at: by then it is known of both whether they are core.
        """
        n, device = len(self.points), self.points.device
        core = torch.zeros(n, dtype=torch.bool, device=device)
        root = torch.arange(n, device=device)
        for first, near in self._chunks(self.points):
            counts = near.offsets.diff()
            rows = near.rows()
            if weights is not None:
                counts = torch.zeros(len(counts), dtype=sum_dtype(device), device=device).index_add_(
                    0, rows, weights[near.indices]
                )
            core[first : first + len(counts)] = counts >= least
            rows = rows + first
            linked = core[rows] & core[near.indices] & (near.indices < rows)
            root = merge_regions(root, rows[linked], near.indices[linked])
        root = settled(root)
        labels = torch.full((n,), -1, dtype=torch.int64, device=device)
        labels[core] = root[core].unique(return_inverse=True)[1]
        others = (~core).nonzero()[:, 0]
        labels[others] = self.first_label(self.points[others], labels)
        return core, labels

    def first_label(self, queries: Tensor, labels: Tensor) -> Tensor:
        """The first label within eps of each query (Q, D), or −1; labels (N,): of core points, −1 for all others."""
        none = len(labels)
        open_labels = labels.masked_fill(labels < 0, none)
        found = torch.full((len(queries),), none, dtype=torch.int64, device=queries.device)
        for first, near in self._chunks(queries):
            found[first : first + len(near.offsets) - 1].scatter_reduce_(0, near.rows(), open_labels[near.indices], "amin")
        return found.masked_fill(found == none, -1)


def merge_regions(root: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Join the regions of pairs (P,): root (N,) leads each point to the smallest number in its region.

    In main memory pair by pair; elsewhere each round hooks every tree onto the smallest root among its points'
    neighbors, then lets all points jump to their roots; the number of trees shrinks geometrically.
    """
    if root.device.type == "cpu":
        from clustering import regions

        regions.unite_pairs(root.numpy(), rows.numpy(), columns.numpy())
        return root
    rows, columns = torch.cat([rows, columns]), torch.cat([columns, rows])
    while True:
        hooked = settled(root.scatter_reduce(0, root[rows], root[columns], "amin"))
        if torch.equal(hooked, root):
            return root
        root = hooked


def settled(root: Tensor) -> Tensor:
    """Every point's root itself."""
    while not torch.equal(jumped := root[root], root):
        root = jumped
    return root
