"""The three ways in which DBSCAN goes through all neighbors, none of which ever holds more than a chunk of them.

In: points (N, D) and a radius; out: which are core points, and the regions that these form. A k-d tree serves main
memory and few features, a matrix product a block at a time many features, any search of `NearestNeighbors` the rest
and other devices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from clustering import regions_fused
from clustering.arrays import sum_dtype
from clustering.buckets import Neighborhoods
from clustering.engines import Brute, in_main_memory
from clustering.neighbors import NearestNeighbors

TREE_FEATURES = 16  # up to which the k-d tree is the faster way through all neighbors
PAIRS = 1 << 22  # of neighbors held at a time
# A product of few rows reads all points for little work, and one with all points leaves the caches before it is looked at.
BLOCK_ROWS, BLOCK_BYTES = 256, 1 << 22  # rows of a product, and bytes
NEAR_BYTES = 1 << 25  # of what is near the points of a block, a byte a pair
UNSURE = 0.2  # of the squared radius: float32 serves for the product while its rounding error is below this


class RegionFinder(Protocol):
    """What DBSCAN asks."""

    def label(self, weights: Tensor | None, least: int) -> tuple[Tensor, Tensor]:
        """core (N,) bool and labels (N,) int64, numbered by first core point, −1 for noise."""

    def first_label(self, queries: Tensor, labels: Tensor) -> Tensor:
        """The first label within the radius of each query (Q, D), or −1; labels (N,): −1 for points that are no core."""


def find_regions(points: Tensor, eps: float, algorithm: str) -> RegionFinder:
    """The way that suits the points' number of features, their device and the algorithm that the user asks for."""
    if algorithm == "auto" and regions_fused.is_applicable(points):
        try:
            return regions_fused.FusedRegions(points, eps)
        except OverflowError:
            pass  # the general way needs no grid
    in_memory = points.device.type == "cpu"
    if algorithm == "kd_tree" or (algorithm == "auto" and in_memory and points.shape[1] <= TREE_FEATURES):
        return TreeRegions(points, eps)
    if in_memory and algorithm in ("auto", "brute"):
        return BlockRegions(points, eps)
    return ChunkRegions(points, eps, algorithm)


def share_rows(work: Any, rows: int) -> None:
    """work(slice) over all rows, on all threads that torch may use."""
    from clustering import cpu

    parts = cpu.shares_of(rows, torch.get_num_threads())
    cpu.run_shares(lambda thread: work(parts[thread]), len(parts))


