"""One pass of Lloyd's algorithm over points in main memory, on all threads that torch may use.

In: points (N, D) of float32 or float64 and centers (K, D); out: whichever of labels, distances, and sums per
cluster are asked for. Each thread takes one contiguous share, tile by tile: pack, score in registers
(`simd_tile`), then label and add up while the tile is still in the cache. The points are read once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from torch import Tensor

from clustering.simd_tile import TILE, lower_scores
from kernels.jit import cached_njit

GROUP = TILE.centers
SHARE = 1 << 21  # multiplications below which another thread costs more than it brings


@cached_njit(nogil=True, fastmath={"reassoc", "contract", "nsz"})
def pass_over(x, weights, centers, offset, packed, halves, labels, nearest, sums, counts, best, index, tile):  # type: ignore[no-untyped-def]
    """One thread's share. weights, labels, nearest, sums: length 0 where there are none or they are not wanted.

    weights, sums and counts are float64: a product in the points' float32 would move weighted means out of their range.
    """
    n, depth = x.shape
    lanes = len(best)
    for first in range(0, n, lanes):
        filled = min(lanes, n - first)
        for lane in range(filled):
            for f in range(depth):
                tile[f * lanes + lane] = x[first + lane, f] - offset[f]
        best[:] = np.inf
        index[:] = 0
        for group in range(len(packed)):
            lower_scores(tile, packed[group], halves[group], depth, group * GROUP, best, index)
        for lane in range(filled):
            row, k = first + lane, index[lane]
            if len(labels):
                labels[row] = k
            if len(nearest):
                squares = x.dtype.type(0)
                for f in range(depth):
                    squares += (x[row, f] - centers[k, f]) ** 2
                nearest[row] = squares
            if len(sums):
                weight = weights[row] if len(weights) else 1.0
                counts[k] += weight
                for f in range(depth):
                    sums[k, f] += weight * x[row, f]


def pack(centers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offset (D,), negated centers (groups, D, GROUP) and their |c|²/2 (groups, GROUP), the last group filled up.

    Centers and points are taken relative to the centers' mean: the score loses digits far from the origin.
    A filler's half is infinite, so that nothing is ever nearest to it.
    """
    k, depth = centers.shape
    groups = -(-k // GROUP)
    offset = centers.mean(0)
    negated = np.zeros((groups * GROUP, depth), centers.dtype)
    np.subtract(offset, centers, out=negated[:k])
    halves = np.full(groups * GROUP, np.inf, centers.dtype)
    halves[:k] = np.einsum("ij,ij->i", negated[:k], negated[:k]) / 2
    return offset, np.ascontiguousarray(negated.reshape(groups, GROUP, depth).transpose(0, 2, 1)), halves.reshape(groups, GROUP)


@cache
def pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="clustering")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.cache_clear)  # a forked child has the pool, but not its threads


def shares(points: np.ndarray, k: int) -> list[slice]:
    """Contiguous rows for each thread; as many threads as torch may use and the work is worth."""
    return shares_of(len(points), min(torch.get_num_threads(), points.size * k // SHARE))


def shares_of(rows: int, threads: int) -> list[slice]:
    """Contiguous rows for each of at most so many threads."""
    threads = max(1, min(threads, rows))
    bounds = np.linspace(0, rows, threads + 1).astype(int)
    return [slice(bounds[thread], bounds[thread + 1]) for thread in range(threads)]


def run_shares(share: Callable[[int], None], threads: int) -> None:
    """share(0) … share(threads − 1), at once; compiled code lets go of Python's lock."""
    if threads == 1:
        share(0)
    else:
        list(pool(threads).map(share, range(threads)))


def assign(x: Tensor, centers: Tensor, labels: Tensor, nearest: Tensor) -> None:
    """Fill labels (N,) int64 and nearest (N,), the squared distances. x and centers: contiguous, of one dtype."""
    run_pass(x, centers, None, labels, nearest, add_up=False)


def accumulate(x: Tensor, centers: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sums (K, D) and counts (K,), float64, of the points nearest to each center. weights: (N,) float64.

    They come in a fixed order, so the same call on as many threads gives the same bits.
    """
    sums, counts = run_pass(x, centers, weights, None, None, add_up=True)
    return torch.from_numpy(sums.sum(0)), torch.from_numpy(counts.sum(0))


def run_pass(
    x: Tensor, centers: Tensor, weights: Tensor | None, labels: Tensor | None, nearest: Tensor | None, add_up: bool
) -> tuple[np.ndarray, np.ndarray]:
    """`pass_over` on all threads; sums and counts of each."""
    points, means = x.numpy(), centers.numpy()
    weigh = np.empty(0) if weights is None else weights.numpy()
    out_labels = np.empty(0, np.int64) if labels is None else labels.numpy()
    out_nearest = np.empty(0, points.dtype) if nearest is None else nearest.numpy()
    offset, packed, halves = pack(means)
    parts = shares(points, len(means))
    threads = len(parts)
    sums = np.zeros((threads, *means.shape) if add_up else (threads, 0, 0))
    counts = np.zeros((threads, len(means)))
    lanes = TILE.points(points.dtype.itemsize)

    def share(thread: int) -> None:
        part = parts[thread]
        best, index = np.empty(lanes, points.dtype), np.empty(lanes, np.int32)
        tile = np.zeros(lanes * points.shape[1], points.dtype)
        results = out_labels[part], out_nearest[part], sums[thread], counts[thread]
        pass_over(points[part], weigh[part], means, offset, packed, halves, *results, best, index, tile)

    run_shares(share, threads)
    return sums, counts
