"""Points of one grid cell made one, without a sort: what mean shift does between its steps.

In: points (N, D ≤ 8) with whole-numbered masses, the side of the cells; out: their weighted means in the order of the
cells, the masses added, and for each old point the new one. A table of cells numbers those that hold points. Places
within a cell are added up as integers, so the result does not depend on the order in which the device adds.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256


@triton.jit(do_not_specialize=["number", "w0", "w1", "w2", "w3", "w4", "w5", "w6", "w7"])
def _number(points, bounds, cell_index, occupied, number, w0, w1, w2, w3, w4, w5, w6, w7, D: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # fmt: skip
    """Of each point the number of its cell; marks cells that hold points. bounds: (side, offset, 1 in integers, lowest cells)."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = row < number
    index = tl.zeros((BLOCK,), tl.int32)
    for dim in tl.static_range(D):
        place = tl.load(points + row.to(tl.int64) * D + dim, mask=inside, other=0.0).to(tl.float64)
        place = place / tl.load(bounds) + tl.load(bounds + 1) - tl.load(bounds + 3 + dim)
        width = w0
        if dim == 1:
            width = w1
        if dim == 2:
            width = w2
        if dim == 3:
            width = w3
        if dim == 4:
            width = w4
        if dim == 5:
            width = w5
        if dim == 6:
            width = w6
        if dim == 7:
            width = w7
        cell = tl.minimum(tl.maximum(tl.floor(place).to(tl.int32), 0), width - 1)
        index = index * width + cell
    tl.store(cell_index + row, index, mask=inside)
    tl.store(occupied + index, 1, mask=inside)


@triton.jit(do_not_specialize=["number"])
def _add(  # type: ignore[no-untyped-def]
    points, mass, bounds, cell_index, occupied, inverse, cell_of, totals, sums, number,
    D: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add masses and places within the cells, as integers. occupied: already summed up."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = row < number
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


@triton.jit(do_not_specialize=["last", "w0", "w1", "w2", "w3", "w4", "w5", "w6", "w7"])
def _mean(  # type: ignore[no-untyped-def]
    bounds, cell_of, occupied, last, totals, sums, means, w0, w1, w2, w3, w4, w5, w6, w7,
    D: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The weighted mean of each cell's points."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = row < tl.load(occupied + last)
    index = tl.load(cell_of + row, mask=inside, other=0)
    total = tl.load(totals + row, mask=inside, other=1).to(tl.float64)
    for step in tl.static_range(D):
        dim = D - 1 - step
        width = w0
        if dim == 1:
            width = w1
        if dim == 2:
            width = w2
        if dim == 3:
            width = w3
        if dim == 4:
            width = w4
        if dim == 5:
            width = w5
        if dim == 6:
            width = w6
        if dim == 7:
            width = w7
        cell = index % width
        index = index // width
        within = tl.load(sums + row.to(tl.int64) * D + dim, mask=inside, other=0).to(tl.float64) / total / tl.load(bounds + 2)
        place = cell.to(tl.float64) + within + tl.load(bounds + 3 + dim) - tl.load(bounds + 1)
        mean = place * tl.load(bounds)
        tl.store(means + row.to(tl.int64) * D + dim, mean.to(means.dtype.element_ty), mask=inside)


class Cells:
    """A dense grid over the first extent of points that never leave it, and the points merged in its cells.

    After `merge`: occupied (size,) int32, cells with points up to and including each; its last is how many merged points
    there are. cell_of (M,) int32: the cell of each of them.
    """

    def __init__(self, points: Tensor, side: float) -> None:
        lower, upper = (bound.double() / side for bound in torch.aminmax(points, dim=0))
        self.lower, self.side = lower.floor(), side
        self.widths = [int(width) + 3 for width in (upper - self.lower).tolist()]
        self.size = 1
        for width in self.widths:
            self.size *= width
        bits = 61 - len(points).bit_length()  # of a place within a cell: times all masses it fits 64 bits
        self._scale = torch.full((1,), float(1 << min(bits, 52)), dtype=torch.float64, device=points.device)
        self._side = torch.full_like(self._scale, side)

    def merge(self, points: Tensor, mass: Tensor, offset: float) -> tuple[Tensor, Tensor, Tensor]:
        """Means (N, D), masses (N,) int64 and the new point (N,) int64 of each old one.

        Args:
            points: (N, D) contiguous float32 or float64, within the first extent.
            mass: (N,) int64.
            offset: of the grid in cells, at most 1.

        Only the first occupied[-1] means and masses are any: the host need not know how many before it goes on.
        """
        n, features = points.shape
        device, widths = points.device, [*self.widths, *[1] * (8 - features)]
        bounds = torch.cat([self._side, torch.full_like(self._side, offset), self._scale, self.lower])
        index, cell_of = torch.empty(2, n, dtype=torch.int32, device=device)
        inverse = torch.empty(n, dtype=torch.int64, device=device)
        sums = torch.zeros(n, features + 1, dtype=torch.int64, device=device).view(-1)
        totals, sums = sums[:n], sums[n:]
        means = torch.empty_like(points)
        table = torch.zeros(self.size, dtype=torch.int32, device=device)
        grid = (triton.cdiv(n, BLOCK),)
        with torch.cuda.device_of(points):
            _number[grid](points, bounds, index, table, n, *widths, D=features, BLOCK=BLOCK)
            occupied = table.cumsum(0, dtype=torch.int32)
            _add[grid](
                points, mass, bounds, index, occupied, inverse, cell_of, totals, sums, n, D=features, BLOCK=BLOCK
            )  # fmt: skip
            _mean[grid](
                bounds, cell_of, occupied, self.size - 1, totals, sums, means, *widths, D=features, BLOCK=BLOCK
            )  # fmt: skip
        self.occupied, self.cell_of = occupied, cell_of
        return means, totals, inverse