def number_regions(core: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Labels (N,) of core points by the order of their regions' first, −1 for all others."""
    labels = np.full(len(core), -1, np.int64)
    labels[core] = np.unique(root[core], return_inverse=True)[1].reshape(-1)
    return labels


class TreeRegions:
    """Regions by a k-d tree in main memory: no list of neighbors is ever written."""

    def __init__(self, points: Tensor, eps: float) -> None:
        from clustering import kdtree

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
        labels = number_regions(core, root)
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
            share_rows(lambda part: kdtree.count_within(self.tree, queries[part], self.square, least, counts[part]), len(queries))
            return counts
        sums, own = np.empty(len(queries)), weights.numpy()
        share_rows(lambda part: regions.weigh_neighbors(self.tree, queries[part], self.square, own, sums[part]), len(queries))
        return sums

    def _first(self, queries: np.ndarray, labels: np.ndarray) -> np.ndarray:
        from clustering import regions

        found = np.empty(len(queries), np.int64)
        share_rows(
            lambda part: regions.first_label_within(self.tree, queries[part], self.square, labels, found[part]), len(queries)
        )
        return found


class BlockRegions:
    """Regions by one matrix product a block of points, scanned while it is in the cache; for many features."""

    def __init__(self, points: Tensor, eps: float) -> None:
        self.points, self.eps, self.square = points, eps, eps * eps
        self.brute = Brute(points)
        if points.dtype == torch.float64 and not self.brute.direct:
            narrow = Brute(points.float())
            sure, maybe = self._limits(narrow, narrow.points)
            if float((maybe - sure).max()) <= UNSURE * self.square:
                self.brute = narrow

    def _limits(self, brute: Brute, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Up to what a block's squares say that a pair is near, and above what they say that it is not, (Q,) each."""
        reach = torch.full((len(queries),), self.square, dtype=torch.float64, device=queries.device)
        maybe = brute._bounds(queries, reach)
        if brute.direct:
            return maybe, maybe
        norms = (queries - brute.center).double().square().sum(1)
        return 2 * (self.square - norms) - maybe, maybe

    def _near(self, x: np.ndarray, numbers: np.ndarray, queries: Tensor) -> Iterator[tuple[slice, np.ndarray]]:
        """Rows of queries (Q, D), and what is near each of them, (R, N) bool; the next block is written over it.

        x: (M, D), in which numbers (Q,) are the queries and the first N are the points.
        """
        from clustering import regions

        queries = queries.to(self.brute.points.dtype)
        sure, maybe = (limit.numpy() for limit in self._limits(self.brute, queries))
        n, wide = len(self.points), 8 * queries.shape[1] if self.brute.direct else queries.element_size()
        rows = max(1, min(BLOCK_ROWS, NEAR_BYTES // n, len(queries)))
        columns = max(1, BLOCK_BYTES // (wide * rows))
        near = np.empty((rows, n), bool)
        out = queries.new_empty(rows * min(columns, n))
        for first in range(0, len(queries), rows):
            part = slice(first, min(first + rows, len(queries)))
            for start in range(0, n, columns):
                tile = slice(start, min(start + columns, n))
                product = out[: rows * (tile.stop - start)].view(rows, -1)
                block = self.brute.block(queries[part], tile, product).numpy()

                def decide(some: slice) -> None:
                    own = slice(part.start + some.start, part.start + some.stop)  # noqa: B023
                    limits = sure[own], maybe[own]
                    regions.decide_block(x, numbers[own], start, block[some], *limits, self.square, near[some, tile])  # noqa: B023

                share_rows(decide, len(block))
            yield part, near[: part.stop - first]

    def label(self, weights: Tensor | None, least: int) -> tuple[Tensor, Tensor]:
        """core (N,) bool and labels (N,) int64."""
        from clustering import regions

        x, n = self.points.numpy(), len(self.points)
        weigh = np.empty(0) if weights is None else weights.numpy()
        core, root, mass = np.zeros(n, bool), np.arange(n), np.empty(n)
        borders = [np.empty((2, 0), np.int64)]
        for part, near in self._near(x, np.arange(n), self.points):
            sums = mass[part]
            share_rows(lambda rows: regions.weigh_block(near[rows], weigh, sums[rows]), len(near))  # noqa: B023
            core[part] = sums >= least
            if weights is None:  # who is no core point has few neighbors: they are kept until all labels are known
                borders.append(np.empty((2, int(sums[~core[part]].sum())), np.int64))
                regions.list_block(part.start, near, core, borders[-1])
            regions.link_block(part.start, near, core, root)
        regions.settle(root)
        labels = number_regions(core, root)
        of_cores = labels.copy()
        if weights is None:
            regions.first_label_of_pairs(np.concatenate(borders, 1), of_cores, labels)
        else:
            others = np.flatnonzero(~core)
            labels[others] = self._first(x, others, self.points[torch.from_numpy(others)], of_cores)
        return torch.from_numpy(core), torch.from_numpy(labels)

    def first_label(self, queries: Tensor, labels: Tensor) -> Tensor:
        """The first label within eps of each query (Q, D), or −1."""
        both = torch.cat([self.points, queries]).numpy()  # pairs are measured within one array
        numbers = np.arange(len(self.points), len(both))
        return torch.from_numpy(self._first(both, numbers, queries, labels.numpy()))

    def _first(self, x: np.ndarray, numbers: np.ndarray, queries: Tensor, labels: np.ndarray) -> np.ndarray:
        from clustering import regions

        found = np.empty(len(numbers), np.int64)
        for part, near in self._near(x, numbers, queries):
            regions.first_label_of_block(near, labels, found[part])
        return found


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
