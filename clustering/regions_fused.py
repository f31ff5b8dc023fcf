"""DBSCAN's regions without a list of pairs, where Triton runs.

In: points (N, D ≤ 8), eps, weights; out: core points and labels as `region_finders` gives them, in memory that grows
with the points alone. A grid over the first three features leaves few candidates; what is near is decided in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_FEATURES, GRID_FEATURES = 8, 3
MAX_CELLS = 1 << 20  # along an axis, so that a cell's number fits 64 bits


def is_applicable(points: Tensor) -> bool:
    """Whether Triton can take these points here, or emulate it."""
    from kernels.registry import unavailable_reason

    fits = 0 < points.shape[1] <= MAX_FEATURES and points.dtype in (torch.float32, torch.float64) and 0 < len(points) < 1 << 31
    return fits and unavailable_reason("triton", points.device.type) is None


class FusedRegions:
    """Regions by kernels that count, link and label neighbors where they find them."""

    def __init__(self, points: Tensor, eps: float) -> None:
        """Raises OverflowError where eps is so small beside the data that no grid holds them."""
        from kernels.regions_triton import Runs

        self.points, self.eps = points.contiguous(), eps
        axes = min(points.shape[1], GRID_FEATURES)
        lower, upper = torch.aminmax(self.points[:, :axes], dim=0)
        extents = (upper.double() - lower.double()).tolist()
        if max(extents) >= MAX_CELLS * eps:
            raise OverflowError(f"the data is {max(extents) / eps:.3g} times as wide as eps={eps}")
        self.runs = Runs(self.points, eps, axes, lower, [int(extent / eps) + 1 for extent in extents])

    def label(self, weights: Tensor | None, least: int) -> tuple[Tensor, Tensor]:
        """core (N,) bool and labels (N,) int64, numbered by first core point, −1 for noise."""
        runs = self.runs
        heavy = torch.ones_like(self.points[:, 0]) if weights is None else weights[runs.order].contiguous()
        is_core = runs.weights_near(heavy) >= least
        core = is_core.to(torch.int8)
        labels = number_by_first(runs.regions(core), is_core, runs.order)
        runs.label_border(core, labels)
        unsorted, unsorted_core = torch.empty_like(runs.order), torch.empty_like(is_core)
        unsorted[runs.order], unsorted_core[runs.order] = labels.to(torch.int64), is_core
        return unsorted_core, unsorted

    def first_label(self, queries: Tensor, labels: Tensor) -> Tensor:
        """The first label within eps of each query (Q, D), or −1; labels (N,): −1 for points that are no core."""
        from clustering.region_finders import ChunkRegions

        return ChunkRegions(self.points, self.eps, "auto").first_label(queries, labels)


def number_by_first(regions: Tensor, core: Tensor, order: Tensor) -> Tensor:
    """Regions of sorted core points (N,) renumbered 0, 1, … by the first of their points in the user's order; else −1."""
    n = len(order)
    root = regions.to(torch.int64)
    first = torch.full((n,), n, device=order.device).scatter_reduce_(0, root, torch.where(core, order, n), "amin")
    is_first = torch.zeros(n + 1, dtype=torch.int32, device=order.device).scatter_(0, first, 1)
    is_first[n] = 0
    numbers = is_first.cumsum(0) - 1
    return torch.where(core, numbers[first[root]], -1).to(torch.int32)
