"""Neighbour searches that others have written well, and the plain one: what `NearestNeighbors` chooses from.

In: points (N, D); out: indexes with `nearest(queries, k)` and `within(queries, radius)`, all alike. SciPy, scikit-learn
and FAISS search in main memory only and refuse tensors elsewhere rather than move them without being asked.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from clustering.buckets import Neighbourhoods, from_pairs
from clustering.distances import distance_chunks


class Index(Protocol):
    """What a search structure answers."""

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Squared distances and indices (Q, k), nearest first; infinity and −1 where it found fewer."""

    def within(self, queries: Tensor, radius: float) -> Neighbourhoods:
        """All points within radius of each query."""


class Brute:
    """Every distance, in bounded chunks: exact, on any device, and the fastest for few points or many features."""

    def __init__(self, points: Tensor) -> None:
        self.points = points

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        parts = [block.topk(k, largest=False) for _, block in distance_chunks(queries, self.points)]
        return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])

    def within(self, queries: Tensor, radius: float) -> Neighbourhoods:
        found = []
        for part, block in distance_chunks(queries, self.points):
            rows, indices = (block <= radius * radius).nonzero(as_tuple=True)
            found.append((rows + part.start, indices, block[rows, indices].sqrt_()))
        rows, indices, far = (torch.cat(parts) for parts in zip(*found, strict=True))
        return from_pairs(rows, indices, far, len(queries))


def in_main_memory(points: Tensor, method: str) -> np.ndarray:
    """The points as an array; ValueError where that would mean a copy from another device."""
    if points.device.type != "cpu":
        raise ValueError(f"method {method!r} searches in main memory, the points are on {points.device}: use brute, grid or lsh")
    return points.numpy()


class KDTree:
    """SciPy's k-d tree: exact, and the fastest in few features."""

    def __init__(self, points: Tensor) -> None:
        from scipy.spatial import cKDTree

        self.tree = cKDTree(in_main_memory(points, "kdtree"), balanced_tree=False, compact_nodes=False)

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        far, index = self.tree.query(in_main_memory(queries, "kdtree"), list(range(1, k + 1)), workers=torch.get_num_threads())
        return torch.from_numpy(far).square_().to(queries.dtype), torch.from_numpy(index)

    def within(self, queries: Tensor, radius: float) -> Neighbourhoods:
        from scipy.spatial import cKDTree

        tree = cKDTree(in_main_memory(queries, "kdtree"), balanced_tree=False, compact_nodes=False)
        pairs = tree.sparse_distance_matrix(self.tree, radius, output_type="ndarray")
        rows, indices, far = (torch.from_numpy(pairs[name].copy()) for name in "ijv")
        return from_pairs(rows, indices, far.to(queries.dtype), len(queries))


class BallTree:
    """scikit-learn's ball tree: exact, and good where points lie near a surface of few dimensions."""

    def __init__(self, points: Tensor) -> None:
        from sklearn.neighbors import BallTree as Tree

        self.tree = Tree(in_main_memory(points, "balltree"))

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        far, index = self.tree.query(in_main_memory(queries, "balltree"), k)
        return torch.from_numpy(far).square_().to(queries.dtype), torch.from_numpy(index)

    def within(self, queries: Tensor, radius: float) -> Neighbourhoods:
        index, far = self.tree.query_radius(in_main_memory(queries, "balltree"), radius, return_distance=True)
        counts = torch.tensor([0, *map(len, index)]).cumsum(0)
        indices = torch.from_numpy(np.concatenate(index).astype(np.int64))
        return Neighbourhoods(counts, indices, torch.from_numpy(np.concatenate(far)).to(queries.dtype))


class Faiss:
    """FAISS over float32: an inverted file ("faiss-ivf") or a navigable small-world graph ("faiss-hnsw").

    effort: of a search, from 0 (fast) to 1 (thorough): the share of lists probed, or of the graph's beam.
    """

    def __init__(self, points: Tensor, method: str, effort: float = 0.25) -> None:
        import faiss

        self.method = method
        array = np.ascontiguousarray(in_main_memory(points, method), np.float32)
        n, depth = array.shape
        faiss.omp_set_num_threads(torch.get_num_threads())
        if method == "faiss-hnsw":
            self.index: Any = faiss.IndexHNSWFlat(depth, 32)
            self.index.hnsw.efSearch = max(16, round(512 * effort))
        else:
            lists = max(1, min(int(4 * n**0.5), n // 39))  # 39 points a list: FAISS's own floor for its k-means
            self.index = faiss.IndexIVFFlat(faiss.IndexFlatL2(depth), depth, lists)
            self.index.cp.min_points_per_centroid = 1  # one list for a handful of points is meant: no warning
            self.index.train(array)
            self.index.nprobe = max(1, round(min(lists, 64) * effort))
        self.index.add(array)

    def _array(self, queries: Tensor) -> np.ndarray:
        return np.ascontiguousarray(in_main_memory(queries, self.method), np.float32)

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        squares, index = self.index.search(self._array(queries), k)
        squares[index < 0] = np.inf
        return torch.from_numpy(squares).clamp_(min=0).to(queries.dtype), torch.from_numpy(index)

    def within(self, queries: Tensor, radius: float) -> Neighbourhoods:
        offsets, squares, index = self.index.range_search(self._array(queries), radius * radius)
        offsets = torch.from_numpy(offsets.astype(np.int64))
        return Neighbourhoods(offsets, torch.from_numpy(index), torch.from_numpy(squares).clamp_(min=0).sqrt_().to(queries.dtype))
