"""Bisecting k-means: one cluster that is split in two until there are K.

In: points (N, D) as a tensor on any device, an array, a list or a frame; out: centers, labels and inertia of the same kind.
A split is a run of Lloyd's algorithm over the points of one cluster, so later splits look at few points. Source:
Steinbach, Karypis and Kumar, "A comparison of document clustering techniques" (2000).
"""

from __future__ import annotations

from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from clustering.arrays import compute_dtype, read_points, read_weights, to_input_type
from clustering.centroids import INITS, CentroidModel, prepared, prepared_beside
from clustering.lloyd import accumulate, assign, inertia, means_of
from clustering.metrics import unit
from clustering.params import bad_parameter, boolean, choice, fitted, generator_on, integer, real, remember
from clustering.passes import make_pass
from clustering.progress import progress
from clustering.runs import Descent, mean_variance
from clustering.weights import scaled
from kernels.arrays import as_tensor

STRATEGIES = ("biggest_inertia", "largest_cluster")
ALGORITHMS = ("lloyd", "elkan")


class BisectingKMeans(CentroidModel):
    """Bisecting k-means.

    Args:
        n_clusters: K.
        init: of each split: "random", "k-means++" or a callable `init(x, n_clusters, random_state)`.
        n_init: runs of each split, of which the one with the least inertia is kept.
        random_state: as in `KMeans`.
        max_iter: most iterations of a split.
        tol: as in `KMeans`.
        copy_x: taken for scikit-learn's sake; x is never written to.
        algorithm: "lloyd" or "elkan", with the same result.
        bisecting_strategy: which cluster is split next: "biggest_inertia" or "largest_cluster".
        spherical: as in `KMeans`.
        verbose: show the splits, and the size of the cluster that is split, on standard error.

    Attributes:
        cluster_centers_: (K, D), in x's dtype, in the order of the tree's leaves.
        labels_: (N,) int64. inertia_: weighted sum of squared distances to the points' own centers.
        n_iter_: iterations of all splits. n_features_in_: D.

    `predict` goes down the tree of splits, so fitted points get their labels_ again.

    Raises:
        ValueError: as `KMeans`.

    Examples:
        >>> x = torch.tensor([[0.0], [1.0], [10.0], [11.0], [20.0]])
        >>> BisectingKMeans(n_clusters=3).fit(x).cluster_centers_.flatten().sort().values
        tensor([ 0.5000, 10.5000, 20.0000])
    """

    def __init__(
        self,
        n_clusters: int = 8,
        init: Any = "random",
        n_init: int = 1,
        random_state: Any = 0,
        max_iter: int = 300,
        tol: float = 1e-4,
        copy_x: bool = True,
        algorithm: str = "lloyd",
        bisecting_strategy: str = "biggest_inertia",
        spherical: bool = False,
        verbose: int | bool = 0,
    ) -> None:
        self.verbose = verbose
        self.n_clusters, self.init, self.n_init, self.random_state = n_clusters, init, n_init, random_state
        self.max_iter, self.tol, self.copy_x, self.algorithm = max_iter, tol, copy_x, algorithm
        self.bisecting_strategy, self.spherical = bisecting_strategy, spherical

    def fit(self, x: Any, y: Any = None, sample_weight: Any = None) -> BisectingKMeans:
        """Cluster x (N, D). y is ignored; sample_weight: (N,), not negative."""
        self._check()
        remember(self, "spherical")
        given = read_points(self, x, reset=True)
        self._check_clusters(len(given))
        weights, scale = scaled(read_weights(sample_weight, given))
        points = prepared(given, self.spherical)
        generator = generator_on(points.device, self.random_state)
        labels = torch.zeros(len(points), dtype=torch.int64, device=points.device)
        children, nodes, self.n_iter_ = [[-1, -1]], [self._root(points, weights)], 0
        scores = {0: 1.0}
        with progress(self, self.n_clusters - 1, "points") as report:
            for split in range(1, self.n_clusters):
                parent = max(scores, key=lambda node: scores[node])
                del scores[parent]
                rows = (labels == parent).nonzero()[:, 0]
                own = None if weights is None else weights[rows]
                centers, sides, nearest = self._split(points[rows], own, generator, x)
                for side in (0, 1):
                    node, at = len(nodes), sides == side
                    children[parent][side] = node
                    children.append([-1, -1])
                    nodes.append(centers[side])
                    labels[rows[at]] = node
                    scores[node] = self._score(nearest[at], None if own is None else own[at])
                if report is not None:
                    report(split, len(rows))
        self._tree = torch.tensor(children, device="cpu"), torch.stack(nodes)
        leaves = self._leaves()
        number = torch.empty(len(nodes), dtype=torch.int64, device="cpu")
        number[leaves] = torch.arange(len(leaves), device="cpu")
        found = torch.stack(nodes)[leaves.to(points.device)]
        labels = number.to(points.device)[labels]
        loss = sum(
            inertia((compute_dtype(points[at]) - found[k]).square().sum(1), None if weights is None else weights[at])
            for k in range(len(found))
            if bool((at := labels == k).any())
        )
        self.cluster_centers_ = to_input_type(found.to(given.dtype), x)
        self.labels_, self.inertia_ = to_input_type(labels, x), float(loss) * scale
        return self

    def predict(self, x: Any) -> Any:
        """Labels (N,) int64, found by going down the tree: at each split to the nearer of two centers."""
        check_is_fitted(self)
        given, (children, nodes), leaves = read_points(self, x), self._tree, self._leaves().tolist()
        known = as_tensor(self.cluster_centers_, "cluster_centers_")  # whose dtype was fitted; the nodes are never 16-bit
        points, _ = prepared_beside(given, known, fitted(self, "spherical"))
        points, nodes = points.double() if nodes.dtype == torch.float64 else points, nodes.to(points.device)
        at = torch.zeros(len(points), dtype=torch.int64, device=points.device)
        out = torch.zeros_like(at)
        for node, (left, right) in enumerate(children.tolist()):  # parents come before their children
            rows = (at == node).nonzero()[:, 0]
            if left < 0:
                out[rows] = leaves.index(node)
            elif len(rows):
                side, _ = assign(points[rows], nodes[[left, right]])
                at[rows] = left + side * (right - left)
        return to_input_type(out, x)

    def _root(self, points: Tensor, weights: Tensor | None) -> Tensor:
        """The center (D,) of all points."""
        anywhere = compute_dtype(points[:1])
        mean = means_of(accumulate(points, anywhere, weights), anywhere)[0]
        return unit(mean) if self.spherical else mean

    def _leaves(self) -> Tensor:
        """The tree's leaves (K,) from left to right."""
        children, found, waiting = self._tree[0].tolist(), [], [0]
        while waiting:
            node = waiting.pop()
            if children[node][0] < 0:
                found.append(node)
            else:
                waiting += children[node][::-1]
        return torch.tensor(found, device="cpu")

    def _split(
        self, points: Tensor, weights: Tensor | None, generator: torch.Generator, like: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best of n_init runs with two clusters: centers (2, D), sides (n,) and squared distances (n,)."""
        descent = Descent(self.tol * mean_variance([points]), self.max_iter, self.spherical)
        best = None
        for _ in range(self.n_init):
            start = self._start(points, weights, generator, like, n_clusters=2)
            run = descent.run([make_pass(points, weights, 2, self.spherical)], start, compute_dtype(points[:0]).dtype)
            self.n_iter_ += run.iterations
            if best is None or run.inertia < best.inertia:
                best = run
        assert best is not None
        sides, nearest = assign(points, best.centers)
        return best.centers, sides, nearest

    def _score(self, nearest: Tensor, weights: Tensor | None) -> float:
        """What the next cluster to split is chosen by; one point alone is never split."""
        if len(nearest) < 2:
            return -1.0
        return float(len(nearest)) if self.bisecting_strategy == "largest_cluster" else inertia(nearest, weights)

    def _check(self) -> None:
        for name in ("n_init", "max_iter"):
            integer(self, name)
        real(self, "tol")
        choice(self, "algorithm", ALGORITHMS)
        choice(self, "bisecting_strategy", STRATEGIES)
        boolean(self, "copy_x")
        boolean(self, "spherical")
        if not callable(self.init) and (not isinstance(self.init, str) or self.init not in INITS):
            raise bad_parameter(self, "init", f"a str among {set(INITS)} or a callable")
