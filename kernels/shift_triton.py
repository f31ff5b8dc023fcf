"""One step of mean shift as one kernel: no matrix of weights, whatever the number of points.

In: moving points (M, D ≤ 8), data (N, D) with masses, a kernel's bandwidth; out: the moved points, and of each step
the longest squared move, so that a row of steps runs without the host and stops by itself. `shift_step` looks at all
the data or at samples of it, `shift_nearest` at the nearest k, found by a search for the k-th distance's bits. What is
summed is w (y − x), not w y: far from the origin a float32 keeps its digits. Source: Cheng (1995).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.merge_triton import Cells, Merged

MAX_FEATURES = 8
MAX_SELECTED = 1 << 14  # data among which one program can hold all distances of its point in registers
KERNELS = {"gaussian": 0, "triangular": 1, "flat": 2}
ROWS, TILE, WARPS = 8, 128, 4  # points of a program, data that it looks at together
SELECTION = ((1 << 11, 4), (1 << 13, 8), (MAX_SELECTED, 16))  # data up to which a program takes so many warps


@triton.jit
def _coordinate(points, row, inside, DIM: tl.constexpr, D: tl.constexpr):  # type: ignore[no-untyped-def]
    """Coordinate DIM of some rows; zero where there is no such feature, which costs nothing once compiled."""
    if DIM < D:
        value = tl.load(points + row.to(tl.int64) * D + DIM, mask=inside, other=0.0)
    else:
        value = tl.zeros(row.shape, points.dtype.element_ty)
    return value


@triton.jit
def _weights(squares, scale, bandwidth, bias, KERNEL: tl.constexpr):  # type: ignore[no-untyped-def]
    """Weights of squared distances. scale: −1 / 2σ² of the Gaussian."""
    if KERNEL == 0:
        weights = tl.exp(squares * scale)
    elif KERNEL == 1:
        weights = tl.maximum(1 - tl.sqrt(squares) / bandwidth, 0) + bias
    else:
        weights = tl.where(squares <= bandwidth * bandwidth, 1.0, 0.0).to(squares.dtype)
    return weights


@triton.jit
def _square(a, b, total, DIM: tl.constexpr, D: tl.constexpr):  # type: ignore[no-untyped-def]
    """total + (a − b)², and the difference itself."""
    way = b - a
    if DIM < D:
        total += way * way
    return way, total


@triton.jit
def _store_move(  # type: ignore[no-untyped-def]
    moving, moved, row, inside, total, sums, lr, squares, DIM: tl.constexpr, D: tl.constexpr
):  # fmt: skip
    """Move coordinate DIM by lr · sums / total, where anything was seen; adds the square of the move."""
    if DIM < D:
        way = tl.where(total > 0, sums / tl.where(total > 0, total, 1.0), 0.0) * lr
        x = _coordinate(moving, row, inside, DIM, D)
        tl.store(moved + row.to(tl.int64) * D + DIM, x + way.to(x.dtype), mask=inside)
        squares += way * way
    return squares


@triton.jit(do_not_specialize=["step", "points", "number", "batch"])
def _shift(  # type: ignore[no-untyped-def]
    moving, data, mass, samples, moved, moves, settings, counts, step, points, number, batch,
    D: tl.constexpr, KERNEL: tl.constexpr, SAMPLED: tl.constexpr, COUNTED: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """settings: (scale, bandwidth, bias, lr, squared tolerance) on the device, so that a captured graph serves them all."""
    scale, bandwidth, bias = tl.load(settings), tl.load(settings + 1), tl.load(settings + 2)
    lr, tolerance = tl.load(settings + 3), tl.load(settings + 4)
    if COUNTED:
        points = tl.load(counts)
        number = points
    first = tl.program_id(1) * batch
    row = first + tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = row < tl.minimum(first + batch, points)
    x0, x1 = _coordinate(moving, row, inside, 0, D), _coordinate(moving, row, inside, 1, D)
    x2, x3 = _coordinate(moving, row, inside, 2, D), _coordinate(moving, row, inside, 3, D)
    x4, x5 = _coordinate(moving, row, inside, 4, D), _coordinate(moving, row, inside, 5, D)
    x6, x7 = _coordinate(moving, row, inside, 6, D), _coordinate(moving, row, inside, 7, D)
    kind = moving.dtype.element_ty
    total = tl.zeros((ROWS, TILE), kind)
    s0, s1 = tl.zeros((ROWS, TILE), kind), tl.zeros((ROWS, TILE), kind)
    s2, s3 = tl.zeros((ROWS, TILE), kind), tl.zeros((ROWS, TILE), kind)
    s4, s5 = tl.zeros((ROWS, TILE), kind), tl.zeros((ROWS, TILE), kind)
    s6, s7 = tl.zeros((ROWS, TILE), kind), tl.zeros((ROWS, TILE), kind)
    at_rest = False
    if step > 0:
        at_rest = tl.load(moves + step - 1) <= tolerance
    seen = tl.where(at_rest, 0, number)  # at rest the points are copied: a row of steps may run on without the host
    for j0 in range(0, seen, TILE):
        place = j0 + tl.arange(0, TILE)
        there = place < number
        j = place
        if SAMPLED:
            j = tl.load(samples + tl.program_id(1) * number + place, mask=there, other=0).to(tl.int32)
        squares = tl.zeros((ROWS, TILE), kind)
        y0, y1 = _coordinate(data, j, there, 0, D)[None, :], _coordinate(data, j, there, 1, D)[None, :]
        y2, y3 = _coordinate(data, j, there, 2, D)[None, :], _coordinate(data, j, there, 3, D)[None, :]
        y4, y5 = _coordinate(data, j, there, 4, D)[None, :], _coordinate(data, j, there, 5, D)[None, :]
        y6, y7 = _coordinate(data, j, there, 6, D)[None, :], _coordinate(data, j, there, 7, D)[None, :]
        w0, squares = _square(x0[:, None], y0, squares, 0, D)
        w1, squares = _square(x1[:, None], y1, squares, 1, D)
        w2, squares = _square(x2[:, None], y2, squares, 2, D)
        w3, squares = _square(x3[:, None], y3, squares, 3, D)
        w4, squares = _square(x4[:, None], y4, squares, 4, D)
        w5, squares = _square(x5[:, None], y5, squares, 5, D)
        w6, squares = _square(x6[:, None], y6, squares, 6, D)
        w7, squares = _square(x7[:, None], y7, squares, 7, D)
        heavy = tl.load(mass + j, mask=there, other=0).to(kind)  # nothing outside weighs anything
        weights = _weights(squares, scale, bandwidth, bias, KERNEL) * heavy[None, :]
        total += weights
        s0 += weights * w0
        s1 += weights * w1
        s2 += weights * w2
        s3 += weights * w3
        s4 += weights * w4
        s5 += weights * w5
        s6 += weights * w6
        s7 += weights * w7
    seen_mass = tl.sum(total, 1)
    move = tl.zeros((ROWS,), kind)
    move = _store_move(moving, moved, row, inside, seen_mass, tl.sum(s0, 1), lr, move, 0, D)
    move = _store_move(moving, moved, row, inside, seen_mass, tl.sum(s1, 1), lr, move, 1, D)
    move = _store_move(moving, moved, row, inside, seen_mass, tl.sum(s2, 1), lr, move, 2, D)
    move = _store_move(moving, moved, row, inside, seen_mass, tl.sum(s3, 1), lr, move, 3, D)
    move = _store_move(moving, moved, row, inside, seen_mass, tl.sum(s4, 1), lr, move, 4, D)
    move = _store_move(moving, moved, row, inside, seen_mass, tl.sum(s5, 1), lr, move, 5, D)
    move = _store_move(moving, moved, row, inside, seen_mass, tl.sum(s6, 1), lr, move, 6, D)
    move = _store_move(moving, moved, row, inside, seen_mass, tl.sum(s7, 1), lr, move, 7, D)
    tl.atomic_max(moves + step, tl.max(tl.where(inside, move, 0.0), 0).to(tl.float32))


@triton.jit
def _ways(moving, data, row, inside, j, there, D: tl.constexpr):  # type: ignore[no-untyped-def]
    """From one point to each of the data: squared distances, and the ways along each axis."""
    squares = tl.zeros(j.shape, tl.float32)
    w0, squares = _square(_coordinate(moving, row, inside, 0, D), _coordinate(data, j, there, 0, D), squares, 0, D)
    w1, squares = _square(_coordinate(moving, row, inside, 1, D), _coordinate(data, j, there, 1, D), squares, 1, D)
    w2, squares = _square(_coordinate(moving, row, inside, 2, D), _coordinate(data, j, there, 2, D), squares, 2, D)
    w3, squares = _square(_coordinate(moving, row, inside, 3, D), _coordinate(data, j, there, 3, D), squares, 3, D)
    w4, squares = _square(_coordinate(moving, row, inside, 4, D), _coordinate(data, j, there, 4, D), squares, 4, D)
    w5, squares = _square(_coordinate(moving, row, inside, 5, D), _coordinate(data, j, there, 5, D), squares, 5, D)
    w6, squares = _square(_coordinate(moving, row, inside, 6, D), _coordinate(data, j, there, 6, D), squares, 6, D)
    w7, squares = _square(_coordinate(moving, row, inside, 7, D), _coordinate(data, j, there, 7, D), squares, 7, D)
    return squares, w0, w1, w2, w3, w4, w5, w6, w7


@triton.jit
def _select(bits, k):  # type: ignore[no-untyped-def]
    """Which of some distances, given as bits, are the k smallest; of equal ones the first."""
    edge, bit, below = tl.full((), 0, tl.int32), tl.full((), 1 << 30, tl.int32), tl.full((), 0, tl.int32)
    while (bit > 0) & (below != k):  # the largest edge below which lie fewer than k; exactly k below one: they are it
        trial = edge | bit
        below = tl.sum((bits < trial).to(tl.int32), 0)
        edge = tl.where(below <= k, trial, edge)
        bit = bit >> 1
    chosen = bits < edge
    missing = k - tl.sum(chosen.to(tl.int32), 0)
    level = bits == edge
    return chosen | (level & (tl.cumsum(level.to(tl.int32), 0) <= missing))


@triton.jit
def _slab(cell_of, occupied, row, width, stride, reach, number, TABLE: tl.constexpr):  # type: ignore[no-untyped-def]
    """The data in cells up to `reach` away along the first axis: its first, the one after its last, and whether it is all."""
    first, last, whole = 0, number, 1
    if TABLE:
        cell = tl.load(cell_of + row) // stride
        low, high = tl.maximum(cell - reach, 0) * stride, tl.minimum(cell + reach + 1, width) * stride
        first = tl.load(occupied + low - 1, mask=low > 0, other=0)
        last = tl.load(occupied + high - 1)
        whole = ((cell - reach <= 0) & (cell + reach + 1 >= width)).to(tl.int32)
    return first, last, whole


@triton.jit(do_not_specialize=["number", "neighbors", "last", "reach"])
def _shift_nearest(  # type: ignore[no-untyped-def]
    moving, data, mass, moved, moves, settings, done, cell_of, occupied, bounds, widths, number, neighbors, last, reach,
    D: tl.constexpr, KERNEL: tl.constexpr, TILE: tl.constexpr, TABLE: tl.constexpr,
):  # fmt: skip
    """One point a program: the distances of all candidates in registers, and the mean of the nearest of them.

    TABLE: the data are merged points in the order of their cells, `number` is on the device, and candidates are those of
    a slab of cells that grows until nothing outside can be nearer. Points whose slab is more than TILE are left undone.
    """
    scale, bandwidth, bias, lr = tl.load(settings), tl.load(settings + 1), tl.load(settings + 2), tl.load(settings + 3)
    row = tl.program_id(0) + tl.zeros((1,), tl.int32)
    inside = row >= 0
    count, open_still, width, stride, side = number, 1, 1, 1, 1.0
    if TABLE:
        count, width = tl.load(occupied + last), tl.load(widths)
        for dim in tl.static_range(1, D):
            stride *= tl.load(widths + dim)
        side = (tl.load(bounds) * (1 - 1e-4)).to(tl.float32)  # a little less than the cells', which rounding may narrow
        open_still = ((tl.program_id(0) < count) & (tl.load(done + tl.program_id(0)) == 0)).to(tl.int32)
    k = tl.minimum(neighbors, count)
    while open_still > 0:
        first, end, whole = _slab(cell_of, occupied, tl.program_id(0), width, stride, reach, count, TABLE)
        while (end - first < k) & (whole == 0):
            reach *= 2
            first, end, whole = _slab(cell_of, occupied, tl.program_id(0), width, stride, reach, count, TABLE)
        open_still = 0
        if end - first <= TILE:
            j = first + tl.arange(0, TILE)
            there = j < end
            squares, _, _, _, _, _, _, _, _ = _ways(moving, data, row, inside, j, there, D)
            # floats that are not negative are ordered as their bits are; beyond the data lies the largest number of all
            chosen = _select(tl.where(there, squares.to(tl.int32, bitcast=True), 0x7FFFFFFF), k)
            farthest = tl.max(tl.where(chosen, squares, 0.0), 0)
            sure = reach * side
            if (whole > 0) | (farthest <= sure * sure):
                # read once more, rather than held in registers through the search
                squares, w0, w1, w2, w3, w4, w5, w6, w7 = _ways(moving, data, row, inside, j, chosen, D)
                heavy = tl.load(mass + j, mask=chosen, other=0).to(tl.float32)
                weights = _weights(squares, scale, bandwidth, bias, KERNEL) * heavy
                total = tl.sum(weights, 0)
                move = tl.zeros((1,), tl.float32)
                move = _store_move(moving, moved, row, inside, total, tl.sum(weights * w0, 0), lr, move, 0, D)
                move = _store_move(moving, moved, row, inside, total, tl.sum(weights * w1, 0), lr, move, 1, D)
                move = _store_move(moving, moved, row, inside, total, tl.sum(weights * w2, 0), lr, move, 2, D)
                move = _store_move(moving, moved, row, inside, total, tl.sum(weights * w3, 0), lr, move, 3, D)
                move = _store_move(moving, moved, row, inside, total, tl.sum(weights * w4, 0), lr, move, 4, D)
                move = _store_move(moving, moved, row, inside, total, tl.sum(weights * w5, 0), lr, move, 5, D)
                move = _store_move(moving, moved, row, inside, total, tl.sum(weights * w6, 0), lr, move, 6, D)
                move = _store_move(moving, moved, row, inside, total, tl.sum(weights * w7, 0), lr, move, 7, D)
                tl.atomic_max(moves, tl.max(move, 0))
                tl.store(done + tl.program_id(0), 1)
            else:
                reach *= 2
                open_still = 1


def settings_of(like: Tensor, bandwidth: float, bias: float, lr: float, tolerance: float) -> Tensor:
    """The numbers of a walk, (5,) beside the points. tolerance: of a move, in the data's units."""
    numbers = [-0.5 / bandwidth**2, bandwidth, bias, lr, tolerance**2]
    return torch.tensor(numbers, dtype=like.dtype, device="cpu").to(like.device, non_blocking=True)


