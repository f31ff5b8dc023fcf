"""One step of mean shift: every point's target, the kernel-weighted mean of the data that it looks at.

In: moving points (M, D), data (N, D) with weights (N,), a kernel; out: targets (M, D). There is one function for each
answer to "which data does a point look at": all of it, a random sample, the nearest k, or what lies within reach.
Source: Fukunaga and Hostetler (1975); Cheng (1995); the form over batches is the fast.ai lesson's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clustering.bandwidth import REACH
from clustering.neighbors import NearestNeighbors
from clustering.pairwise import FORMULATIONS, choose_formulation, expansion, squares_of
from kernels.arrays import without_autocast

GAUSSIAN_TAIL = 4.0  # standard deviations beyond which "radius" leaves a Gaussian out: weights below 0.0004
BLOCK = 1 << 20  # weights held at a time where the batch is left to us: 4 MiB of float32 stay in the cache


@dataclass(frozen=True)
class Kernel:
    """How much a point at a distance counts.

    name: "gaussian" (bandwidth is its σ), "triangular" or "flat" (bandwidth is where they end). bias: added to every
    weight of the triangular kernel, so that a point none of whose samples is near does not divide by nothing.
    exact: the points reach so far that distances are to be taken from their differences.
    """

    name: str
    bandwidth: float
    bias: float = 0.0
    exact: bool = False

    def weights(self, squares: Tensor) -> Tensor:
        """Weights from squared distances of any shape; the argument is overwritten."""
        if self.name == "gaussian":
            return squares.mul_(-0.5 / self.bandwidth**2).exp_()
        if self.name == "triangular":
            return squares.sqrt_().div_(-self.bandwidth).add_(1).clamp_(min=0).add_(self.bias)
        return (squares <= self.bandwidth**2).to(squares.dtype)

    @property
    def reach(self) -> float:
        """The distance beyond which nothing counts."""
        return self.bandwidth * (GAUSSIAN_TAIL if self.name == "gaussian" else REACH[self.name])


def mean_where_any(sums: Tensor, total: Tensor, stay: Tensor) -> Tensor:
    """sums (M, D) over total (M,); a point that sees nothing stays where it is."""
    mean = sums / total.clamp(min=torch.finfo(total.dtype).tiny)[:, None]
    return torch.where((total > 0)[:, None], mean, stay)


@without_autocast
def shift_targets_all(moving: Tensor, data: Tensor, weights: Tensor, kernel: Kernel, batch: int | None = None) -> Tensor:
    """Targets from all the data, a batch of moving points at a time: batch × N distances and one matrix product."""
    heavy = torch.cat([data * weights[:, None], weights[:, None]], 1)  # one product gives both the sums and the totals
    name = choose_formulation(moving, data)
    block = BLOCK // len(data)
    if name == "matmul" and kernel.exact:
        name, block = "feature", block // data.shape[1]
    formulation = expansion if name == "matmul" else FORMULATIONS[name]
    parts = []
    for rows in moving.split(batch or max(1, block)):
        found = kernel.weights(formulation(rows, data)) @ heavy
        parts.append(mean_where_any(found[:, :-1], found[:, -1], rows))
    return torch.cat(parts)


def shift_targets_random(
    moving: Tensor, data: Tensor, weights: Tensor, kernel: Kernel, k: int, generator: torch.Generator, batch: int | None = None
) -> Tensor:
    """Targets from k random data points, drawn anew (with replacement) for every batch of moving points."""
    batch = batch or max(1, BLOCK // k)
    parts = []
    for rows in moving.split(batch):
        sample = torch.randint(len(data), (k,), generator=generator, device=data.device)
        parts.append(shift_targets_all(rows, data[sample], weights[sample], kernel, len(rows)))
    return torch.cat(parts)


@without_autocast
def shift_targets_nearest(
    moving: Tensor, data: Tensor, weights: Tensor, kernel: Kernel, k: int, algorithm: str, batch: int | None = None
) -> Tensor:
    """Targets from the k nearest data points, found by `NearestNeighbors(algorithm=…)`."""
    index = NearestNeighbors(min(k, len(data)), algorithm=algorithm).fit(data)
    parts = []
    for rows in moving.split(batch or max(1, BLOCK // k)):
        near = index.kneighbors(rows, return_distance=False)
        seen = kernel.weights(squares_of(data[near], rows[:, None])) * weights[near]  # (batch, k)
        parts.append(mean_where_any(torch.einsum("mk,mkd->md", seen, data[near]), seen.sum(1), rows))
    return torch.cat(parts)


def shift_targets_radius(
    moving: Tensor, data: Tensor, weights: Tensor, kernel: Kernel, algorithm: str, batch: int | None = None
) -> Tensor:
    """Targets from all data within the kernel's reach: exact for kernels that end there."""
    index = NearestNeighbors(1, algorithm=algorithm).fit(data)
    parts = []
    for rows in moving.split(batch or max(1, BLOCK // 64)):
        near = index.neighborhoods(rows, kernel.reach)
        seeing = near.rows()
        seen = kernel.weights(near.distances.square()) * weights[near.indices]
        sums = torch.zeros_like(rows).index_add_(0, seeing, data[near.indices] * seen[:, None])
        total = torch.zeros_like(rows[:, 0]).index_add_(0, seeing, seen)
        parts.append(mean_where_any(sums, total, rows))
    return torch.cat(parts)
