"""Points in buckets, and the search among the points of a query's buckets: what the grid and LSH share.

In: for each query a few segments of a list of point numbers (its buckets); out: the nearest k of the points in
them, or all within a radius. Ragged work is made rectangular in bounded chunks, so it runs on any device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from clustering.exact import pair_squares
from clustering.pairwise import squares_of

MOST_ELEMENTS = 1 << 23  # of candidate coordinates gathered at a time


class Segments(NamedTuple):
    """Buckets of each query: starts (Q, S) into a list of point numbers, and lengths (Q, S)."""

    starts: Tensor
    lengths: Tensor

    def pick(self, rows: Tensor) -> Segments:
        return Segments(self.starts[rows], self.lengths[rows])


class Neighborhoods(NamedTuple):
    """Ragged results: those of query q are indices[offsets[q] : offsets[q + 1]], and likewise the distances."""

    offsets: Tensor  # (Q + 1,) int64
    indices: Tensor  # (P,) int64
    distances: Tensor  # (P,)

    def rows(self) -> Tensor:
        """The query of each pair, (P,) int64."""
        counts = self.offsets.diff()
        return torch.arange(len(counts), device=counts.device).repeat_interleave(counts)


def from_pairs(rows: Tensor, indices: Tensor, distances: Tensor, queries: int) -> Neighborhoods:
    """Neighborhoods from pairs (row, index, distance) in any order."""
    if len(rows) and bool((rows[1:] < rows[:-1]).any()):
        order = rows.argsort(stable=True)
        rows, indices, distances = rows[order], indices[order], distances[order]
    counts = torch.zeros(queries + 1, dtype=torch.int64, device=rows.device)
    counts[1:] = torch.bincount(rows, minlength=queries)
    return Neighborhoods(counts.cumsum(0), indices, distances)


def flatten(segments: Segments) -> tuple[Tensor, Tensor]:
    """All positions in the segments: (query (P,), position (P,)), query by query."""
    starts, lengths = segments.starts.flatten(), segments.lengths.flatten()
    ends = lengths.cumsum(0)
    positions = torch.arange(int(ends[-1]) if len(ends) else 0, device=starts.device)
    positions += (starts - ends + lengths).repeat_interleave(lengths)
    queries = torch.arange(len(segments.starts), device=starts.device)
    return queries.repeat_interleave(segments.lengths.sum(1)), positions


def batches(segments: Segments, width: int, padded: bool) -> Iterator[Tensor]:
    """Query numbers in batches of at most MOST_ELEMENTS coordinates; where rows are padded, of like lengths."""
    counts = segments.lengths.sum(1)
    if padded:
        order = counts.clamp(min=1).log2().ceil().argsort(stable=True)
        counts = (2 * counts).clamp(min=1)  # a row is padded to less than twice its length
    else:
        order = torch.arange(len(counts), device=counts.device)
    number = (counts[order].cumsum(0) * width).div(MOST_ELEMENTS, rounding_mode="floor")
    yield from order.split(number.unique_consecutive(return_counts=True)[1].tolist())


def nearest_among(
    points: Tensor, queries: Tensor, members: Tensor, segments: Segments, k: int, distinct: bool = True
) -> tuple[Tensor, Tensor]:
    """The k nearest points of each query's segments: squared distances and indices (Q, k), nearest first.

    points: (N, D). members: the list of point numbers that the segments cut. distinct: no point is in two
    segments of one query; otherwise it is counted once. Where there are fewer than k, infinity and −1.
    """
    squares = queries.new_full((len(queries), k), torch.inf)
    indices = torch.full((len(queries), k), -1, dtype=torch.int64, device=queries.device)
    for rows in batches(segments, points.shape[1], padded=True):
        some = padded_members(segments.pick(rows), members)
        if not distinct:
            some = some.sort(1).values
            some[:, 1:][some[:, 1:] == some[:, :-1]] = -1
        far = squares_of(points[some.clamp(min=0)], queries[rows][:, None])
        far[some < 0] = torch.inf
        best = far.topk(min(k, far.shape[1]), largest=False)
        squares[rows, : best.values.shape[1]] = best.values
        indices[rows, : best.values.shape[1]] = some.gather(1, best.indices)
    return squares, indices.masked_fill_(squares.isinf(), -1)


def padded_members(segments: Segments, members: Tensor) -> Tensor:
    """Point numbers of each query's segments side by side, (Q, C), filled up with −1."""
    queries, positions = flatten(segments)
    counts = segments.lengths.sum(1)
    columns = torch.arange(len(positions), device=positions.device) - (counts.cumsum(0) - counts)[queries]
    table = torch.full((len(counts), max(1, int(counts.max()))), -1, dtype=torch.int64, device=positions.device)
    table[queries, columns] = members[positions]
    return table


def within_among(
    points: Tensor, queries: Tensor, members: Tensor, segments: Segments, radius: float, distinct: bool = True
) -> Neighborhoods:
    """All points of each query's segments within radius of it, the border included, by exact distance."""
    found = []
    for rows in batches(segments, points.shape[1], padded=False):
        which, positions = flatten(segments.pick(rows))
        which, index = rows[which], members[positions]
        if not distinct:
            which, index = torch.stack([which, index]).unique(dim=1)
        squares = pair_squares(points, queries, which, index)
        near = squares <= radius * radius
        found.append((which[near], index[near], squares[near].sqrt_()))
    rows, indices, distances = (torch.cat(parts) for parts in zip(*found, strict=True))
    return from_pairs(rows, indices, distances, len(queries))