def shift_step(
    moving: Tensor,
    data: Tensor,
    mass: Tensor,
    settings: Tensor,
    moves: Tensor,
    step: int,
    moved: Tensor,
    kernel: str,
    samples: Tensor | None = None,
    batch: int | None = None,
    count: Tensor | None = None,
) -> None:
    """Write to `moved` (M, D) where `moving` (M, D) goes, and to moves[step] its longest squared move.

    Args:
        data: (N, D) with masses (N,); float32 or float64, contiguous, D at most 8, like everything else here.
        settings: from `settings_of`. moves: (steps,) float32, zero; at moves[step − 1] ≤ tolerance nothing moves.
        count: (1,) int32, how many of the points and data there are, where only the device knows.
        samples: (batches, k) int64 data that each batch of `batch` moving points looks at; None: all of it.
    """
    per = len(moving) if batch is None else batch
    number = len(data) if samples is None else samples.shape[1]
    grid: Any = (triton.cdiv(min(per, len(moving)), ROWS), triton.cdiv(len(moving), per))
    with torch.cuda.device_of(moving):
        _shift[grid](
            moving, data, mass, data if samples is None else samples, moved, moves, settings,
            moves if count is None else count, step, len(moving), number, per,
            D=moving.shape[1], KERNEL=KERNELS[kernel], SAMPLED=samples is not None, COUNTED=count is not None,
            ROWS=ROWS, TILE=TILE, num_warps=WARPS,
        )  # fmt: skip


