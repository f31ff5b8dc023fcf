"""The two halves of Lloyd's algorithm, assignment and update, on the device that holds the points.

In: points (N, D), centers (K, D), optional weights (N,); out: labels, squared distances, sums per cluster. No
Python loop runs over points or clusters, and no N × K matrix is written beyond a bounded chunk: on the CPU large
problems go to the register-tiled pass (`cpu`), on CUDA to the fused kernel of `kernels`, the rest to torch.
Source: Lloyd (1982); the sort-and-segment update is that of flash-kmeans.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from clustering.arrays import working
from kernels import nearest_centres

WORTH_COMPILING = 1 << 20  # multiplications below which loading compiled code costs more than it saves
CHUNK_BYTES = 1 << 25  # of points converted or copied at a time


class Totals(NamedTuple):
    """What an update needs to know of the points: sums (K, D) and counts (K,), both weighted."""

    sums: Tensor
    counts: Tensor

    def plus(self, other: Totals) -> Totals:
        return Totals(self.sums + other.sums, self.counts + other.counts)


def assign(x: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest center of each point: labels (N,) int64 and squared distances (N,), in x's working dtype."""
    labels = torch.empty(len(x), dtype=torch.int64, device=x.device)
    nearest = torch.empty(len(x), dtype=working(x[:0]).dtype, device=x.device)
    sweep(x, centers, None, labels, nearest, add_up=False)
    return labels, nearest


def totals(x: Tensor, centers: Tensor, weights: Tensor | None = None) -> Totals:
    """Sums and counts of the points nearest to each center: assignment and update in one pass over x."""
    found = sweep(x, centers, weights, None, None, add_up=True)
    assert found is not None
    return found


class Pass:
    """Points (N, D) and weights (N,) that an algorithm passes over again and again, remembering nothing in between."""

    def __init__(self, x: Tensor, weights: Tensor | None = None) -> None:
        self.x, self.weights = x, weights

    def totals(self, centers: Tensor) -> Totals:
        """Sums and counts of the points nearest to each center."""
        return totals(self.x, centers, self.weights)

    def assign(self, centers: Tensor) -> tuple[Tensor, Tensor]:
        """Labels (N,) and squared distances (N,)."""
        return assign(self.x, centers)


def repeated(x: Tensor, weights: Tensor | None, k: int) -> Pass:
    """A pass for many iterations over the same points: with bounds where remembering saves more than it costs.

    Two bounds and a label for each point take at most a quarter of the points' own memory.
    """
    wide = x.shape[1] >= 12 and x.dtype in (torch.float32, torch.float64)
    if x.device.type == "cpu" and x.is_contiguous() and wide and k >= 16 and x.numel() * k >= WORTH_COMPILING:
        from clustering.bounded import BoundedPass  # loads numba

        return BoundedPass(x, weights)
    return Pass(x, weights)


def sweep(
    x: Tensor, centers: Tensor, weights: Tensor | None, labels: Tensor | None, nearest: Tensor | None, add_up: bool
) -> Totals | None:
    """One pass: fill labels and nearest where given, and return the totals where add_up asks for them.

    x may be of any floating dtype and any strides: it is widened and copied a chunk at a time where need be.
    """
    centers = working(centers).contiguous()
    found = None
    for part in chunks(x):
        block = (x[part] if as_it_lies(x) else working(x[part])).contiguous()
        weigh, to_labels, to_nearest = (None if t is None else t[part] for t in (weights, labels, nearest))
        weigh = None if weigh is None else weigh.to(working(block[:0])).contiguous()
        more = one_chunk(block, centers, weigh, to_labels, to_nearest, add_up)
        found = more if found is None or more is None else found.plus(more)
    return found


def as_it_lies(x: Tensor) -> bool:
    """Whether a pass can read x without widening it: the fused CUDA kernel takes 16-bit points, processors do not."""
    return x.dtype in (torch.float32, torch.float64) or x.device.type == "cuda"


def chunks(x: Tensor) -> list[slice]:
    """All rows at once where they can be used as they lie, otherwise as many as fill CHUNK_BYTES."""
    rows = len(x) if as_it_lies(x) and x.is_contiguous() else max(1, CHUNK_BYTES // (4 * x.shape[1]))
    return [slice(first, first + rows) for first in range(0, len(x), max(1, rows))]


def one_chunk(
    x: Tensor, centers: Tensor, weights: Tensor | None, labels: Tensor | None, nearest: Tensor | None, add_up: bool
) -> Totals | None:
    """`sweep` over contiguous points in a dtype that the device's pass takes; centers are wide."""
    if x.device.type == "cpu" and x.numel() * len(centers) >= WORTH_COMPILING:
        from clustering import cpu  # loads numba

        found = cpu.lloyd_pass(x, centers, weights, labels, nearest, add_up)
        return None if found is None else Totals(*found)
    own, near = nearest_centres(x, centers.to(x.dtype))
    if labels is not None:
        labels.copy_(own)
    if nearest is not None:
        nearest.copy_(near)
    return segment_totals(x, own, len(centers), weights) if add_up else None


def segment_totals(x: Tensor, labels: Tensor, k: int, weights: Tensor | None) -> Totals:
    """Totals from labels: rows sorted by label, then summed segment by segment, in the same order every time.

    Adding rows to their cluster one by one would make a GPU queue for the few clusters; sorted rows need no lock.
    """
    wide = working(x[:0])
    weigh = wide.new_ones(len(x)) if weights is None else weights
    sums, counts = wide.new_zeros(k, x.shape[1]), wide.new_zeros(k)
    rows = max(1, CHUNK_BYTES // (x.element_size() * x.shape[1]))
    for first in range(0, len(x), rows):
        order = labels[first : first + rows].argsort(stable=True)
        lengths = torch.zeros(k, dtype=torch.int64, device=x.device)
        lengths.scatter_add_(0, labels[first : first + rows], torch.ones_like(order))
        mass = weigh[first : first + rows][order]
        some = working(x[first : first + rows][order]) * mass[:, None]
        sums += torch.segment_reduce(some, "sum", lengths=lengths, axis=0, unsafe=True)
        counts += torch.segment_reduce(mass, "sum", lengths=lengths, axis=0, unsafe=True)
    return Totals(sums, counts)


def means_of(found: Totals, centers: Tensor) -> Tensor:
    """Centers (K, D) at the means of their points; a center without points stays where it is."""
    means = found.sums / found.counts.clamp(min=torch.finfo(found.counts.dtype).tiny)[:, None]
    return torch.where(found.counts[:, None] > 0, means.to(centers), centers)
