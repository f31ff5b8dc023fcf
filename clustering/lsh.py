"""Approximate neighbors by locality-sensitive hashing, for any number of features, on any device.

In: points (N, D); out: an index of a few hash tables in which near points share a bucket more often than far ones.
A hash is a random projection cut into steps; a key joins as many hashes as keep the buckets small. Source: Datar,
Immorlica, Indyk and Mirrokni, "Locality-sensitive hashing scheme based on p-stable distributions" (2004).
"""

from __future__ import annotations

import torch
from torch import Tensor

from clustering.buckets import Neighborhoods, Segments, nearest_among, within_among
from clustering.exact import refine
from clustering.pairwise import distance_chunks
from clustering.params import generator_on
from kernels.arrays import without_autocast

PROBES = 256  # points whose true neighbors set the width of a step
MOST_HASHES = 32


class LSH:
    """The index.

    tables: independent hash tables; more find more. bucket: points that a bucket is to hold at most, as the average
    point sees it; larger buckets find more. n_neighbors: of interest, which sets the scale of a step.
    """

    def __init__(self, points: Tensor, n_neighbors: int, tables: int = 12, bucket: int = 128, seed: int = 0) -> None:
        self.points, self.tables, self.bucket = points, tables, bucket
        generator = generator_on(points.device, seed)
        self.width = 4 * self._scale(n_neighbors, generator)
        self.projections: list[Tensor] = []  # of each table (D, hashes)
        self.shifts: list[Tensor] = []
        self.factors: list[Tensor] = []  # that join a table's hashes to one key
        sorted_keys, members = [], []
        for _ in range(tables):
            keys, order = self._add_table(generator).sort()
            sorted_keys.append(keys)
            members.append(order)
        self.keys, self.members = torch.stack(sorted_keys), torch.cat(members)

    def _scale(self, n_neighbors: int, generator: torch.Generator) -> float:
        """The typical distance to the last neighbor of interest, from a few exact searches."""
        n, device = len(self.points), self.points.device
        rows = torch.randint(n, (min(n, PROBES),), generator=generator, device=device)
        k = min(n_neighbors + 1, n)
        blocks = distance_chunks(self.points[rows], self.points, "euclidean")
        scale = float(torch.cat([block.kthvalue(k, dim=1).values for _, block in blocks]).median())
        return scale if scale > 0 else 1.0

    def _add_table(self, generator: torch.Generator) -> Tensor:
        """Keys (N,) of a new table: hashes are joined until the average point's bucket is small enough."""
        depth, device = self.points.shape[1], self.points.device
        projection = torch.randn(depth, MOST_HASHES, generator=generator, dtype=torch.float32, device=device).to(self.points)
        shift = torch.rand(MOST_HASHES, generator=generator, dtype=torch.float32, device=device).to(self.points) * self.width
        factors = torch.randint(1 << 62, (MOST_HASHES,), generator=generator, device=device) | 1
        keys = torch.zeros(len(self.points), dtype=torch.int64, device=device)
        for used in range(1, MOST_HASHES + 1):
            one = slice(used - 1, used)
            keys = keys + self._hash(self.points, projection[:, one], shift[one], factors[one])
            counts = keys.unique(return_counts=True)[1].double()
            if float((counts * counts).sum()) <= self.bucket * len(self.points):
                break
        self.projections.append(projection[:, :used])
        self.shifts.append(shift[:used])
        self.factors.append(factors[:used])
        return keys

    @without_autocast
    def _hash(self, x: Tensor, projection: Tensor, shift: Tensor, factors: Tensor) -> Tensor:
        """Keys (N,): the steps that the projections fall on, joined by odd factors modulo 2^64."""
        steps = ((x @ projection + shift) / self.width).floor().to(torch.int64)
        return (steps * factors).sum(1)

    def _buckets(self, queries: Tensor) -> Segments:
        queries = queries.to(self.points.dtype)
        starts, lengths = [], []
        for table in range(self.tables):
            keys = self._hash(queries, self.projections[table], self.shifts[table], self.factors[table])
            start = torch.searchsorted(self.keys[table], keys)
            length = torch.searchsorted(self.keys[table], keys, right=True) - start
            starts.append(start + table * len(self.points))
            lengths.append(length.clamp(max=4 * self.bucket))  # a crowded bucket must not cost as much as all points
        return Segments(torch.stack(starts, 1), torch.stack(lengths, 1))

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Squared distances and indices (Q, k) of the nearest in the buckets; −1 where these hold fewer."""
        found = nearest_among(self.points, queries, self.members, self._buckets(queries), k, distinct=False)
        return refine(self.points, queries, found[1])

    def within(self, queries: Tensor, radius: float) -> Neighborhoods:
        """Those points within radius that share a bucket."""
        return within_among(self.points, queries, self.members, self._buckets(queries), radius, distinct=False)
