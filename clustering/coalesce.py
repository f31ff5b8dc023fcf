"""Points that have come together, made one: the merging of mean shift.

In: points (N, D) with masses; out: fewer points with the masses added, and for each old point the new one. Mean
shift gathers points; what has met moves together ever after, so that each step has fewer points to move.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ODD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # spread the bits of a cell's numbers over its key


class Merged(NamedTuple):
    """points (M, D), their masses (M,), and owner (N,): the new point of each old one."""

    points: Tensor
    mass: Tensor
    owner: Tensor


def coalesce(points: Tensor, mass: Tensor, cell: float, offset: float = 0.0) -> Merged:
    """Merge the points of each cell of a cubic grid into their weighted mean.

    cell: the cells' side. offset: of the grid, in cells; another offset later merges neighbours that a border parts.
    """
    cells = (points / cell + offset).floor().to(torch.int64)
    owner = cell_keys(cells).unique(return_inverse=True)[1]
    n = int(owner.max()) + 1
    total = mass.new_zeros(n).index_add_(0, owner, mass)
    sums = points.new_zeros(n, points.shape[1]).index_add_(0, owner, points * mass[:, None])
    return Merged(sums / total[:, None], total, owner)


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


def heaviest(points: Tensor, mass: Tensor, radius: float) -> Tensor:
    """Rows of the points that outweigh all others within radius, heaviest first.

    Greedy, as in scikit-learn's mean shift: the heaviest point left is kept and rules out what lies within radius
    of it. The loop runs once for each point that is kept.
    """
    order = mass.argsort(descending=True, stable=True)
    left = torch.ones(len(points), dtype=torch.bool, device=points.device)
    kept = []
    while bool(left.any()):
        first = order[left[order].int().argmax()]
        kept.append(first)
        left &= (points - points[first]).square().sum(1) > radius * radius
        left[first] = False
    return torch.stack(kept)
