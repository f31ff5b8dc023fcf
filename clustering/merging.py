"""Merge points in one grid cell (mean shift).

In: points (N, D) with weights; out: fewer points with the weights added, and for each old point the new one. Points
that have met move together from then on, so that each step has fewer points to move.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ODD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # spread the bits of a cell's numbers over its key


class Merged(NamedTuple):
    """points (M, D), their weights (M,), and inverse (N,): the new point of each old one, as `torch.unique` names it."""

    points: Tensor
    weights: Tensor
    inverse: Tensor


def merge_points(points: Tensor, weights: Tensor, cell: float, offset: float = 0.0) -> Merged:
    """Merge the points of each cell of a cubic grid into their weighted mean.

    cell: the cells' side. offset: of the grid, in cells; another offset later merges neighbors that a border parts.
    """
    cells = (points / cell + offset).floor().to(torch.int64)
    inverse = cell_keys(cells).unique(return_inverse=True)[1]
    n = int(inverse.max()) + 1
    places = torch.arange(len(points), device=points.device)
    first = torch.full((n,), len(points), device=points.device).scatter_reduce_(0, inverse, places, "amin")
    inverse = first.argsort().argsort()[inverse]  # in the order of the points, wherever the grid lies
    total = weights.new_zeros(n).index_add_(0, inverse, weights)
    sums = points.new_zeros(n, points.shape[1]).index_add_(0, inverse, points * weights[:, None])
    return Merged(sums / total[:, None], total, inverse)


def cell_keys(cells: Tensor) -> Tensor:
    """One int64 for each row of cell numbers (N, D); different cells share one about once in 2^64 pairs."""
    key = torch.zeros_like(cells[:, 0])
    for axis in range(cells.shape[1]):
        key = (key ^ (cells[:, axis] * signed(ODD[axis % 3]))) * signed(ODD[(axis + 1) % 3])
        key = key ^ (key >> 29)
    return key


def signed(number: int) -> int:
    """A 64-bit pattern as the int64 that has it."""
    return number - (1 << 64) if number >= 1 << 63 else number


def heaviest(points: Tensor, weights: Tensor, radius: float) -> Tensor:
    """Rows of the points that outweigh all others within radius, heaviest first.

    Greedy, as in scikit-learn's mean shift: the heaviest point left is kept and rules out what lies within radius
    of it. The loop runs once for each point that is kept.
    """
    order = weights.argsort(descending=True, stable=True)
    left = torch.ones(len(points), dtype=torch.bool, device=points.device)
    kept = []
    while bool(left.any()):
        first = order[left[order].int().argmax()]
        kept.append(first)
        left &= (points - points[first]).square().sum(1) > radius * radius
        left[first] = False
    return torch.stack(kept)
