"""HDBSCAN: clusters of every density, from the hierarchy of all DBSCANs at once.

In: points (N, D) as a tensor on any device, array, list or frame; out: labels, −1 for noise, of the same kind, and how
surely each point belongs. Core distances and the spanning tree are computed where the points are; the hierarchy, N − 1
merges one after the other, in main memory. Exact: the tree is a minimum spanning tree of all pairs. Source: Campello,
Moulavi and Sander, "Density-based clustering based on hierarchical density estimates" (2013).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from clustering.arrays import compute_dtype, read_points, squarable, sum_dtype, to_input_type
from clustering.metrics import METRICS, embed, from_euclidean
from clustering.neighbors import NearestNeighbors
from clustering.params import choice, fitted, integer, real, remember, threads_of
from clustering.persistence import Persistent

ALGORITHMS = ("auto", "brute", "kd_tree", "ball_tree", "groups")
FEW_POINTS = 10_000  # up to which every pair is looked at, in scikit-learn's order
TREE_FEATURES = 12  # up to which a k-d tree prunes enough to pay


class HDBSCAN(Persistent, ClusterMixin, BaseEstimator):
    """Hierarchical density-based clusters.

    Args:
        min_cluster_size: points that make a group a cluster.
        min_samples: of a point's neighbors, itself included, the one whose distance is its core distance; None:
            min_cluster_size.
        cluster_selection_epsilon: clusters that are born at a smaller distance are merged into what they came from.
        max_cluster_size: larger clusters are split with "eom"; None: no limit.
        metric: "euclidean" or "cosine" (zero vectors are at distance 0 of one another, and 1 of all others).
        algorithm: "brute" looks at every pair, "kd_tree" at few of them, "groups" at every pair by matrix products, for many
            points of many features; "ball_tree", which scikit-learn has for these, is another name for it. "auto" chooses. All
            are exact.
        cluster_selection_method: "eom" (excess of mass: the most persistent clusters) or "leaf" (the smallest).
        allow_single_cluster: whether all points may be one cluster.
        store_centers: "centroid" (means weighted by probability), "medoid" (the points with the smallest weighted distance to
            their clusters) or "both" are stored as attributes; None: neither.
        n_jobs: threads in main memory; None: as many as torch may use, −1: one a core.

    Attributes:
        labels_: (N,) int64, −1 for noise.
        probabilities_: (N,) float64, how strongly a point belongs to its cluster; 0 for noise.
        outlier_scores_: (N,) float64 (GLOSH), towards 1 for outliers.
        centroids_, medoids_: (K, D), where store_centers asks for them.
        n_features_in_: D.

    Labels are those of scikit-learn's default with "brute" ("auto" up to 10,000 points); where edges of the tree are equally
    long, the others, and scikit-learn's own "brute", may take another of them and label a point at the rim otherwise.

    Raises:
        ValueError: NaN or infinity, fewer points than min_samples, and parameters out of range.

    Examples:
        >>> x = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2], [50.0]])
        >>> HDBSCAN(min_cluster_size=3, min_samples=2).fit(x).labels_
        tensor([ 0,  0,  0,  1,  1,  1, -1])
    """

    def __init__(
        self,
        min_cluster_size: int = 5,
        min_samples: int | None = None,
        cluster_selection_epsilon: float = 0.0,
        max_cluster_size: int | None = None,
        metric: str = "euclidean",
        algorithm: str = "auto",
        cluster_selection_method: str = "eom",
        allow_single_cluster: bool = False,
        n_jobs: int | None = None,
        store_centers: str | None = None,
    ) -> None:
        self.min_cluster_size, self.min_samples = min_cluster_size, min_samples
        self.cluster_selection_epsilon, self.max_cluster_size = cluster_selection_epsilon, max_cluster_size
        self.metric, self.algorithm, self.n_jobs = metric, algorithm, n_jobs
        self.cluster_selection_method, self.allow_single_cluster = cluster_selection_method, allow_single_cluster
        self.store_centers = store_centers

    def fit(self, x: Any, y: Any = None) -> HDBSCAN:
        """Cluster x (N, D). y is ignored."""
        from clustering.condensed import condense, outlier_scores

        least = self._check()
        remember(self, "metric", "cluster_selection_epsilon")
        given = read_points(self, x, reset=True)
        n = len(given)
        if least > n:
            raise ValueError(f"min_samples ({least}) must be at most the number of samples in X (n_samples={n})")
        points = embed(compute_dtype(squarable(given)), self.metric)
        with threads_of(self.n_jobs):
            core, (start, end, weight) = self._hierarchy(points, least)
        self._points, self._core, self._least = points, core, least
        if n == 1:
            self._tree = None
            labels, strength, scores = np.full(1, -1), np.zeros(1), np.zeros(1)
        else:
            weight = np.square(weight) / 2 if self.metric == "cosine" else weight
            self._tree = condense(start, end, weight, self.min_cluster_size)
            labels, strength = self._select()
            scores = outlier_scores(self._tree)
        own, strengths = torch.from_numpy(labels).to(given.device), torch.from_numpy(strength).to(given.device)
        self._store_centers(given, own, strengths, x)
        self.labels_, self.probabilities_ = to_input_type(own, x), to_input_type(strengths, x)
        self.outlier_scores_ = to_input_type(torch.from_numpy(scores).to(given.device), x)
        return self

    def predict(self, x: Any) -> Any:
        """Labels (Q,) of points x (Q, D), without fitting again: see `approximate_predict`."""
        return self.approximate_predict(x)[0]

    def approximate_predict(self, x: Any) -> tuple[Any, Any]:
        """Labels (Q,) and probabilities (Q,) that new points would have, the hierarchy left as it is.

        A point joins at its nearest neighbor by mutual reachability, among its 2 × min_samples nearest, and belongs
        to the cluster that this neighbor is in at that distance. Fitted points get their labels_ again,
        but for those at equal distances from points of different labels.
        """
        check_is_fitted(self)
        queries = embed(compute_dtype(squarable(read_points(self, x))), fitted(self, "metric"))
        queries = queries.to(self._points.device)
        if self._tree is None:
            none = torch.full((len(queries),), -1, device=queries.device)
            return to_input_type(none, x), to_input_type(torch.zeros_like(none, dtype=sum_dtype(none.device)), x)
        k = min(2 * self._least, len(self._points))
        with threads_of(self.n_jobs):
            kind = torch.promote_types(self._points.dtype, queries.dtype)
            far, near = NearestNeighbors(k).fit(self._points.to(kind)).kneighbors(queries.to(kind))
        far = far.to(self._core.dtype)
        reach = torch.maximum(torch.maximum(far, self._core[near]), far[:, self._least - 1, None])
        best = reach.argmin(1, keepdim=True)
        distance = from_euclidean(reach.gather(1, best)[:, 0], fitted(self, "metric")).double().numpy(force=True)
        labels, strength = self._join(near.gather(1, best)[:, 0].numpy(force=True), distance)
        return (
            to_input_type(torch.from_numpy(labels).to(queries.device), x),
            to_input_type(torch.from_numpy(strength).to(queries.device), x),
        )

    def _hierarchy(self, points: Tensor, least: int) -> tuple[Tensor, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Core distances (N,) and the edges of the spanning tree."""
        from clustering.spanning import spanning_tree

        way, in_memory = self.algorithm, points.device.type == "cpu"
        if way == "auto":
            many = len(points) > FEW_POINTS and in_memory
            way = "brute" if not many else "kd_tree" if points.shape[1] <= TREE_FEATURES else "groups"
        if way != "brute" and not in_memory:
            raise ValueError(f"algorithm {way!r} searches in main memory, the points are on {points.device}: use brute")
        if way == "kd_tree":
            from clustering import kdtree
            from clustering.exact import nearest_in_tree

            tree = kdtree.build(points.numpy())
            order, tree = tree.order, tree._replace(order=np.arange(len(points)))  # what lies side by side is asked for together
            far = nearest_in_tree(tree, points[torch.from_numpy(order)], least)[0][:, -1].sqrt()
            start, end, weight = spanning_tree(points, far, tree)
            core = torch.empty_like(far)
            core[torch.from_numpy(order)] = far
            return core, (order[start], order[end], weight)
        if way in ("groups", "ball_tree"):
            from clustering.spanning_groups import spanning_tree_of_groups

            return spanning_tree_of_groups(points, least)
        search = NearestNeighbors(least).fit(points)
        core = search._search(points, least)[0][:, -1].sqrt()
        return core, spanning_tree(points, core, None)

    def _store_centers(self, points: Tensor, labels: Tensor, strengths: Tensor, like: Any) -> None:
        from clustering.weighted_centers import centroids_of, medoids_of

        for name in ("centroids_", "medoids_"):
            if hasattr(self, name):  # of an earlier fit
                delattr(self, name)
        if self.store_centers in ("centroid", "both"):
            self.centroids_ = to_input_type(centroids_of(points, labels, strengths), like)
        if self.store_centers in ("medoid", "both"):
            self.medoids_ = to_input_type(medoids_of(points, labels, strengths, self.metric), like)

    def _select(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels and probabilities of the fitted points, from the condensed tree."""
        from clustering.condensed import Selector, label_points

        assert self._tree is not None
        epsilon, single = float(self.cluster_selection_epsilon), bool(self.allow_single_cluster)
        self._chosen = Selector(self._tree).select(self.cluster_selection_method, epsilon, single, self.max_cluster_size)
        return label_points(self._tree, self._chosen, epsilon, single)

    def _join(self, neighbor: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels and probabilities of points that join at a neighbor (Q,) at a distance (Q,)."""
        from clustering.condensed import deaths, home_of_clusters

        assert self._tree is not None
        tree = self._tree
        root, alone = tree.root, self._chosen == [tree.root]
        nodes = 1 + int(max(tree.child.max(), tree.parent.max()))
        above, birth = np.full(nodes, -1), np.zeros(nodes)
        above[tree.child], birth[tree.child] = tree.parent, tree.rate
        with np.errstate(divide="ignore"):
            rate = 1 / distance
        cluster = above[neighbor]
        early = rate < birth[neighbor]  # perhaps before the neighbor's cluster was born
        while (climbing := early & (cluster > root) & (birth[cluster] >= rate)).any():
            cluster = np.where(climbing, above[cluster], cluster)
        home = home_of_clusters(tree, self._chosen)[cluster - root]
        if alone:
            epsilon = float(fitted(self, "cluster_selection_epsilon"))
            home = np.where(rate >= (1 / epsilon if epsilon else tree.rate[tree.parent == root].max()), home, -1)
        most = deaths(tree)[np.asarray(self._chosen, np.int64)[home] - root] if self._chosen else np.ones(len(home))
        with np.errstate(invalid="ignore", divide="ignore"):
            strength = np.where((most == 0) | ~np.isfinite(rate), 1.0, np.minimum(rate, most) / most)
        return home, np.where(home >= 0, strength, 0.0)

    def _check(self) -> int:
        """The number of neighbors of a core distance; ValueError for parameters out of range."""
        integer(self, "min_cluster_size", 2)
        real(self, "cluster_selection_epsilon")
        choice(self, "metric", METRICS)
        choice(self, "algorithm", ALGORITHMS)
        choice(self, "cluster_selection_method", ("eom", "leaf"))
        if not isinstance(self.allow_single_cluster, bool | np.bool_):
            raise ValueError(f"allow_single_cluster has to be True or False, not {self.allow_single_cluster!r}")
        if self.store_centers is not None:
            choice(self, "store_centers", ("centroid", "medoid", "both"))
        if self.max_cluster_size is not None:
            integer(self, "max_cluster_size")
        return integer(self, "min_cluster_size", 2) if self.min_samples is None else integer(self, "min_samples")
