"""Nearest neighbors by the structure of your choice: one estimator over seven searches.

In: points (N, D) as a tensor, array, list or frame; out: the nearest k or all within a radius of each query, of the
same kind, on the same device. Exact: "brute", "kd_tree", "ball_tree", "grid", which give the same neighbors, the border
of a radius included; approximate: "lsh", "faiss-ivf", "faiss-hnsw". The k-d tree is ours and for main memory, the grid
and LSH are ours and run on any device; the ball tree and FAISS are others' and run on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from clustering import inner
from clustering.arrays import compute_dtype, lossless, read_points, squarable, to_input_type
from clustering.batched import is_batch, read_batch
from clustering.buckets import Neighborhoods
from clustering.engines import BallTree, Brute, Faiss, Index, KDTree
from clustering.grid import Grid
from clustering.lsh import LSH
from clustering.metrics import METRICS, embed, from_euclidean, to_euclidean
from clustering.neighbors_each import BruteEach, Each, complete, one_by_one, without_self
from clustering.params import RenamedParameters, choice, fitted, integer, remember, seed_from, threads_of
from clustering.persistence import Persistent
from clustering.ragged import ragged, sparse_rows

FEW_POINTS = 2000  # up to which looking at every distance costs the least
TREE_FEATURES = 8  # up to which a k-d tree prunes enough to pay
NEIGHBOR_METRICS = (*METRICS, "inner_product")
OLD_NAMES = {"kdtree": "kd_tree", "balltree": "ball_tree"}

BUILDERS: dict[str, Callable[[Tensor, int, Any], Index]] = {
    "brute": lambda points, k, state: Brute(points),
    "kd_tree": lambda points, k, state: KDTree(points),
    "ball_tree": lambda points, k, state: BallTree(points),
    "grid": lambda points, k, state: Grid(points, occupancy=max(2.0, 2 * k / 3 ** points.shape[1])),
    "lsh": lambda points, k, state: LSH(points, k, bucket=max(128, 4 * k), seed=seed_from(state)),
    "faiss-ivf": lambda points, k, state: Faiss(points, "faiss-ivf"),
    "faiss-hnsw": lambda points, k, state: Faiss(points, "faiss-hnsw"),
}


def choose_algorithm(points: Tensor) -> str:
    """The exact algorithm that measurement says is the fastest for points of this number, width and device."""
    if len(points) <= FEW_POINTS:
        return "brute"
    if points.device.type == "cpu" and points.shape[1] <= TREE_FEATURES:
        return "kd_tree"
    return "grid" if points.shape[1] <= 3 else "brute"


class NearestNeighbors(RenamedParameters, Persistent, BaseEstimator):
    """Neighbors under the Euclidean or the cosine distance, or by inner product.

    Args:
        n_neighbors: what `kneighbors` looks for unless told otherwise.
        radius: likewise for `radius_neighbors`.
        algorithm: "auto" (exact), "brute", "kd_tree", "ball_tree", "grid" (up to 3 features, 2 where the metric is not
            "euclidean"), "lsh", "faiss-ivf" or "faiss-hnsw".
        metric: "euclidean"; "cosine" (1 − cosine similarity; a zero vector is at distance 1 of all but zero vectors); or
            "inner_product": distances are minus the products, so that the largest product is the nearest. Its radii
            may be negative (−0.8: products of at least 0.8), and are searched by looking at every point. Not by "lsh".
        n_jobs: threads of a search in main memory; None: as many as torch may use, −1: one a core.
        random_state: of the hashes of "lsh": an int, RandomState, torch.Generator or None.

    Attributes:
        algorithm_: the one in use.
        n_features_in_: D. n_samples_fit_: N.

    Points (B, N, D) are B independent problems: `kneighbors` of queries (B, Q, D) gives (B, Q, k), each what its problem
    gives alone; the other methods give a list, or lists, with an entry for each problem.

    16-bit points are searched in float32, and queries that this would round in float64. A query for which an approximate
    algorithm finds too few neighbors is searched by "brute".

    Raises:
        ValueError: unknown algorithms and metrics, more neighbors than points, a radius below zero or NaN, and
            algorithms of the CPU given tensors of another device.

    Examples:
        >>> x = torch.tensor([[0.0], [1.0], [5.0]])
        >>> NearestNeighbors(n_neighbors=1).fit(x).kneighbors(torch.tensor([[4.0]]))
        (tensor([[1.]]), tensor([[2]]))
    """

    RENAMED: ClassVar[dict[str, str]] = {"method": "algorithm", "seed": "random_state"}
    DERIVED: ClassVar[tuple[str, ...]] = ("_index",)

    def __init__(
        self,
        n_neighbors: int = 5,
        radius: float = 1.0,
        algorithm: str = "auto",
        metric: str = "euclidean",
        n_jobs: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.n_neighbors, self.radius, self.algorithm, self.metric = n_neighbors, radius, algorithm, metric
        self.n_jobs, self.random_state = n_jobs, random_state

    def fit(self, x: Any, y: Any = None) -> NearestNeighbors:
        """Index x (N, D), or (B, N, D) for B independent problems. y is ignored."""
        check_algorithm(self)
        choice(self, "metric", NEIGHBOR_METRICS)
        if (self.algorithm, self.metric) == ("lsh", "inner_product"):
            raise ValueError(
                "algorithm='lsh' hashes what lies near a query, where the largest products seldom lie: "
                "choose another algorithm, such as 'faiss-hnsw', for metric='inner_product'"
            )
        integer(self, "n_neighbors")
        check_radius(self.radius, self.metric)
        points = read_batch(self, x, reset=True) if is_batch(x) else read_points(self, x, reset=True)
        self._like = points.new_empty(0) if isinstance(x, Tensor) else np.empty(0)  # a view would keep the points alive
        self._dtype = points.dtype
        remember(self, "metric", "algorithm", "n_neighbors")
        if self.algorithm == "lsh":
            self._fitted["random_state"] = seed_from(self.random_state)
        self._points = self._embed(points, inner.embed_points)
        self.n_samples_fit_ = points.shape[-2]
        self._index_points()
        return self

    def _index_points(self) -> None:
        """Build the search structure over the fitted points."""
        algorithm, k, state = (fitted(self, name) for name in ("algorithm", "n_neighbors", "random_state"))
        batch = self._points.ndim == 3
        one = self._points[0] if batch else self._points
        self.algorithm_ = choose_algorithm(one) if algorithm == "auto" else algorithm
        build = BUILDERS[self.algorithm_]
        with threads_of(self.n_jobs):
            if not batch:
                self._index: Any = build(self._points, k, state)
            elif self.algorithm_ == "brute":
                self._index = BruteEach(self._points)
            else:
                self._index = Each(self._points, lambda points: build(points, k, state))

    def _embed(self, points: Tensor, for_products: Callable[[Tensor], Tensor]) -> Tensor:
        """Points (…, N, D) in the dtype that they are searched in and, but for "euclidean", with one coordinate more."""
        flat = points.reshape(-1, points.shape[-1])
        wide = compute_dtype(squarable(flat))
        if self._metric == "inner_product":
            return for_products(wide.reshape(points.shape))
        embedded = embed(wide, self._metric)
        return embedded.reshape(*points.shape[:-1], embedded.shape[-1])

    def _restore(self) -> None:
        if hasattr(self, "_points"):
            self._index_points()

    def to(self, device: str | torch.device) -> Self:
        """Move the points to a device and index them there; returns the estimator itself.

        Raises ValueError, and leaves the estimator as it is, where the algorithm searches in main memory only.
        """
        super().to(device)
        if hasattr(self, "_points"):
            self._like = self._points.new_empty(0)
        return self

    def kneighbors(self, x: Any = None, n_neighbors: int | None = None, return_distance: bool = True) -> Any:
        """The nearest points, nearest first, of equally distant ones the first.

        Args:
            x: queries (Q, D); None asks for the fitted points' neighbors other than themselves.
            n_neighbors: k, unless the estimator's own.
            return_distance: whether distances are given, too.

        Returns:
            Distances (Q, k), in the queries' dtype, and indices (Q, k) int64; or the indices alone.
        """
        queries, dtype, like = self._queries(x)
        k = self._count(x, n_neighbors)
        far, indices = self._nearest(queries, k + (x is None))
        if x is None:
            far, indices = without_self(far, indices)
        indices = to_input_type(indices, like)
        return (to_input_type(far.to(dtype), like), indices) if return_distance else indices

    def radius_neighbors(
        self, x: Any = None, radius: float | None = None, return_distance: bool = True, sort_results: bool = False
    ) -> Any:
        """All points within a radius of each query, its border included.

        Args:
            x: queries (Q, D); None asks for the fitted points' neighbors other than themselves.
            radius: in the metric's units, unless the estimator's own.
            return_distance: whether distances are given, too.
            sort_results: nearest first; otherwise in the order of the points.

        Returns:
            Distances and indices, a row of its own length for each query: object arrays (Q,) of arrays for arrays,
            lists of tensors for tensors; or the indices alone.
        """
        if sort_results and not return_distance:
            raise ValueError("return_distance must be True if sort_results is True.")
        if self._is_batch():
            return one_by_one(self, "radius_neighbors", x, radius, return_distance, sort_results)
        queries, dtype, like = self._queries(x)
        found = self._within(queries, self.radius if radius is None else radius, x is None)
        by = found.distances if sort_results else found.indices
        order = by.argsort(stable=True)
        order = order[found.rows()[order].argsort(stable=True)]
        sizes = found.offsets.diff().tolist()
        indices = ragged(found.indices[order], sizes, like)
        if not return_distance:
            return indices
        return ragged(found.distances[order].to(dtype), sizes, like), indices

    def neighborhoods(self, x: Any, radius: float | None = None) -> Any:
        """`radius_neighbors` of queries (Q, D) as three flat tensors: what compiled and device code works on."""
        if self._is_batch():
            return one_by_one(self, "neighborhoods", x, radius)
        queries, dtype, _ = self._queries(x)
        found = self._within(queries, self.radius if radius is None else radius, False)
        return found._replace(distances=found.distances.to(dtype))

    def kneighbors_graph(self, x: Any = None, n_neighbors: int | None = None, mode: str = "connectivity") -> Any:
        """The nearest points as a sparse matrix (Q, N) in CSR form.

        mode: "connectivity" (ones) or "distance". Arrays get SciPy's matrix, tensors torch's, on their device.
        """
        check_mode(mode)
        if self._is_batch():
            return one_by_one(self, "kneighbors_graph", x, n_neighbors, mode)
        distances, indices = self.kneighbors(x, n_neighbors)
        queries, k = indices.shape
        if isinstance(indices, Tensor):
            offsets = torch.arange(0, queries * k + 1, k, device=indices.device)
            ones = torch.ones_like(distances)
            values = (ones if mode == "connectivity" else distances).flatten()
            return sparse_rows(offsets, indices.flatten(), values, (queries, self.n_samples_fit_))
        data = np.ones(indices.size) if mode == "connectivity" else distances.ravel()
        return csr_matrix((data, indices.ravel(), np.arange(0, queries * k + 1, k)), shape=(queries, self.n_samples_fit_))

    def radius_neighbors_graph(
        self, x: Any = None, radius: float | None = None, mode: str = "connectivity", sort_results: bool = False
    ) -> Any:
        """The points within a radius as a sparse matrix (Q, N) in CSR form, as `kneighbors_graph`."""
        check_mode(mode)
        if self._is_batch():
            return one_by_one(self, "radius_neighbors_graph", x, radius, mode, sort_results)
        distances, indices = self.radius_neighbors(x, radius, sort_results=sort_results)
        sizes = [len(own) for own in indices]
        if isinstance(self._like, Tensor) if x is None else isinstance(x, Tensor):
            flat = torch.cat(distances)
            offsets = torch.tensor([0, *sizes], device=flat.device).cumsum(0)
            values = torch.ones_like(flat) if mode == "connectivity" else flat
            return sparse_rows(offsets, torch.cat(indices), values, (len(sizes), self.n_samples_fit_))
        data = np.ones(sum(sizes)) if mode == "connectivity" else np.concatenate(distances)
        shape = (len(sizes), self.n_samples_fit_)
        return csr_matrix((data, np.concatenate(indices), np.cumsum([0, *sizes])), shape=shape)

    def _count(self, x: Any, n_neighbors: int | None) -> int:
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        if not isinstance(k, Integral):
            raise TypeError(f"n_neighbors does not take {type(k)} value, enter integer value")
        most = self.n_samples_fit_ - (x is None)
        if k < 1:
            raise ValueError(f"Expected n_neighbors > 0. Got {k}")
        if k > most:
            raise ValueError(
                f"Expected n_neighbors <= n_samples_fit, but n_neighbors = {k}, and {most} points are there to find "
                f"(n_samples_fit = {self.n_samples_fit_})"
            )
        return int(k)

    @property
    def _metric(self) -> str:
        """The one that the points were indexed for."""
        return str(fitted(self, "metric"))

    def _is_batch(self) -> bool:
        check_is_fitted(self)
        return self._points.ndim == 3

    def _queries(self, x: Any) -> tuple[Tensor, torch.dtype, Any]:
        """Queries beside the points, the dtype of their distances, and the kind of what is given back."""
        batch = self._is_batch()
        if x is None:
            own = self._points
            return inner.embed_queries(own[..., :-1]) if self._metric == "inner_product" else own, self._dtype, self._like
        points = read_batch(self, x) if batch else read_points(self, x)
        if batch and len(points) != len(self._points):
            raise ValueError(f"x holds {len(points)} problems, but {len(self._points)} were fitted: pass as many, in their order")
        return self._embed(lossless(points, self._points.dtype), inner.embed_queries), points.dtype, x

    def _nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Distances in the metric's units and indices (…, Q, k), nearest first."""
        if self._metric == "inner_product":
            _, indices = self._search(inner.scaled(queries, self._points), k)
            return inner.in_order_of_product(self._points, queries, indices)
        squares, indices = self._search(queries, k)
        return from_euclidean(squares.sqrt(), self._metric), indices

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """`nearest` of the index, with what an approximate one missed filled in."""
        with threads_of(self.n_jobs):
            if self._points.ndim == 3:
                return self._index.nearest(queries, k)
            return complete(self._index, self._points, queries, k)

    def _within(self, queries: Tensor, radius: float, leave_self: bool) -> Neighborhoods:
        """All points within a radius of each query, at distances in the metric's units."""
        check_radius(radius, self._metric)
        with threads_of(self.n_jobs):
            if self._metric == "inner_product":
                found = inner.within(self._points, queries, float(radius))
            else:
                index = Brute(self._points) if math.isinf(radius) else self._index
                found = index.within(queries, to_euclidean(float(radius), self._metric))
                found = found._replace(distances=from_euclidean(found.distances, self._metric))
        if not leave_self:
            return found
        rows = found.rows()
        others = rows != found.indices
        counts = torch.bincount(rows[others], minlength=len(queries))
        return Neighborhoods(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), found.indices[others], found.distances[others])


def check_algorithm(estimator: Any) -> None:
    """ValueError for an unknown algorithm; for a former name it says the new one."""
    if estimator.algorithm in OLD_NAMES:
        raise ValueError(f"algorithm={estimator.algorithm!r} is called {OLD_NAMES[estimator.algorithm]!r}")
    choice(estimator, "algorithm", ("auto", *BUILDERS))


def check_radius(radius: Any, metric: str) -> None:
    """ValueError unless radius is a number that distances of the metric can be compared with."""
    least = -math.inf if metric == "inner_product" else 0
    if not isinstance(radius, Real) or not float(radius) >= least:
        raise ValueError(
            f"The 'radius' parameter of NearestNeighbors must be a float in the range [{least}, inf]. Got {radius!r} instead."
        )


def check_mode(mode: str) -> None:
    if mode not in ("connectivity", "distance"):
        raise ValueError(f'Unsupported mode, must be one of "connectivity", or "distance" but got "{mode}" instead')
