"""Nearest neighbors by the structure of your choice: one estimator over seven searches.

In: points (N, D) as a tensor, array, list or frame; out: the nearest k or all within a radius of each query, of the
same kind, on the same device. Exact: "brute", "kd_tree", "ball_tree", "grid", which give the same neighbors, the border
of a radius included; approximate: "lsh", "faiss-ivf", "faiss-hnsw". The k-d tree is ours and for main memory, the grid
and LSH are ours and run on any device; the ball tree and FAISS are others' and run on the CPU.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from clustering.arrays import compute_dtype, read_points, squarable, to_input_type
from clustering.buckets import Neighborhoods
from clustering.engines import BallTree, Brute, Faiss, Index, KDTree
from clustering.grid import Grid
from clustering.lsh import LSH
from clustering.metrics import METRICS, embed, from_euclidean, to_euclidean
from clustering.params import RenamedParameters, choice, integer, seed_from, threads_of
from clustering.persistence import Persistent

FEW_POINTS = 2000  # up to which looking at every distance costs the least
TREE_FEATURES = 8  # up to which a k-d tree prunes enough to pay
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
    """Neighbors under the Euclidean or the cosine distance.

    Args:
        n_neighbors: what `kneighbors` looks for unless told otherwise.
        radius: likewise for `radius_neighbors`.
        algorithm: "auto" (exact), "brute", "kd_tree", "ball_tree", "grid" (up to 3 features), "lsh", "faiss-ivf" or
            "faiss-hnsw".
        metric: "euclidean" or "cosine" (1 − cosine similarity; a zero vector is at distance 1 of all others).
        n_jobs: threads of a search in main memory; None: as many as torch may use, −1: one a core.
        random_state: of the hashes of "lsh": an int, RandomState, torch.Generator or None.

    Attributes:
        algorithm_: the one in use.
        n_features_in_: D. n_samples_fit_: N.

    16-bit points are searched in float32. A query for which an approximate algorithm finds too few neighbors is
    searched by "brute".

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
        """Index x (N, D). y is ignored."""
        check_algorithm(self)
        choice(self, "metric", METRICS)
        k = integer(self, "n_neighbors")
        check_radius(self.radius)
        points = read_points(self, x, reset=True)
        self._like = points[:0] if isinstance(x, Tensor) else np.empty(0)
        self._dtype = points.dtype
        self._points = embed(compute_dtype(squarable(points)), self.metric)
        self.n_samples_fit_ = len(points)
        self._index_points(k)
        return self

    def _index_points(self, k: int) -> None:
        """Build the search structure over the fitted points, for about k neighbors."""
        self.algorithm_ = choose_algorithm(self._points) if self.algorithm == "auto" else self.algorithm
        with threads_of(self.n_jobs):
            self._index = BUILDERS[self.algorithm_](self._points, k, self.random_state)

    def _restore(self) -> None:
        if hasattr(self, "_points"):
            self._index_points(self.n_neighbors)

    def to(self, device: str | torch.device) -> Self:
        """Move the points to a device and index them there; returns the estimator itself.

        Raises ValueError, and leaves the estimator as it is, where the algorithm searches in main memory only.
        """
        super().to(device)
        if hasattr(self, "_points"):
            self._like = self._points[:0]
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
        squares, indices = self._search(queries, k + (x is None))
        if x is None:
            squares, indices = without_self(squares, indices)
        indices = to_input_type(indices, like)
        if not return_distance:
            return indices
        return to_input_type(from_euclidean(squares.sqrt(), self.metric).to(dtype), like), indices

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
        queries, dtype, like = self._queries(x)
        found = self._within(queries, self.radius if radius is None else radius, x is None)
        by = found.distances if sort_results else found.indices
        order = by.argsort(stable=True)
        order = order[found.rows()[order].argsort(stable=True)]
        sizes = found.offsets.diff().tolist()
        indices = ragged(found.indices[order], sizes, like)
        if not return_distance:
            return indices
        return ragged(from_euclidean(found.distances[order], self.metric).to(dtype), sizes, like), indices

    def neighborhoods(self, x: Any, radius: float | None = None) -> Neighborhoods:
        """`radius_neighbors` of queries (Q, D) as three flat tensors: what compiled and device code works on."""
        queries, dtype, _ = self._queries(x)
        found = self._within(queries, self.radius if radius is None else radius, False)
        return found._replace(distances=from_euclidean(found.distances, self.metric).to(dtype))

    def kneighbors_graph(self, x: Any = None, n_neighbors: int | None = None, mode: str = "connectivity") -> Any:
        """The nearest points as a sparse matrix (Q, N) in CSR form.

        mode: "connectivity" (ones) or "distance". Arrays get SciPy's matrix, tensors torch's, on their device.
        """
        check_mode(mode)
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

    def _queries(self, x: Any) -> tuple[Tensor, torch.dtype, Any]:
        """Queries beside the points, the dtype of their distances, and the kind of what is given back."""
        check_is_fitted(self)
        if x is None:
            return self._points, self._dtype, self._like
        points = read_points(self, x)
        return embed(compute_dtype(squarable(points)), self.metric).to(self._points.dtype), points.dtype, x

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """`nearest` of the index, with what an approximate one missed filled in."""
        with threads_of(self.n_jobs):
            squares, indices = self._index.nearest(queries, k)
            missed = (indices < 0).any(1).nonzero()[:, 0]
            if len(missed):
                squares[missed], indices[missed] = Brute(self._points).nearest(queries[missed], k)
        return squares, indices

    def _within(self, queries: Tensor, radius: float, leave_self: bool) -> Neighborhoods:
        check_radius(radius)
        with threads_of(self.n_jobs):
            index = Brute(self._points) if math.isinf(radius) else self._index
            found = index.within(queries, to_euclidean(float(radius), self.metric))
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


def check_radius(radius: Any) -> None:
    if not isinstance(radius, Real) or not float(radius) >= 0:
        raise ValueError(
            f"The 'radius' parameter of NearestNeighbors must be a float in the range [0, inf]. Got {radius!r} instead."
        )


def check_mode(mode: str) -> None:
    if mode not in ("connectivity", "distance"):
        raise ValueError(f'Unsupported mode, must be one of "connectivity", or "distance" but got "{mode}" instead')


def sparse_rows(offsets: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """torch's sparse matrix of rows, without its notice that such matrices are young."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse", UserWarning)
        return torch.sparse_csr_tensor(offsets, columns, values, shape)


def ragged(flat: Tensor, sizes: list[int], like: Any) -> Any:
    """Rows of the given sizes: a list of tensors, or an object array of arrays."""
    parts = list(flat.split(sizes)) if sizes else []
    if isinstance(like, Tensor):
        return parts
    out = np.empty(len(parts), dtype=object)
    for row, part in enumerate(parts):  # assigned at once, rows of one length would become a matrix
        out[row] = part.numpy(force=True)
    return out


def without_self(squares: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Drop each row's own number from its k + 1 neighbors, or the last where duplicates have crowded it out."""
    own = indices == torch.arange(len(indices), device=indices.device)[:, None]
    own[:, -1] |= ~own.any(1)
    shape = (len(indices), indices.shape[1] - 1)
    return squares[~own].reshape(shape), indices[~own].reshape(shape)
