"""Lloyd passes over wide points in main memory that skip the points whose center cannot have changed.

In: points (N, D) and, call after call, centers (K, D); out: the same totals and labels as a full pass. Each point keeps
an upper bound of the distance to its center and a lower one to all others; when centers move, bounds move with
them, and only where they cross is the point scored anew. Source: Hamerly, "Making k-means even faster" (2010).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from clustering import cpu
from clustering.lloyd import LloydPass, Totals
from clustering.simd_tile import TILE, lower_two_scores
from kernels.jit import cached_njit

GROUP = TILE.centers
BLOCK_BYTES = 1 << 20  # of points compared with their centers at a time: they stay in the cache
NOTHING = 1e-10  # of all weight: below it rounding may be what a cluster seems to hold, after heavy points have come and gone


class Geometry(NamedTuple):
    """The centers of an iteration, and how they have moved since the last."""

    centers: np.ndarray  # (K, D)
    offset: np.ndarray  # (D,), and packed and halves: as `cpu.pack` makes them
    packed: np.ndarray
    halves: np.ndarray
    moves: np.ndarray  # (K, 2): how far each center moved, and the farthest of the others
    safe: np.ndarray  # (K,): half the distance to the nearest other center
    slack: float  # error of a score, beside the squared norm


class State(NamedTuple):
    """What is remembered of a thread's share of the points."""

    labels: np.ndarray  # (n,) int32, −1 where nothing is known yet
    upper: np.ndarray  # (n,) of the distance to the point's center
    lower: np.ndarray  # (n,) of the distance to any other
    sums: np.ndarray  # (K, D) float64
    counts: np.ndarray  # (K,) float64


class PendingTile(NamedTuple):
    """A tile of points to be scored together, one in each lane."""

    rows: np.ndarray  # (lanes,) int64
    norms: np.ndarray  # (lanes,) squared
    tile: np.ndarray  # (D × lanes)
    best: np.ndarray  # (lanes,) and second: scores
    second: np.ndarray
    nearest: np.ndarray  # (lanes,) int32, the center with the best score


@cached_njit(nogil=True, fastmath={"reassoc", "contract", "nsz"})
def distance_to(x, row, centers, k):  # type: ignore[no-untyped-def]
    """Distance of a point to a center."""
    squares = x.dtype.type(0)
    for f in range(x.shape[1]):
        squares += (x[row, f] - centers[k, f]) ** 2
    return np.sqrt(squares)


@cached_njit(nogil=True, fastmath={"reassoc", "contract", "nsz"})
def add(state, k, x, row, weight):  # type: ignore[no-untyped-def]
    """Add a point to a cluster, or with a negative weight take it away."""
    state.counts[k] += weight
    for f in range(x.shape[1]):
        state.sums[k, f] += weight * x[row, f]


@cached_njit(nogil=True, inline="always")  # a call costs 4 % of a pass
def put(x, row, offset, pending, lane):  # type: ignore[no-untyped-def]
    """Put a point, about the offset, into a lane of the tile."""
    lanes, norm = len(pending.rows), x.dtype.type(0)
    for f in range(x.shape[1]):
        value = x[row, f] - offset[f]
        pending.tile[f * lanes + lane] = value
        norm += value * value
    pending.rows[lane], pending.norms[lane] = row, norm


@cached_njit(nogil=True, inline="always")  # a call costs 4 % of a pass
def score(pending, packed, halves):  # type: ignore[no-untyped-def]
    """The two best scores of every lane against all centers, and the center with the best."""
    pending.best[:] = np.inf
    pending.second[:] = np.inf
    pending.nearest[:] = 0
    for group in range(len(packed)):
        center, own, half = group * GROUP, packed[group], halves[group]
        lower_two_scores(pending.tile, own, half, own.shape[0], center, pending.best, pending.nearest, pending.second)


@cached_njit(nogil=True)
def score_pending(x, weights, geometry, state, pending, filled):  # type: ignore[no-untyped-def]
    """Score the first points of the tile against all centers; those with a new center move between the sums."""
    score(pending, geometry.packed, geometry.halves)
    for lane in range(filled):
        row, new, norm = pending.rows[lane], pending.nearest[lane], pending.norms[lane]
        error = geometry.slack * norm
        state.upper[row] = np.sqrt(max(norm + 2 * pending.best[lane], 0) + error)
        state.lower[row] = np.sqrt(max(norm + 2 * pending.second[lane] - error, 0))
        old = state.labels[row]
        if old != new:
            weight = weights[row] if len(weights) else 1.0
            if old >= 0:
                add(state, old, x, row, -weight)
            add(state, new, x, row, weight)
            state.labels[row] = new


@cached_njit(nogil=True)
def bounded_pass(x, weights, geometry, state, pending):  # type: ignore[no-untyped-def]
    """One thread's share: bring its state to the centers of geometry."""
    lanes, filled = len(pending.rows), 0
    for row in range(len(x)):
        k = state.labels[row]
        if k >= 0:
            state.upper[row] += geometry.moves[k, 0]
            state.lower[row] -= geometry.moves[k, 1]
            bound = max(state.lower[row], geometry.safe[k])
            if state.upper[row] <= bound:
                continue
            state.upper[row] = distance_to(x, row, geometry.centers, k) * (1 + geometry.slack)
            if state.upper[row] <= bound:
                continue
        put(x, row, geometry.offset, pending, filled)
        filled += 1
        if filled == lanes:
            score_pending(x, weights, geometry, state, pending, filled)
            filled = 0
    score_pending(x, weights, geometry, state, pending, filled)


