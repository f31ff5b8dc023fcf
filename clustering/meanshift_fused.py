"""Mean shift where Triton runs: one kernel a step, many steps without the host, and the clusters found on the device.

In: points (N, D ≤ 8), a kernel, what to look at; out: centers, labels and where the points came to rest, as
`MeanShift` finds them on the CPU. Small walks are captured in CUDA graphs, which are kept for walks of the same shape;
walks that merge points number the cells of a dense grid instead of sorting keys.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from clustering.meanshift_graphs import GOLDEN, Rest, captured, finding, in_order, merging, modes_and_labels
from clustering.shift import Kernel, shift_targets_nearest

if TYPE_CHECKING:
    from kernels.merge_triton import Cells

MAX_FEATURES = 8
GRAPH_POINTS = 1 << 14  # above, a step takes longer than its launch
FINDING_POINTS = 1 << 12  # whose modes are found by a graph: it compares all pairs of places, however few are at rest
GRAPH_CELLS = 1 << 20  # of a grid whose steps are captured: two tables of 4 MB
LEAST_CELLS = 1 << 16  # of a captured grid: grids of similar extent share one
STEPS_AT_ONCE = 8  # before the host looks whether the points rest
MAX_TABLE = 1 << 22  # cells that a grid may have, or four for each point
SAME_MODE = 0.01  # bandwidths within which two points at rest have reached the same place


class Walk(NamedTuple):
    """How to walk: a kernel, the share of the way that a step goes, and when to stop."""

    kernel: Kernel
    lr: float
    tol: float  # bandwidths
    max_iter: int
    blurring: bool

    def settings(self, like: Tensor) -> Tensor:
        """The numbers that the kernels read, beside the points."""
        kernel = self.kernel
        return _settings(kernel.bandwidth, kernel.bias, self.lr, self.tol * kernel.bandwidth, like.dtype, like.device)

    def limit(self, like: Tensor) -> float:
        """The squared move up to which points rest, rounded as the kernels round it."""
        return float(torch.tensor((self.tol * self.kernel.bandwidth) ** 2, dtype=like.dtype, device="cpu"))


class Clusters(NamedTuple):
    """centers (K, D), heaviest first; labels (N,) int64; moved (N, D)."""

    centers: Tensor
    labels: Tensor
    moved: Tensor


def is_applicable(data: Tensor, kind: str, merging: bool, blurring: bool) -> bool:
    """Whether the fused steps take these points, and can run or be emulated here."""
    from kernels.registry import unavailable_reason

    if kind not in ("all", "random", "nearest") or not 0 < data.shape[1] <= MAX_FEATURES:
        return False
    if data.dtype not in (torch.float32, torch.float64) or len(data) >= 1 << 31 or (merging and not blurring):
        return False
    if kind == "nearest" and (data.dtype == torch.float64 or not (merging or len(data) <= 1 << 14)):
        return False
    return not (kind == "random" and merging) and unavailable_reason("triton", data.device.type) is None


@lru_cache(maxsize=64)
def _settings(bandwidth: float, bias: float, lr: float, tolerance: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    from kernels.shift_triton import settings_of

    return settings_of(torch.empty(0, dtype=dtype, device=device), bandwidth, bias, lr, tolerance)


def steps_taken(moves: list[float], limit: float) -> tuple[int, bool]:
    """How many steps of a row were taken, and whether the points rest."""
    for step, move in enumerate(moves):
        if move <= limit:
            return step + 1, True
    return len(moves), False


def walk_all(data: Tensor, walk: Walk) -> Rest:
    """Steps that look at all points, until these rest."""
    from kernels.shift_triton import shift_step

    settings, limit = walk.settings(data), walk.limit(data)
    moving, taken, rests = data, 0, False
    ones = torch.ones_like(data[:, 0])
    while taken < walk.max_iter and not rests:
        steps = min(STEPS_AT_ONCE, walk.max_iter - taken)
        if len(data) <= GRAPH_POINTS:
            row = captured(len(data), data.shape[1], data.dtype, data.device, walk.kernel.name, steps, walk.blurring)
            moving, moves = row.run(moving, data, settings)
        else:
            record = torch.zeros(steps, dtype=torch.float32, device=data.device)
            for step in range(steps):
                then = torch.empty_like(moving)
                seen = moving if walk.blurring else data
                shift_step(moving, seen, ones, settings, record, step, then, walk.kernel.name)
                moving = then
            moves = record.tolist()
        more, rests = steps_taken(moves, limit)
        taken += more
    return Rest(moving, ones, None, taken)


def walk_random(data: Tensor, walk: Walk, k: int, batch: int | None, generator: torch.Generator) -> Rest:
    """Steps that look at k random points, drawn anew for every batch of `batch` points and every step."""
    from kernels.shift_triton import shift_step

    settings, limit = walk.settings(data), walk.limit(data)
    moving, taken, rests = data, 0, False
    ones, batches = torch.ones_like(data[:, 0]), 1 if batch is None else -(-len(data) // batch)
    while taken < walk.max_iter and not rests:
        steps = min(STEPS_AT_ONCE, walk.max_iter - taken)
        record = torch.zeros(steps, dtype=torch.float32, device=data.device)
        samples = torch.randint(len(data), (steps, batches, k), generator=generator, device=data.device)
        for step in range(steps):
            then = torch.empty_like(moving)
            seen = moving if walk.blurring else data
            shift_step(moving, seen, ones, settings, record, step, then, walk.kernel.name, samples[step], batch)
            moving = then
        more, rests = steps_taken(record.tolist(), limit)
        taken += more
    return Rest(moving, ones, None, taken)


def walk_nearest(data: Tensor, walk: Walk, k: int) -> Rest:
    """Steps that look at the nearest k points, without merging."""
    from kernels.shift_triton import shift_nearest

    settings, limit = walk.settings(data), walk.limit(data)
    moving, ones = data, torch.ones_like(data[:, 0])
    for step in range(1, walk.max_iter + 1):
        then, move = torch.empty_like(moving), torch.zeros(1, dtype=torch.float32, device=data.device)
        shift_nearest(moving, moving if walk.blurring else data, ones, settings, move, then, walk.kernel.name, k)
        moving = then
        if float(move) <= limit:
            return Rest(moving, ones, None, step)
    return Rest(moving, ones, None, walk.max_iter)


def walk_merging(data: Tensor, walk: Walk, cell: float, k: int | None, algorithm: str) -> Rest | None:
    """A blurring walk in which the points of a cell become one; None where the grid would be too large.

    k: how many points each looks at, or None for all. algorithm: of `NearestNeighbors`, where no kernel holds them.
    """
    from kernels.merge_triton import Cells
    from kernels.tiles import power_of_two

    cells = Cells(data, cell)
    if cells.size > max(MAX_TABLE, 4 * len(data)):
        return None
    settings, limit = walk.settings(data), walk.limit(data)
    if len(data) <= GRAPH_POINTS and cells.size <= GRAPH_CELLS:
        shape = *data.shape, data.dtype, data.device, walk.kernel.name, k, power_of_two(cells.size, LEAST_CELLS)
        return merging(*shape).run(data, cells.bounds, cells.widths, settings, limit, walk.max_iter)
    return merging_unbuffered(data, walk, cells, k, algorithm)


def merging_unbuffered(data: Tensor, walk: Walk, cells: Cells, k: int | None, algorithm: str) -> Rest:
    """The same for many points, launched kernel by kernel over fewer of them in each step."""
    from kernels.shift_triton import shift_nearest_in_cells, shift_step

    settings, limit = walk.settings(data), walk.limit(data)
    moving, mass, inverse = cells.merge(data, torch.ones(len(data), dtype=torch.int64, device=data.device), 0.0)
    count = int(cells.occupied[-1])
    moving, mass = moving[:count], mass[:count]
    for step in range(1, walk.max_iter + 1):
        moving, mass, again = cells.merge(moving, mass, (step * GOLDEN) % 1.0)
        inverse = again[inverse]
        then, move = torch.empty_like(moving), torch.zeros(1, dtype=torch.float32, device=data.device)
        if k is None:
            heavy, undone = mass, move
            shift_step(moving, moving, heavy, settings, move, 0, then, walk.kernel.name, count=cells.occupied[-1:])
        else:
            done = torch.zeros(len(moving), dtype=torch.int8, device=data.device)
            shift_nearest_in_cells(
                moving, mass, settings, move, then, walk.kernel.name, k, cells, cells.bounds, cells.widths, done
            )  # fmt: skip
            undone = ((done == 0) & (torch.arange(len(done), device=done.device) < cells.occupied[-1])).sum()
        count, longest, left = torch.stack([cells.occupied[-1].double(), move[0].double(), undone.double().max()]).tolist()
        count = int(count)
        moving, mass, then = moving[:count], mass[:count], then[:count]
        if k is not None and left:  # a program cannot hold so many: through a search structure
            weights = mass.to(data.dtype)
            way = (shift_targets_nearest(moving, moving, weights, walk.kernel, min(k, count), algorithm) - moving) * walk.lr
            then, longest = moving + way, float(way.square().sum(1).max())
        moving = then
        if longest <= limit:
            break
    return in_order(moving, mass, inverse, step)


def find_clusters(data: Tensor, rest: Rest, bandwidth: float) -> Clusters | None:
    """The modes among points at rest, and the mode nearest to each of the data; None where too many places are at rest."""
    from kernels.modes_triton import MAX_RESTING

    if len(rest.points) > MAX_RESTING:
        return None
    lengths = _lengths(bandwidth, data.device)
    if len(data) <= FINDING_POINTS:
        centers, labels, used, n_used = finding(*data.shape, data.dtype, data.device).run(data, rest, lengths)
    else:
        modes, count, labels, used = modes_and_labels(rest.points, rest.mass, data, lengths)
        found, n_used = torch.stack([count[0], used.sum()]).tolist()
        centers, used = modes[:found], used[:found]
    if n_used < len(centers):  # a mode that is nobody's nearest is no cluster
        keep = used > 0
        centers, labels = centers[keep], (keep.cumsum(0) - 1)[labels]
    return Clusters(centers, labels, rest.points if rest.inverse is None else rest.points[rest.inverse])


@lru_cache(maxsize=64)
def _lengths(bandwidth: float, device: torch.device) -> Tensor:
    """The side of the cells in which points rest together, and the radius of a mode."""
    return torch.tensor([SAME_MODE * bandwidth, bandwidth], dtype=torch.float64, device="cpu").to(device)
