"""The two halves of Lloyd's algorithm, assignment and update, on the device that holds the points.

In: points (N, D), centers (K, D), optional weights (N,); out: labels, squared distances, sums per cluster. No
Python loop runs over points or clusters, and no N × K matrix is written beyond a bounded chunk: on the CPU large
problems go to the register-tiled pass (`cpu`), on CUDA to the fused kernels of `kernels`, the rest to torch. Sums are
kept in float64 for every dtype: in float32 a mean of many large numbers leaves the range of its points.
Source: Lloyd (1982); the sort-and-segment update is that of flash-kmeans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from clustering.arrays import compute_dtype, sum_dtype
from kernels import nearest_centers
from kernels.registry import unavailable_reason

WORTH_COMPILING = 1 << 20  # multiplications below which loading compiled code costs more than it saves
CHUNK_BYTES = 1 << 25  # of points converted or copied at a time
LABELED_ROWS = 1 << 18  # whose squared distances are held at a time, in main memory


class Totals(NamedTuple):
    """What an update needs to know of the points: sums (K, D) and counts (K,), both weighted, in `sum_dtype`."""

    sums: Tensor
    counts: Tensor

    def plus(self, other: Totals) -> Totals:
        return Totals(self.sums + other.sums, self.counts + other.counts)


class LloydPass:
    """Points (N, D) and weights (N,) that an algorithm passes over again and again, remembering nothing in between."""

    iterate: Callable[[Tensor, float, int], tuple[Tensor, int, bool]] | None = None  # many at once, where a pass can: see `fused`

    def __init__(self, x: Tensor, weights: Tensor | None = None) -> None:
        self.x, self.weights = x, weights

    def accumulate(self, centers: Tensor) -> Totals:
        """Sums and counts of the points nearest to each center."""
        return accumulate(self.x, centers, self.weights)

    def assign(self, centers: Tensor) -> tuple[Tensor, Tensor]:
        """Labels (N,) and squared distances (N,)."""
        return assign(self.x, centers)

    def label(self, centers: Tensor) -> tuple[Tensor, float]:
        """Labels (N,) and the weighted sum of squared distances, of which only a block is held at a time."""
        labels, loss = torch.empty(len(self.x), dtype=torch.int64, device=self.x.device), 0.0
        for part, own, nearest in self.labeled_blocks(centers):
            labels[part] = own
            loss += inertia(nearest, None if self.weights is None else self.weights[part])
        return labels, loss

    def labeled_blocks(self, centers: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Blocks of rows with their labels and squared distances; on a device, which has buffers for all, one block."""
        rows = LABELED_ROWS if self.x.device.type == "cpu" else len(self.x)
        for first in range(0, len(self.x), rows):
            part = slice(first, first + rows)
            yield part, *assign(self.x[part], centers)


def assign(x: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest center of each point: labels (N,) int64 and squared distances (N,), in x's compute dtype."""
    labels = torch.empty(len(x), dtype=torch.int64, device=x.device)
    centers = centers.to(compute_dtype(x[:0]).dtype).contiguous()
    nearest = torch.empty(len(x), dtype=centers.dtype, device=x.device)
    for part, block in readable_blocks(x):
        if worth_compiling(block, centers) and not has_fused_kernels(block):
            from clustering import cpu  # loads numba

            cpu.assign(block, centers, labels[part], nearest[part])
        else:
            labels[part], nearest[part] = nearest_centers(block, centers.to(block.dtype))
    return labels, nearest


def accumulate(x: Tensor, centers: Tensor, weights: Tensor | None = None) -> Totals:
    """Sums and counts of the points nearest to each center: assignment and update in one pass over x."""
    centers = centers.to(compute_dtype(x[:0]).dtype).contiguous()
    found: Totals | None = None
    for part, block in readable_blocks(x):
        some = None if weights is None else weights[part].to(sum_dtype(x.device)).contiguous()
        if has_fused_kernels(block):
            from kernels.lloyd import Lloyd  # loads triton

            more = Totals(*Lloyd(block, some, len(centers)).accumulate(centers))
        elif worth_compiling(block, centers):
            from clustering import cpu  # loads numba

            more = Totals(*cpu.accumulate(block, centers, some))
        else:
            labels, _ = nearest_centers(block, centers.to(block.dtype))
            more = segment_totals(block, labels, len(centers), some)
        found = more if found is None else found.plus(more)
    assert found is not None
    return found


def has_fused_kernels(x: Tensor) -> bool:
    """Whether `kernels.lloyd` takes these points: on CUDA with Triton, at most float32, 4,096 features and 2^30 points."""
    fits = 0 < len(x) <= 1 << 30 and 0 < x.shape[1] <= 4096
    return (
        fits and x.dtype in (torch.float16, torch.bfloat16, torch.float32) and unavailable_reason("triton", x.device.type) is None
    )


def worth_compiling(x: Tensor, centers: Tensor) -> bool:
    """Whether the compiled CPU pass is the one to take."""
    return x.device.type == "cpu" and x.numel() * len(centers) >= WORTH_COMPILING


def readable_blocks(x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """x in blocks (slice, contiguous rows) of a dtype that a pass can read.

    All rows at once where they can be used as they lie, otherwise as many as fill CHUNK_BYTES, widened and copied.
    """
    direct = can_read_directly(x)
    rows = len(x) if direct and x.is_contiguous() else max(1, CHUNK_BYTES // (4 * x.shape[1]))
    for first in range(0, len(x), max(1, rows)):
        part = slice(first, first + rows)
        yield part, (x[part] if direct else compute_dtype(x[part])).contiguous()


def can_read_directly(x: Tensor) -> bool:
    """Whether a pass can read x without widening it: the fused CUDA kernel takes 16-bit points, processors do not."""
    return x.dtype in (torch.float32, torch.float64) or x.device.type == "cuda"


def segment_totals(x: Tensor, labels: Tensor, k: int, weights: Tensor | None) -> Totals:
    """Totals from labels: rows sorted by label, then summed segment by segment, in the same order every time.

    Adding rows to their cluster one by one would make a GPU queue for the few clusters; sorted rows need no lock.
    """
    wide = sum_dtype(x.device)
    sums, counts = x.new_zeros(k, x.shape[1], dtype=wide), x.new_zeros(k, dtype=wide)
    rows = max(1, CHUNK_BYTES // (8 * x.shape[1]))
    for first in range(0, len(x), rows):
        own = labels[first : first + rows]
        order = own.argsort(stable=True)
        lengths = torch.zeros(k, dtype=torch.int64, device=x.device).scatter_add_(0, own, torch.ones_like(order))
        some = x[first : first + rows][order].to(wide)
        if weights is None:
            counts += lengths
        else:
            weigh = weights[first : first + rows].to(wide)[order]
            some *= weigh[:, None]
            counts += torch.segment_reduce(weigh, "sum", lengths=lengths, axis=0, unsafe=True)
        sums += torch.segment_reduce(some, "sum", lengths=lengths, axis=0, unsafe=True)
    return Totals(sums, counts)


def inertia(nearest: Tensor, weights: Tensor | None) -> float:
    """Weighted sum of squared distances (N,), added up in float64."""
    wide = sum_dtype(nearest.device)
    return float(nearest.sum(dtype=wide) if weights is None else torch.dot(nearest.to(wide), weights.to(wide)))


def means_of(found: Totals, centers: Tensor) -> Tensor:
    """Centers (K, D) at the means of their points; a center without points stays where it is."""
    means = found.sums / found.counts.clamp(min=torch.finfo(found.counts.dtype).tiny)[:, None]
    return torch.where(found.counts[:, None] > 0, means.to(centers), centers)
