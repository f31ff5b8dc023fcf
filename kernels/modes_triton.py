"""From points at rest to clusters, without the host: the end of mean shift.

In: points (M, D ≤ 8) where they came to rest, with masses; out: the modes, heaviest first, and of any points the
nearest mode. `rest_masses` adds up what rests in one cell, `greedy_modes` keeps the heaviest point left and rules out
what lies within a radius of it (scikit-learn's rule), `label_points` compares with as many modes as the device found.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

MAX_RESTING = 1 << 14  # points that one program can go through, mode by mode
ROWS, TILE = 16, 256


@triton.jit
def _same_cell(points, row, inside, j, there, side, D: tl.constexpr):  # type: ignore[no-untyped-def]
    same = inside[:, None] & there[None, :]
    for dim in tl.static_range(D):
        x = tl.load(points + row * D + dim, mask=inside, other=0.0).to(tl.float64)
        y = tl.load(points + j * D + dim, mask=there, other=0.0).to(tl.float64)
        same = same & (tl.floor(x / side)[:, None] == tl.floor(y / side)[None, :])
    return same


@triton.jit(do_not_specialize=["number"])
def _rest(points, mass, sides, means, totals, number, D: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr):  # type: ignore[no-untyped-def]
    """What rests in the cell of each point: its mass at the cell's first point, 0 at the others, and its mean."""
    side = tl.load(sides)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = row < number
    total, first = tl.zeros((ROWS,), tl.float64), row
    for j0 in range(0, number, TILE):
        j = j0 + tl.arange(0, TILE)
        there = j < number
        same = _same_cell(points, row, inside, j, there, side, D)
        total += tl.sum(tl.where(same, tl.load(mass + j, mask=there, other=0).to(tl.float64)[None, :], 0.0), 1)
        first = tl.minimum(first, tl.min(tl.where(same, j[None, :], number), 1))
    for dim in tl.static_range(D):
        x = tl.load(points + row * D + dim, mask=inside, other=0.0).to(tl.float64)
        sums = tl.zeros((ROWS,), tl.float64)
        for j0 in range(0, number, TILE):
            j = j0 + tl.arange(0, TILE)
            there = j < number
            same = _same_cell(points, row, inside, j, there, side, D)
            heavy = tl.load(mass + j, mask=there, other=0).to(tl.float64)
            y = tl.load(points + j * D + dim, mask=there, other=0.0).to(tl.float64)
            sums += tl.sum(tl.where(same, heavy[None, :] * (y[None, :] - x[:, None]), 0.0), 1)
        tl.store(means + row * D + dim, (x + sums / tl.where(total > 0, total, 1.0)).to(means.dtype.element_ty), mask=inside)
    tl.store(totals + row, tl.where(first == row, total, 0.0), mask=inside)


@triton.jit(do_not_specialize=["number"])
def _greedy(points, totals, radii, modes, count, number, D: tl.constexpr, TILE: tl.constexpr):  # type: ignore[no-untyped-def]
    """One program: the heaviest point left becomes a mode, what is within the radius of it is out; until none is left."""
    radius = tl.load(radii)
    j = tl.arange(0, TILE)
    there = j < number
    left = tl.load(totals + j, mask=there, other=0.0)
    found = 0
    heaviest = tl.max(left, 0)
    while heaviest > 0:
        best = tl.min(tl.where(left == heaviest, j, TILE), 0)  # of equal masses the first
        squares = tl.zeros((TILE,), points.dtype.element_ty)
        for dim in tl.static_range(D):
            x = tl.load(points + best * D + dim)
            way = tl.load(points + j * D + dim, mask=there, other=0.0) - x
            squares += way * way
            tl.store(modes + found * D + dim, x)
        left = tl.where((squares <= radius * radius) | (j == best), 0.0, left)
        found += 1
        heaviest = tl.max(left, 0)
    tl.store(count, found)


@triton.jit(do_not_specialize=["number"])
def _label(points, modes, count, labels, used, number, D: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside, modes_found = row < number, tl.load(count)
    least = tl.full((ROWS,), float("inf"), points.dtype.element_ty)
    label = tl.zeros((ROWS,), tl.int32)
    for k0 in range(0, modes_found, TILE):
        k = k0 + tl.arange(0, TILE)
        there = k < modes_found
        squares = tl.zeros((ROWS, TILE), points.dtype.element_ty)
        for dim in tl.static_range(D):
            x = tl.load(points + row.to(tl.int64) * D + dim, mask=inside, other=0.0)
            way = x[:, None] - tl.load(modes + k * D + dim, mask=there, other=0.0)[None, :]
            squares += way * way
        here, index = tl.min(tl.where(there[None, :], squares, float("inf")), 1, return_indices=True)
        closer = here < least
        least = tl.where(closer, here, least)
        label = tl.where(closer, k0 + index, label)
    tl.store(labels + row, label.to(tl.int64), mask=inside)
    tl.store(used + label, 1, mask=inside)


def rest_masses(points: Tensor, mass: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
    """Means (M, D) of what rests in the cells of `side`, a tensor (1,), and its mass (M,) float64 at each cell's first point."""
    means, totals = torch.empty_like(points), torch.empty(len(points), dtype=torch.float64, device=points.device)
    with torch.cuda.device_of(points):
        _rest[(triton.cdiv(len(points), ROWS),)](
            points, mass, side, means, totals, len(points), D=points.shape[1], ROWS=ROWS, TILE=TILE
        )  # fmt: skip
    return means, totals


def greedy_modes(points: Tensor, totals: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Modes (M, D), of which the first `count` (1,) int32 are any; points of no mass are none. At most MAX_RESTING points."""
    modes, count = torch.empty_like(points), torch.empty(1, dtype=torch.int32, device=points.device)
    tile = max(64, triton.next_power_of_2(len(points)))
    with torch.cuda.device_of(points):
        _greedy[(1,)](
            points, totals, radius, modes, count, len(points), D=points.shape[1], TILE=tile,
            num_warps=min(16, max(1, tile // 256)),
        )  # fmt: skip
    return modes, count


def label_points(points: Tensor, modes: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest of the first `count` modes for each point, (N,) int64, of equal ones the first; and which modes have points."""
    labels = torch.empty(len(points), dtype=torch.int64, device=points.device)
    used = torch.zeros(len(modes), dtype=torch.int32, device=points.device)
    with torch.cuda.device_of(points):
        _label[(triton.cdiv(len(points), 256),)](
            points, modes, count, labels, used, len(points), D=points.shape[1], ROWS=256, TILE=16
        )  # fmt: skip
    return labels, used
