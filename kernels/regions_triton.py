"""DBSCAN's pairs on the device: counted, linked and labeled where they are found, never written down.

In: points (N, D ≤ 8) sorted by the cell of a grid whose side is eps; out: which are core points, the connected regions
of core points, the region that each border point touches. Neighbors of a block of sorted points lie in a few runs of
them, one for each row of cells around it. Regions grow by hooking: every tree is hung below the smallest root that its
points touch, then all points look up their roots. Source: Ester et al. (1996); Jaiganesh and Burtscher, ECL-CC (2018).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK, TILE, WARPS = 32, 64, 4  # sorted points of a program, neighbors that it looks at together
WIDER = 1 + 2.0**-20  # times eps is a cell's side: rounding never puts points that are eps apart two cells apart
ROUNDS = 4  # of hooking before the host looks whether they were enough


@triton.jit
def _near(points, row, inside, j, there, limit, D: tl.constexpr):  # type: ignore[no-untyped-def]
    """Whether pairs (row, j) are at most eps apart. In float64: differences of float32 are exact there, ties stay ties."""
    squares = tl.zeros((row.shape[0], j.shape[0]), tl.float64)
    for dim in tl.static_range(D):
        x = tl.load(points + row.to(tl.int64) * D + dim, mask=inside, other=0.0).to(tl.float64)
        y = tl.load(points + j.to(tl.int64) * D + dim, mask=there, other=0.0).to(tl.float64)
        way = x[:, None] - y[None, :]
        squares += way * way
    return (squares <= limit) & inside[:, None] & there[None, :]


@triton.jit(do_not_specialize=["number"])
def _count(  # type: ignore[no-untyped-def]
    points, weights, starts, ends, counts, limits, number, RUNS: tl.constexpr, D: tl.constexpr,
    BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """The weight of each point's neighbors, itself included."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside, limit = row < number, tl.load(limits)
    total = tl.zeros((BLOCK,), tl.float64)
    for run in range(RUNS):
        first, last = tl.load(starts + tl.program_id(0) * RUNS + run), tl.load(ends + tl.program_id(0) * RUNS + run)
        for j0 in range(first, last, TILE):
            j = j0 + tl.arange(0, TILE)
            there = j < last
            near = _near(points, row, inside, j, there, limit, D)
            weight = tl.load(weights + j, mask=there, other=0.0).to(tl.float64)
            total += tl.sum(tl.where(near, weight[None, :], 0.0), 1)
    tl.store(counts + row, total, mask=inside)


@triton.jit
def _find(parents, node, inside):  # type: ignore[no-untyped-def]
    """The roots of some nodes."""
    above = tl.load(parents + node, mask=inside, other=0)
    while tl.max((inside & (above != node)).to(tl.int32), 0) > 0:
        node = tl.where(inside, above, node)
        above = tl.load(parents + node, mask=inside, other=0)
    return node


