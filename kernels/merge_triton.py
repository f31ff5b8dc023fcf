"""Points of one grid cell made one, without a sort: what mean shift does between its steps.

In: points (N, D ≤ 8) with whole-numbered masses, the side of the cells; out: their weighted means in the order of the
cells, the masses added, and for each old point the new one. A table of cells numbers those that hold points. Places
within a cell are added up as integers, so the result does not depend on the order in which the device adds.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256


@triton.jit
def _live(counts, number, COUNTED: tl.constexpr):  # type: ignore[no-untyped-def]
    """How many of the points are any: `number`, or what the device found."""
    if COUNTED:
        number = tl.load(counts)
    return number


@triton.jit(do_not_specialize=["number"])
def _number(  # type: ignore[no-untyped-def]
    points, bounds, widths, cell_index, occupied, counts, number, D: tl.constexpr, COUNTED: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Of each point the number of its cell; marks cells that hold points. bounds: (side, offset, 1 in integers, lowest cells)."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = row < _live(counts, number, COUNTED)
    index = tl.zeros((BLOCK,), tl.int32)
    for dim in tl.static_range(D):
        place = tl.load(points + row.to(tl.int64) * D + dim, mask=inside, other=0.0).to(tl.float64)
        place = place / tl.load(bounds) + tl.load(bounds + 1) - tl.load(bounds + 3 + dim)
        width = tl.load(widths + dim)
        cell = tl.minimum(tl.maximum(tl.floor(place).to(tl.int32), 0), width - 1)
        index = index * width + cell
    tl.store(cell_index + row, index, mask=inside)
    tl.store(occupied + index, 1, mask=inside)


@triton.jit(do_not_specialize=["number"])
def _add(  # type: ignore[no-untyped-def]
    points, mass, bounds, cell_index, occupied, inverse, cell_of, totals, sums, counts, number,
    D: tl.constexpr, COUNTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add masses and places within the cells, as integers. occupied: already summed up."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = row < _live(counts, number, COUNTED)
    index = tl.load(cell_index + row, mask=inside, other=0)
    merged = tl.load(occupied + index, mask=inside, other=1) - 1
    tl.store(inverse + row, merged.to(tl.int64), mask=inside)
    tl.store(cell_of + merged, index, mask=inside)
    heavy = tl.load(mass + row, mask=inside, other=0)
    tl.atomic_add(totals + merged, heavy, mask=inside)
    for dim in tl.static_range(D):
        place = tl.load(points + row.to(tl.int64) * D + dim, mask=inside, other=0.0).to(tl.float64)
        place = place / tl.load(bounds) + tl.load(bounds + 1) - tl.load(bounds + 3 + dim)
        part = ((place - tl.floor(place)) * tl.load(bounds + 2)).to(tl.int64)
        tl.atomic_add(sums + merged.to(tl.int64) * D + dim, part * heavy, mask=inside)


@triton.jit(do_not_specialize=["last"])
def _mean(  # type: ignore[no-untyped-def]
    bounds, widths, cell_of, occupied, last, totals, sums, means, D: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """The weighted mean of each cell's points."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = row < tl.load(occupied + last)
    index = tl.load(cell_of + row, mask=inside, other=0)
    total = tl.load(totals + row, mask=inside, other=1).to(tl.float64)
    for step in tl.static_range(D):
        dim = D - 1 - step
        width = tl.load(widths + dim)
        cell = index % width
        index = index // width
        within = tl.load(sums + row.to(tl.int64) * D + dim, mask=inside, other=0).to(tl.float64) / total / tl.load(bounds + 2)
        place = cell.to(tl.float64) + within + tl.load(bounds + 3 + dim) - tl.load(bounds + 1)
        mean = place * tl.load(bounds)
        tl.store(means + row.to(tl.int64) * D + dim, mean.to(means.dtype.element_ty), mask=inside)


