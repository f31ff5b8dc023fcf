"""The searches that `NearestNeighbors` chooses from: the plain one, our k-d tree, scikit-learn's ball tree and FAISS.

In: points (N, D); out: indexes with `nearest(queries, k)` and `within(queries, radius)`, all alike: squared distances
in float64, equally distant points in their order. Trees and FAISS search in main memory only and refuse tensors
elsewhere rather than move them without being asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from clustering.arrays import largest, largest_to_square, sum_dtype
from clustering.buckets import Neighborhoods, from_pairs
from clustering.exact import PADDING, by_differences, in_order, nearest_in_tree, pair_squares, refine
from clustering.pairwise import CHUNK_BYTES, FEW_FEATURES, expansion_error

BALL_SLACK = 1 + 1e-9  # of a radius, for what other libraries' rounding leaves out


class Index(Protocol):
    """What a search structure answers."""

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Squared distances and indices (Q, k), nearest first; infinity and −1 where it found fewer."""

    def within(self, queries: Tensor, radius: float) -> Neighborhoods:
        """All points within radius of each query."""


class Brute:
    """Every distance, in bounded chunks: exact, on any device, and the fastest for few points or many features.

    Few features are compared by their differences in float64. Many go through one matrix product, whose rounding
    error is bounded: what it cannot decide is measured again by differences.
    """

    def __init__(self, points: Tensor) -> None:
        self.points = points
        self.direct = points.shape[1] <= FEW_FEATURES
        self.center = points.mean(0)
        if not self.direct:
            centered = points - self.center
            self.factors = torch.cat([-2 * centered, centered.square().sum(1, keepdim=True)], 1)  # −2 x·y + |y|² in one product

    def _blocks(self, queries: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Rows of queries and their squared distances to all points: exact, or rounded and less the query's squared norm.

        A block is written over by the next.
        """
        wide = 24 if self.direct else 4 * queries.element_size()
        step = max(1, CHUNK_BYTES // (wide * len(self.points)))
        out = queries.new_empty(0 if self.direct else min(step, len(queries)), len(self.points))
        for first in range(0, len(queries), step):
            part = slice(first, first + step)
            yield part, self.block(queries[part], slice(None), out)

    def block(self, queries: Tensor, columns: slice, out: Tensor) -> Tensor:
        """What `_blocks` says of queries (Q, D) and of those points, (Q, C); in `out`, of as many rows or more, or new."""
        if self.direct:
            return in_order(self.points[columns], queries[:, None])
        some = queries - self.center
        some = torch.cat([some, torch.ones_like(some[:, :1])], 1)
        return torch.mm(some, self.factors[columns].T, out=out[: len(some)])

    def _bounds(self, queries: Tensor, squares: Tensor) -> Tensor:
        """What `_blocks` says at most of points within a squared distance (Q,): norms bound its rounding error."""
        if self.direct:
            return squares
        norms = (queries - self.center).to(squares).norm(dim=1)
        most = norms.square() + (norms + squares.sqrt()).square()
        return squares - norms.square() + expansion_error(queries.dtype, queries.shape[1]) * most

    def _beside(self, queries: Tensor) -> Brute:
        """The points in the queries' dtype, which is as wide or wider."""
        return self if queries.dtype == self.points.dtype else Brute(self.points.to(queries.dtype))

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Squared distances and indices (Q, k), nearest first, exact."""
        return self._beside(queries)._nearest(queries, k)

    def _nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        m = min(k + PADDING, len(self.points))
        parts = [block.topk(m, largest=False) for _, block in self._blocks(queries)]
        last = torch.cat([part.values[:, -1] for part in parts]).to(sum_dtype(queries.device))
        squares, indices = refine(self.points, queries, torch.cat([part.indices for part in parts]))
        if m < len(self.points):
            unproven = (last <= self._bounds(queries, squares[:, k - 1])).nonzero()[:, 0]
            if len(unproven):
                squares[unproven, :k], indices[unproven, :k] = self._prove(queries[unproven], k)
        return squares[:, :k], indices[:, :k]

    def _prove(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The answers that the product could not decide: a wider product first, then the differences."""
        if not self.direct and self.points.dtype != torch.float64 and self.points.device.type != "mps":
            return Brute(self.points.double()).nearest(queries.double(), k)
        return by_differences(self.points, queries, k)

    def within(self, queries: Tensor, radius: float) -> Neighborhoods:
        """All points within radius, exact."""
        return self._beside(queries)._within(queries, radius)

    def _within(self, queries: Tensor, radius: float) -> Neighborhoods:
        reach = torch.full((len(queries),), radius * radius, dtype=sum_dtype(queries.device), device=queries.device)
        limits = self._bounds(queries, reach)
        found = []
        for part, block in self._blocks(queries):
            rows, indices = (block <= limits[part, None]).nonzero(as_tuple=True)
            found.append((rows + part.start, indices))
        rows, indices = (torch.cat(parts) for parts in zip(*found, strict=True))
        return measured(self.points, queries, rows, indices, radius)


def measured(points: Tensor, queries: Tensor, rows: Tensor, indices: Tensor, radius: float) -> Neighborhoods:
    """Those of the candidate pairs that lie within the radius, the border included, by exact distance."""
    squares = pair_squares(points, queries, rows, indices)
    near = squares <= radius * radius
    return from_pairs(rows[near], indices[near], squares[near].sqrt_(), len(queries))


def in_main_memory(points: Tensor, algorithm: str) -> np.ndarray:
    """The points as an array; ValueError where that would mean a copy from another device."""
    if points.device.type != "cpu":
        raise ValueError(
            f"algorithm {algorithm!r} searches in main memory, the points are on {points.device}: use brute, grid or lsh"
        )
    return points.numpy()


class KDTree:
    """Our k-d tree: exact, and the fastest in few features."""

    def __init__(self, points: Tensor) -> None:
        array = in_main_memory(points, "kd_tree")
        from clustering import kdtree  # loads numba

        self.tree = kdtree.build(array)

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        in_main_memory(queries, "kd_tree")
        return nearest_in_tree(self.tree, queries, k)

    def within(self, queries: Tensor, radius: float) -> Neighborhoods:
        from clustering import cpu, kdtree

        in_main_memory(queries, "kd_tree")
        asked = queries.double().contiguous().numpy()
        parts = cpu.shares_of(len(asked), torch.get_num_threads())
        counts = np.zeros(len(asked) + 1, np.int64)
        square, every = radius * radius, np.iinfo(np.int64).max

        def count(thread: int) -> None:
            part = parts[thread]
            kdtree.count_within(self.tree, asked[part], square, every, counts[1:][part])

        cpu.run_shares(count, len(parts))
        offsets = counts.cumsum()
        indices, squares = np.empty(offsets[-1], np.int64), np.empty(offsets[-1])

        def fill(thread: int) -> None:
            part = parts[thread]
            kdtree.list_within(self.tree, asked[part], square, offsets[:-1][part], indices, squares)

        cpu.run_shares(fill, len(parts))
        return Neighborhoods(*map(torch.from_numpy, (offsets, indices, np.sqrt(squares))))


class BallTree:
    """scikit-learn's ball tree: exact, and good where points lie near a surface of few dimensions."""

    def __init__(self, points: Tensor) -> None:
        from sklearn.neighbors import BallTree as Tree

        self.tree, self.points = Tree(in_main_memory(points, "ball_tree")), points

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        m = min(k + PADDING, len(self.points))
        far, index = self.tree.query(in_main_memory(queries, "ball_tree"), m)
        squares, indices = refine(self.points, queries, torch.from_numpy(index))
        if m < len(self.points):
            unproven = (torch.from_numpy(far[:, -1]) <= squares[:, k - 1].sqrt() * BALL_SLACK).nonzero()[:, 0]
            if len(unproven):
                squares[unproven, :k], indices[unproven, :k] = by_differences(self.points, queries[unproven], k)
        return squares[:, :k], indices[:, :k]

    def within(self, queries: Tensor, radius: float) -> Neighborhoods:
        index = self.tree.query_radius(in_main_memory(queries, "ball_tree"), radius * BALL_SLACK)
        counts = torch.tensor([len(own) for own in index], dtype=torch.int64, device="cpu")
        rows = torch.arange(len(index), device="cpu").repeat_interleave(counts)
        return measured(self.points, queries, rows, torch.from_numpy(np.concatenate(index).astype(np.int64)), radius)


@contextmanager
def faiss_threads() -> Iterator[None]:
    """Let FAISS use as many threads as torch may, and give the caller's OpenMP its own number back.

    It is the number of the calling thread, and other libraries that share its OpenMP go by it, too.
    """
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(torch.get_num_threads())
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


class Faiss:
    """FAISS over float32: an inverted file ("faiss-ivf") or a navigable small-world graph ("faiss-hnsw").

    effort: of a search, from 0 (fast) to 1 (thorough): the share of lists probed, or of the graph's beam.
    Raises ValueError for points whose squared distances leave float32: FAISS's k-means would end the process.
    """

    def __init__(self, points: Tensor, algorithm: str, effort: float = 0.25) -> None:
        in_main_memory(points, algorithm)
        self.algorithm, self.points = algorithm, points
        if not self._can_square(points):
            raise ValueError(
                f"algorithm {algorithm!r} squares distances in float32, in which points of {largest(points):.3g} overflow: "
                "scale them down, or use brute or kd_tree"
            )
        with faiss_threads():
            self.index = self._build(self._array(points), effort)

    def _build(self, array: np.ndarray, effort: float) -> Any:
        import faiss

        n, depth = array.shape
        if self.algorithm == "faiss-hnsw":
            index: Any = faiss.IndexHNSWFlat(depth, 32)
            index.hnsw.efSearch = max(16, round(512 * effort))
        else:
            lists = max(1, min(int(4 * n**0.5), n // 39))  # 39 points a list: FAISS's own floor for its k-means
            index = faiss.IndexIVFFlat(faiss.IndexFlatL2(depth), depth, lists)
            index.cp.min_points_per_centroid = 1  # one list for a handful of points is meant: no warning
            index.train(array)
            index.nprobe = max(1, round(min(lists, 64) * effort))
        index.add(array)
        return index

    def _can_square(self, points: Tensor) -> bool:
        """Whether squared distances between such points are finite in float32."""
        return not len(points) or largest(points) <= largest_to_square(torch.float32, points.shape[1])

    def _array(self, queries: Tensor) -> np.ndarray:
        return np.ascontiguousarray(in_main_memory(queries, self.algorithm), np.float32)

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        if not self._can_square(queries):
            return Brute(self.points).nearest(queries, k)
        with faiss_threads():
            _, index = self.index.search(self._array(queries), k)
        return refine(self.points, queries, torch.from_numpy(index))

    def within(self, queries: Tensor, radius: float) -> Neighborhoods:
        square = max(radius * radius * (1 + 1e-5), 1e-37)  # FAISS rounds, and leaves the border out
        if square > torch.finfo(torch.float32).max or not self._can_square(queries):
            return Brute(self.points).within(queries, radius)
        with faiss_threads():
            offsets, _, index = self.index.range_search(self._array(queries), square)
        counts = torch.from_numpy(offsets.astype(np.int64)).diff()
        rows = torch.arange(len(queries), device="cpu").repeat_interleave(counts)
        return measured(self.points, queries, rows, torch.from_numpy(index), radius)