@triton.jit(do_not_specialize=["turn", "number"])
def _hook(  # type: ignore[no-untyped-def]
    points, core, parents, changed, starts, ends, limits, turn, number, RUNS: tl.constexpr, D: tl.constexpr,
    BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Hang the root of each core point below the smallest root among its neighbors; changed[turn] says that one moved."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside, limit = row < number, tl.load(limits)
    if turn > 0:
        inside = inside & (tl.load(changed + turn - 1) > 0)  # the round before changed nothing: all is done
    inside = inside & (tl.load(core + row, mask=inside, other=0) > 0)
    if tl.max(inside.to(tl.int32), 0) > 0:
        own = tl.load(parents + row, mask=inside, other=0)
        least = own
        for run in range(RUNS):
            first, last = tl.load(starts + tl.program_id(0) * RUNS + run), tl.load(ends + tl.program_id(0) * RUNS + run)
            for j0 in range(first, last, TILE):
                j = j0 + tl.arange(0, TILE)
                there = j < last
                there = there & (tl.load(core + j, mask=there, other=0) > 0)
                root = tl.load(parents + j, mask=there, other=0)
                near = _near(points, row, inside, j, there, limit, D)
                least = tl.minimum(least, tl.min(tl.where(near, root[None, :], number), 1))
        hooked = inside & (least < own)
        tl.atomic_min(parents + own, least, mask=hooked)
        if tl.max(hooked.to(tl.int32), 0) > 0:
            tl.store(changed + turn, 1)


@triton.jit(do_not_specialize=["turn", "number"])
def _jump(parents, changed, turn, number, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Every point looks up its root. Others may do so meanwhile: what they write is an ancestor of what they read."""
    node = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = (node < number) & (tl.load(changed + turn) > 0)
    root = _find(parents, node, inside)
    tl.store(parents + node, root, mask=inside)


@triton.jit(do_not_specialize=["number"])
def _border(  # type: ignore[no-untyped-def]
    points, core, labels, starts, ends, limits, number, RUNS: tl.constexpr, D: tl.constexpr,
    BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Points that are not core points get the smallest label among their core neighbors, or −1."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside, limit = row < number, tl.load(limits)
    inside = inside & (tl.load(core + row, mask=inside, other=1) == 0)
    if tl.max(inside.to(tl.int32), 0) > 0:
        least = tl.full((BLOCK,), 0x7FFFFFFF, tl.int32)
        for run in range(RUNS):
            first, last = tl.load(starts + tl.program_id(0) * RUNS + run), tl.load(ends + tl.program_id(0) * RUNS + run)
            for j0 in range(first, last, TILE):
                j = j0 + tl.arange(0, TILE)
                there = j < last
                there = there & (tl.load(core + j, mask=there, other=0) > 0)
                label = tl.load(labels + j, mask=there, other=0)
                near = _near(points, row, inside, j, there, limit, D)
                least = tl.minimum(least, tl.min(tl.where(near, label[None, :], 0x7FFFFFFF), 1))
        tl.store(labels + row, tl.where(least == 0x7FFFFFFF, -1, least), mask=inside)


class Runs:
    """Points in the order of their cells, and for each block of them the runs of points that may be neighbors."""

    def __init__(self, points: Tensor, eps: float, axes: int, lower: Tensor, widths: list[int]) -> None:
        """points: (N, D), any order. The grid spans the first `axes` of them: `widths` cells of side eps from `lower` on."""
        cells = ((points[:, :axes].double() - lower.double()) / (eps * WIDER)).floor_().to(torch.int64)
        strides = [1]
        for width in reversed(widths[1:]):
            strides.append(strides[-1] * (width + 2))  # an empty cell at both ends, so that no run goes round a corner
        steps = torch.tensor(strides[::-1], device=points.device)
        keys, self.order = (cells * steps).sum(1).sort(stable=True)
        self.points = points[self.order].contiguous()
        firsts = torch.arange(0, len(points), BLOCK, device=points.device)
        lasts = (firsts + BLOCK - 1).clamp_(max=len(points) - 1)
        around = torch.zeros(1, dtype=torch.int64, device=points.device)
        for step in strides[:0:-1]:
            around = (around[:, None] + torch.tensor([-step, 0, step], device=points.device)).flatten()
        low = (keys[firsts][:, None] + (around - 1)[None, :]).contiguous()
        high = (keys[lasts][:, None] + (around + 1)[None, :]).contiguous()
        self.starts = torch.searchsorted(keys, low).to(torch.int32)
        self.ends = torch.searchsorted(keys, high, right=True).to(torch.int32)
        # Where a block spans several rows of cells its runs overlap; each begins where the one before has ended.
        before = self.ends.cummax(1).values
        self.starts[:, 1:] = torch.maximum(self.starts[:, 1:], before[:, :-1])
        self.ends = torch.maximum(self.ends, self.starts)
        self.limit = torch.tensor([float(eps) ** 2], dtype=torch.float64, device=points.device)

    @property
    def blocks(self) -> int:
        return len(self.starts)

    def _meta(self) -> dict[str, int]:
        return {"RUNS": self.starts.shape[1], "D": self.points.shape[1], "BLOCK": BLOCK, "TILE": TILE, "num_warps": WARPS}

    def weights_near(self, weights: Tensor) -> Tensor:
        """(N,) float64: the weight within eps of each sorted point, of sorted weights (N,)."""
        counts = torch.empty(len(weights), dtype=torch.float64, device=weights.device)
        with torch.cuda.device_of(weights):
            _count[(self.blocks,)](
                self.points, weights, self.starts, self.ends, counts, self.limit, len(weights), **self._meta()
            )  # fmt: skip
        return counts

    def regions(self, core: Tensor) -> Tensor:
        """(N,) int32: of each sorted core point the first sorted point of its region; core: (N,) int8."""
        n = len(core)
        parents = torch.arange(n, dtype=torch.int32, device=core.device)
        with torch.cuda.device_of(core):
            while True:
                changed = torch.zeros(ROUNDS, dtype=torch.int32, device=core.device)
                for turn in range(ROUNDS):
                    _hook[(self.blocks,)](
                        self.points, core, parents, changed, self.starts, self.ends, self.limit, turn, n, **self._meta()
                    )  # fmt: skip
                    _jump[(triton.cdiv(n, 256),)](parents, changed, turn, n, BLOCK=256)
                if int(changed[-1]) == 0:
                    return parents

    def label_border(self, core: Tensor, labels: Tensor) -> None:
        """Give points that are not core points the smallest label of their core neighbors, −1 without any; in place."""
        with torch.cuda.device_of(core):
            _border[(self.blocks,)](
                self.points, core, labels, self.starts, self.ends, self.limit, len(core), **self._meta()
            )  # fmt: skip
