"""Exact neighbors by a uniform grid, for one to three features, on any device.

In: points (N, D ≤ 3); out: an index whose searches look only at the cells around a query, and at more of them
until no closer point can lie outside. Points are sorted by cell, so that a row of cells is one segment. It is the
flat form of a quadtree or octree: one level, as fine as the number of points allows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clustering.arrays import sum_dtype
from clustering.buckets import Neighborhoods, Segments, nearest_among, within_among
from clustering.exact import PADDING, by_differences, refine

FARTHEST = 1 << 40  # cells from the first, beyond which all are alike
CELLS_PER_POINT = 4  # at most, so that the table of cells stays as small as the points


class Grid:
    """The index. occupancy: points that an average cell is to hold; a search looks at 3^D cells first."""

    def __init__(self, points: Tensor, occupancy: float = 2.0) -> None:
        depth = points.shape[1]
        points = points.to(sum_dtype(points.device))  # few features: differences in float64 cost little
        if depth > 3:
            raise ValueError(f"algorithm 'grid' takes 1 to 3 features, not {depth}: use 'kd_tree', 'brute' or 'lsh'")
        self.lower, upper = points.amin(0), points.amax(0)
        self.extent = (upper - self.lower).tolist()
        self.side = self._side(len(points), occupancy)
        self.shape = [int(extent / self.side) + 1 for extent in self.extent]
        keys = self._key(self._cells(points))
        self.members = keys.argsort()
        cells = 1
        for size in self.shape:
            cells *= size
        self.offsets = torch.zeros(cells + 1, dtype=torch.int64, device=points.device)
        self.offsets[1:] = torch.bincount(keys, minlength=cells).cumsum(0)
        self.points = points

    def _side(self, n: int, occupancy: float) -> float:
        """A cell's side, such that cells times occupancy is about n, over the axes along which the points differ."""
        wide = [extent for extent in self.extent if extent > 0]
        if not wide:
            return 1.0
        least = max(wide) / (CELLS_PER_POINT * n)
        for axes in range(len(wide), 0, -1):  # an axis thinner than a cell does not count
            longest = sorted(wide)[-axes:]
            volume = 1.0
            for extent in longest:
                volume *= extent
            side = (volume * occupancy / n) ** (1 / axes)
            if side <= longest[0]:
                break
        return max(side, least)

    def _cells(self, points: Tensor) -> Tensor:
        """The cell of each point, (N, D) int64; those outside the grid have cells outside it."""
        return ((points - self.lower) / self.side).floor().clamp_(-FARTHEST, FARTHEST).to(torch.int64)

    def _key(self, cells: Tensor) -> Tensor:
        key = torch.zeros_like(cells[:, 0])
        for axis, size in enumerate(self.shape):
            key = key * size + cells[:, axis].clamp(0, size - 1)
        return key

    def _around(self, cells: Tensor, rings: int) -> Segments:
        """The cells up to rings away from each cell (Q, D): one segment for each row of cells along the last axis."""
        last, size = cells[:, -1], self.shape[-1]
        first, final = (last - rings).clamp(0, size - 1), (last + rings).clamp(0, size - 1)
        hit = (last + rings >= 0) & (last - rings < size)
        rows = torch.zeros_like(last)[:, None]  # (Q, S) number of the row of cells
        inside = hit[:, None]
        for axis, length in enumerate(self.shape[:-1]):
            reach = torch.arange(-min(rings, length), min(rings, length) + 1, device=cells.device)
            if rings > length:  # far more rings than cells: every row of the axis, once
                at = torch.arange(length, device=cells.device) + torch.zeros_like(last)[:, None]
            else:
                at = cells[:, axis, None] + reach
            valid = (at >= 0) & (at < length) & ((at - cells[:, axis, None]).abs() <= rings)
            rows = (rows[:, :, None] * length + at.clamp(0, length - 1)[:, None]).flatten(1)
            inside = (inside[:, :, None] & valid[:, None]).flatten(1)
        starts = self.offsets[rows * size + first[:, None]]
        lengths = self.offsets[rows * size + final[:, None] + 1] - starts
        return Segments(starts, lengths * inside)

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Squared distances and indices (Q, k), nearest first, exact."""
        queries, m = queries.to(self.points), min(k + PADDING, len(self.points))
        squares, indices = refine(self.points, queries, self._candidates(queries, m)[1])
        if m < len(self.points):
            unproven = (squares[:, -1] <= squares[:, k - 1]).nonzero()[:, 0]  # more equally distant points than candidates
            if len(unproven):
                squares[unproven, :k], indices[unproven, :k] = by_differences(self.points, queries[unproven], k)
        return squares[:, :k], indices[:, :k]

    def _candidates(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The nearest k, of equally distant points any."""
        squares = queries.new_empty(len(queries), k)
        indices = torch.empty(len(queries), k, dtype=torch.int64, device=queries.device)
        cells = self._cells(queries)
        left, rings = self._key(cells).argsort(), 1  # neighboring queries read the same memory
        while len(left):
            found, index = nearest_among(self.points, queries[left], self.members, self._around(cells[left], rings), k)
            squares[left], indices[left] = found, index
            left = left[found[:, -1] > self._sure(queries[left], cells[left], rings)]
            rings *= 2
        return squares, indices

    def _outside(self, queries: Tensor) -> int:
        """Cells that the farthest query lies outside the grid."""
        cells = self._cells(queries)
        last = torch.tensor(self.shape, device=cells.device) - 1
        return int(torch.maximum(-cells, cells - last).clamp(min=0).max()) if len(cells) else 0

    def _sure(self, queries: Tensor, cells: Tensor, rings: int) -> Tensor:
        """The squared distance up to which nothing outside the searched block can lie, (Q,)."""
        sure = torch.full_like(queries[:, 0], torch.inf)
        for axis, size in enumerate(self.shape):
            at, cell = queries[:, axis] - self.lower[axis], cells[:, axis]
            below = (at - (cell - rings) * self.side).where(cell - rings > 0, torch.inf)
            above = ((cell + rings + 1) * self.side - at).where(cell + rings < size - 1, torch.inf)
            sure = torch.minimum(sure, torch.minimum(below, above))
        return (sure * (1 - 1e-5)).clamp_(min=0).square()  # a cell's border is only as exact as its floats

    def within(self, queries: Tensor, radius: float) -> Neighborhoods:
        """All points within radius, exact."""
        queries = queries.to(self.points)
        rings = min(int(min(radius / self.side, 1 << 40) * (1 + 1e-5)) + 1, max(self.shape) + 1 + self._outside(queries))
        return within_among(self.points, queries, self.members, self._around(self._cells(queries), rings), radius)
