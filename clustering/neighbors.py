"""Nearest neighbours by the structure of your choice: one estimator over seven searches.

In: points (N, D) as a tensor, array or list; out: the nearest k or all within a radius of each query, of the same
kind, on the same device. Exact: "brute", "kdtree", "balltree", "grid"; approximate: "lsh", "faiss-ivf",
"faiss-hnsw". The grid and LSH are ours and run on any device; the trees and FAISS are others' and run on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from clustering.arrays import compute_dtype, read_points, to_input_type
from clustering.buckets import Neighbourhoods
from clustering.engines import BallTree, Brute, Faiss, Index, KDTree
from clustering.grid import Grid
from clustering.lsh import LSH

FEW_POINTS = 2000  # up to which looking at every distance costs the least
TREE_FEATURES = 8  # up to which a k-d tree prunes enough to pay

BUILDERS: dict[str, Callable[[Tensor, int, int], Index]] = {
    "brute": lambda points, k, seed: Brute(points),
    "kdtree": lambda points, k, seed: KDTree(points),
    "balltree": lambda points, k, seed: BallTree(points),
    "grid": lambda points, k, seed: Grid(points, occupancy=max(2.0, 2 * k / 3 ** points.shape[1])),
    "lsh": lambda points, k, seed: LSH(points, k, bucket=max(128, 4 * k), seed=seed),
    "faiss-ivf": lambda points, k, seed: Faiss(points, "faiss-ivf"),
    "faiss-hnsw": lambda points, k, seed: Faiss(points, "faiss-hnsw"),
}


def choose_method(points: Tensor) -> str:
    """The exact method that measurement says is the fastest for points of this number, width and device."""
    if len(points) <= FEW_POINTS:
        return "brute"
    if points.device.type == "cpu" and points.shape[1] <= TREE_FEATURES:
        return "kdtree"
    return "grid" if points.shape[1] <= 3 else "brute"


class NearestNeighbors(BaseEstimator):
    """Neighbours under the Euclidean distance.

    Parameters: n_neighbors and radius: what searches look for unless told otherwise; method: "auto" (exact), "brute",
    "kdtree", "balltree", "grid" (up to 3 features), "lsh", "faiss-ivf" or "faiss-hnsw"; seed: of the hashes of "lsh".

    Attributes: method_ (the one in use), n_features_in_. 16-bit points are searched in float32. A query for which
    an approximate method finds too few neighbours is searched by "brute". Raises ValueError for unknown methods,
    for more neighbours than points, and for methods of the CPU given tensors of another device.

    >>> x = torch.tensor([[0.0], [1.0], [5.0]])
    >>> NearestNeighbors(n_neighbors=1).fit(x).kneighbors(torch.tensor([[4.0]]))
    (tensor([[1.]]), tensor([[2]]))
    """

    def __init__(self, n_neighbors: int = 5, radius: float = 1.0, method: str = "auto", seed: int = 0) -> None:
        self.n_neighbors, self.radius, self.method, self.seed = n_neighbors, radius, method, seed

    def fit(self, x: Any, y: Any = None) -> NearestNeighbors:
        """Index x (N, D). y is ignored."""
        if self.method != "auto" and self.method not in BUILDERS:
            raise ValueError(f"unknown method {self.method!r}: choose auto, {', '.join(BUILDERS)}")
        points = read_points(self, x, reset=True)
        self.method_ = choose_method(points) if self.method == "auto" else self.method
        self._points = compute_dtype(points)
        self._index = BUILDERS[self.method_](self._points, self.n_neighbors, self.seed)
        return self

    def kneighbors(self, x: Any = None, n_neighbors: int | None = None) -> tuple[Any, Any]:
        """Distances and indices (Q, k) of the nearest points, nearest first.

        x: queries (Q, D); None asks for the fitted points' neighbours other than themselves, as tensors.
        """
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        queries, like = self._queries(x)
        most = len(self._points) - (x is None)
        if not 1 <= k <= most:
            raise ValueError(f"n_neighbors={k} is not between 1 and the {most} points there are to find (n_samples)")
        squares, indices = self._search(queries, k + (x is None))
        if x is None:
            squares, indices = without_self(squares, indices)
        return to_input_type(squares.sqrt().to(like.dtype) if isinstance(like, Tensor) else squares.sqrt(), like), to_input_type(
            indices, like
        )

    def radius_neighbors(self, x: Any = None, radius: float | None = None) -> Neighbourhoods:
        """All points within radius of each query (the query itself included where it is one), as ragged arrays."""
        queries, like = self._queries(x)
        found = self._index.within(queries, self.radius if radius is None else radius)
        return Neighbourhoods(*(to_input_type(part, like) for part in found))

    def _queries(self, x: Any) -> tuple[Tensor, Any]:
        check_is_fitted(self)
        if x is None:
            return self._points, self._points
        return read_points(self, x).to(self._points.dtype), x

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """`nearest` of the index, with what an approximate one missed filled in."""
        squares, indices = self._index.nearest(queries, k)
        missed = (indices < 0).any(1).nonzero()[:, 0]
        if len(missed):
            squares[missed], indices[missed] = Brute(self._points).nearest(queries[missed], k)
        return squares, indices


def without_self(squares: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Drop each row's own number from its k + 1 neighbours, or the last where duplicates have crowded it out."""
    own = indices == torch.arange(len(indices), device=indices.device)[:, None]
    own[:, -1] |= ~own.any(1)
    shape = (len(indices), indices.shape[1] - 1)
    return squares[~own].reshape(shape), indices[~own].reshape(shape)