def shift_nearest(
    moving: Tensor, data: Tensor, mass: Tensor, settings: Tensor, moves: Tensor, moved: Tensor, kernel: str, k: int
) -> None:
    """`shift_step` towards the nearest k of at most MAX_SELECTED data; float32 only, moves (1,) gets the longest move."""
    tile, warps = next(choice for choice in SELECTION if len(data) <= choice[0])
    done = torch.empty(len(moving), dtype=torch.int8, device=moving.device)
    with torch.cuda.device_of(moving):
        _shift_nearest[(len(moving),)](
            moving, data, mass, moved, moves, settings, done, done, done, done, done, len(data), k, 0, 1,
            D=moving.shape[1], KERNEL=KERNELS[kernel], TILE=tile, TABLE=False, num_warps=warps,
        )  # fmt: skip


def shift_nearest_in_cells(
    moving: Tensor,
    mass: Tensor,
    settings: Tensor,
    moves: Tensor,
    moved: Tensor,
    kernel: str,
    k: int,
    cells: Cells | Merged,
    bounds: Tensor,
    widths: Tensor,
    done: Tensor,
) -> None:
    """`shift_nearest` of merged points among themselves, through the table of their cells.

    Args:
        moving: (M, D) float32 in the order of cells, of which the first cells.occupied[-1] are points.
        cells, bounds, widths: as `kernels.merge_triton` fills and takes them.
        done: (M,) int8, zero; stays so for points whose candidates no program could hold.
    """
    features = moving.shape[1]
    # cells that a ball of k points has for a radius, one point a cell
    reach = max(1, round((k if features == 1 else (k / 3.14) ** 0.5 if features == 2 else (k / 4.19) ** (1 / 3)) + 0.5))
    with torch.cuda.device_of(moving):
        for tile, warps in SELECTION:
            _shift_nearest[(len(moving),)](
                moving, moving, mass, moved, moves, settings, done, cells.cell_of, cells.occupied, bounds, widths, 0, k,
                len(cells.occupied) - 1, reach,
                D=features, KERNEL=KERNELS[kernel], TILE=tile, TABLE=True, num_warps=warps,
            )  # fmt: skip
            if tile >= len(moving):
                break