class Merged:
    """Room for the points of cells made one: what `merge_cells` fills.

    Attributes:
        means: (N, D). totals: (N,) int64, their masses. inverse: (N,) int64, the new point of each old one.
        occupied: (cells,) int32, cells with points up to and including each; its last is how many merged points there
            are, and only so many means and masses are any.
        cell_of: (N,) int32, the cell of each merged point.
    """

    def __init__(self, points: Tensor, cells: int) -> None:
        n, device = len(points), points.device
        self.index, self.cell_of = torch.empty(2, n, dtype=torch.int32, device=device)
        self.table, self.occupied = torch.empty(2, cells, dtype=torch.int32, device=device)
        self.inverse = torch.empty(n, dtype=torch.int64, device=device)
        self.numbers = torch.empty(n * (points.shape[1] + 1), dtype=torch.int64, device=device)
        self.totals, self.sums = self.numbers[:n], self.numbers[n:]
        self.means = torch.empty_like(points)


def merge_cells(points: Tensor, mass: Tensor, bounds: Tensor, widths: Tensor, room: Merged, count: Tensor | None = None) -> None:
    """Fill `room` with the means of the points (N, D) of each cell.

    Args:
        points: (N, D) contiguous float32 or float64, within the grid's extent.
        mass: (N,) int64.
        bounds: (3 + D,) float64: the cells' side, the grid's offset in cells, at most 1, the integer that one side is, and
            the lowest cells. widths: (D,) int32. Both on the device, so that a captured graph serves every grid.
        count: (1,) int32, how many of the points there are, where only the device knows.
    """
    n, features = points.shape
    room.numbers.zero_()
    room.table.zero_()
    counts, counted, grid = points if count is None else count, count is not None, (triton.cdiv(n, BLOCK),)
    with torch.cuda.device_of(points):
        _number[grid](
            points, bounds, widths, room.index, room.table, counts, n, D=features, COUNTED=counted, BLOCK=BLOCK
        )  # fmt: skip
        torch.cumsum(room.table, 0, dtype=torch.int32, out=room.occupied)
        _add[grid](
            points, mass, bounds, room.index, room.occupied, room.inverse, room.cell_of, room.totals, room.sums, counts, n,
            D=features, COUNTED=counted, BLOCK=BLOCK,
        )  # fmt: skip
        _mean[grid](
            bounds, widths, room.cell_of, room.occupied, len(room.occupied) - 1, room.totals, room.sums, room.means,
            D=features, BLOCK=BLOCK,
        )  # fmt: skip


class Cells:
    """A dense grid over the first extent of points that never leave it, and the points merged in its cells.

    After `merge`: occupied and cell_of, as in `Merged`.
    """

    def __init__(self, points: Tensor, side: float) -> None:
        lower, upper = (bound.double() / side for bound in torch.aminmax(points, dim=0))
        self.side = side
        self.extent = [int(width) + 3 for width in (upper - lower.floor()).tolist()]
        self.size = math.prod(self.extent)
        bits = 61 - len(points).bit_length()  # of a place within a cell: times all masses it fits 64 bits
        given = torch.tensor([side, 0.0, float(1 << min(bits, 52))], dtype=torch.float64, device="cpu").to(points.device)
        self.bounds = torch.cat([given, lower.floor()])
        # a grid that no memory holds is refused by its size, and its widths need fit no 32 bits
        self.widths = torch.tensor([min(width, 2**31 - 1) for width in self.extent], dtype=torch.int32, device="cpu").to(
            points.device
        )

    def merge(self, points: Tensor, mass: Tensor, offset: float) -> tuple[Tensor, Tensor, Tensor]:
        """Means (N, D), masses (N,) int64 and the new point (N,) int64 of each old one, see `merge_cells`.

        offset: of the grid in cells, at most 1.

        Only the first occupied[-1] means and masses are any: the host need not know how many before it goes on.
        """
        self.bounds[1] = offset
        room = Merged(points, self.size)
        merge_cells(points, mass, self.bounds, self.widths, room)
        self.occupied, self.cell_of = room.occupied, room.cell_of
        return room.means, room.totals, room.inverse