@cached_njit(nogil=True)
def half_gaps(centers, first, offset, packed, halves, slack, safe, pending):  # type: ignore[no-untyped-def]
    """Half the distance to the nearest other center, at most, of centers from number first on, as many as safe has."""
    lanes = len(pending.rows)
    for start in range(0, len(safe), lanes):
        filled = min(lanes, len(safe) - start)
        for lane in range(filled):
            put(centers, first + start + lane, offset, pending, lane)
        score(pending, packed, halves)
        for lane in range(filled):  # the best score is the center's own
            norm = pending.norms[lane]
            safe[start + lane] = np.sqrt(max(norm + 2 * pending.second[lane] - slack * norm, 0)) / 2


def empty_tile(kind: np.dtype, depth: int) -> PendingTile:
    """A tile for points of that many features."""
    lanes = TILE.points(kind.itemsize)
    norms, best, second = np.empty((3, lanes), kind)
    return PendingTile(np.empty(lanes, np.int64), norms, np.zeros(depth * lanes, kind), best, second, np.zeros(lanes, np.int32))


class BoundedPass(LloydPass):
    """A pass that remembers: label, upper and lower bound of each point, and the sums of each cluster."""

    def __init__(self, x: Tensor, weights: Tensor | None) -> None:
        super().__init__(x, weights)
        self.points = x.numpy()
        self.weigh = np.empty(0) if weights is None else weights.double().contiguous().numpy()
        n, kind = len(self.points), self.points.dtype
        self.labels = np.full(n, -1, np.int32)
        self.upper, self.lower = np.zeros(n, kind), np.zeros(n, kind)
        self.parts: list[slice] = []
        self.centers: np.ndarray | None = None

    def accumulate(self, centers: Tensor) -> Totals:
        self._advance(centers.contiguous().numpy())
        sums, counts = self.sums.sum(0), self.counts.sum(0)
        if len(self.weigh):
            self._add_up_light_clusters(sums, counts)
        return Totals(torch.from_numpy(sums), torch.from_numpy(counts))

    def _add_up_light_clusters(self, sums: np.ndarray, counts: np.ndarray) -> None:
        """Put the sums (K, D) and counts (K,) of clusters of next to no weight down as their points have them, in place."""
        light = counts <= NOTHING * counts.sum()
        if not light.any():
            return
        sums[light], counts[light] = 0, 0
        rows = np.flatnonzero(light[self.labels])
        labels, weights = self.labels[rows], self.weigh[rows]
        np.add.at(counts, labels, weights)
        np.add.at(sums, labels, weights[:, None] * self.points[rows])

    def assign(self, centers: Tensor) -> tuple[Tensor, Tensor]:
        nearest = centers.new_empty(len(self.points))
        for part, _, squares in self.labeled_blocks(centers):
            nearest[part] = squares
        return torch.from_numpy(self.labels).long(), nearest

    def labeled_blocks(self, centers: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        self._advance(centers.contiguous().numpy())
        rows = max(1, BLOCK_BYTES // (self.points.itemsize * self.points.shape[1]))
        for first in range(0, len(self.points), rows):
            part = slice(first, first + rows)
            own = torch.from_numpy(self.labels[part]).long()
            yield part, own, (self.x[part] - centers[own]).square_().sum(1)

    def _advance(self, centers: np.ndarray) -> None:
        """Bring labels, bounds and sums to these centers."""
        if self.centers is None:
            self.parts = cpu.shares(self.points, len(centers))
            self.sums = np.zeros((len(self.parts), *centers.shape))
            self.counts = np.zeros((len(self.parts), len(centers)))
        kind, depth = centers.dtype, centers.shape[1]
        slack = kind.type(4 * np.finfo(kind).eps * np.sqrt(depth))
        packed = cpu.pack(centers)
        geometry = Geometry(centers, *packed, self._moves(centers), safe_distances(centers, packed, slack), slack)

        def share(thread: int) -> None:
            part = self.parts[thread]
            state = State(self.labels[part], self.upper[part], self.lower[part], self.sums[thread], self.counts[thread])
            bounded_pass(self.points[part], self.weigh[part], geometry, state, empty_tile(kind, depth))

        cpu.run_shares(share, len(self.parts))
        self.centers = centers.copy()

    def _moves(self, centers: np.ndarray) -> np.ndarray:
        """moves (K, 2) of `Geometry`, rounded to the careful side."""
        before = centers if self.centers is None else self.centers
        moved = np.linalg.norm(centers - before, axis=1) * (1 + 1e-5)
        order = moved.argsort()
        others = np.full(len(centers), moved[order[-1]])
        others[order[-1]] = moved[order[-2]]
        return np.stack([moved, others], 1).astype(centers.dtype)


def safe_distances(centers: np.ndarray, packed: tuple[np.ndarray, np.ndarray, np.ndarray], slack: np.floating) -> np.ndarray:
    """safe (K,) of `Geometry`, rounded to the careful side; packed: of `cpu.pack`.

    On the pass's own threads: after a small product, the threads of a library wait for the next one by spinning, and take
    the processor from the pass that follows.
    """
    safe = np.empty(len(centers), centers.dtype)
    parts = cpu.shares(centers, len(centers))

    def share(thread: int) -> None:
        part = parts[thread]
        half_gaps(centers, part.start, *packed, slack, safe[part], empty_tile(centers.dtype, centers.shape[1]))

    cpu.run_shares(share, len(parts))
    return safe
