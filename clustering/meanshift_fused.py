"""Mean shift where Triton runs: one kernel a step, many steps without the host, and the clusters found on the device.

In: points (N, D ≤ 8), a kernel, what to look at; out: centers, labels and where the points came to rest, as
`MeanShift` finds them on the CPU. Small walks are captured in CUDA graphs, which are kept for walks of the same shape;
walks that merge points number the cells of a dense grid instead of sorting keys.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from clustering.shift import Kernel, shift_targets_nearest

if TYPE_CHECKING:
    from kernels.merge_triton import Cells

MAX_FEATURES = 8
GRAPH_POINTS = 1 << 14  # above, a step takes longer than its launch
GRAPHS = 8  # kept; of at most GRAPH_POINTS points each, so a few MB
FINDING_POINTS = 1 << 12  # whose modes are found by a graph: it compares all pairs of places, however few are at rest
GRAPH_CELLS = 1 << 20  # of a grid whose steps are captured: two tables of 4 MB
LEAST_CELLS = 1 << 16  # of a captured grid: grids of similar extent share one
STEPS_AT_ONCE = 8  # before the host looks whether the points rest
MAX_TABLE = 1 << 22  # cells that a grid may have, or four for each point
GOLDEN = 0.618034  # steps of the merging grid's offset: never the same border twice
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
        return float(torch.tensor((self.tol * self.kernel.bandwidth) ** 2, dtype=like.dtype))


class Rest(NamedTuple):
    """Points that may stand for several: where they rest (M, D), how many each is (M,), and of which each old one, (N,)."""

    points: Tensor
    mass: Tensor
    inverse: Tensor | None  # None: each of itself
    n_iter: int


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


class Captured:
    """A row of steps over buffers of its own, replayed as one CUDA graph; where there is no CUDA, launched one by one."""

    def __init__(self, n: int, features: int, dtype: torch.dtype, device: torch.device, kernel: str, steps: int, blurring: bool):
        self.moving = [torch.zeros(n, features, dtype=dtype, device=device) for _ in range(2)]
        self.data = None if blurring else torch.zeros(n, features, dtype=dtype, device=device)
        self.mass = torch.ones(n, dtype=dtype, device=device)
        self.settings = torch.ones(5, dtype=dtype, device=device)
        self.moves = torch.zeros(steps, device=device)
        self.kernel, self.lock = kernel, threading.Lock()
        self.launch = replayed(self._launch, device)

    def _launch(self) -> None:
        from kernels.shift_triton import shift_step

        self.moves.zero_()
        for step in range(len(self.moves)):
            now, then = self.moving[step % 2], self.moving[1 - step % 2]
            data = now if self.data is None else self.data
            shift_step(now, data, self.mass, self.settings, self.moves, step, then, self.kernel)

    def run(self, points: Tensor, data: Tensor | None, settings: Tensor) -> tuple[Tensor, list[float]]:
        """Where the points are after the steps, and each step's longest squared move."""
        with self.lock:
            self.moving[0].copy_(points)
            self.settings.copy_(settings)
            if self.data is not None and data is not None:
                self.data.copy_(data)
            self.launch()
            moved = self.moving[len(self.moves) % 2].clone()
            return moved, self.moves.tolist()  # waits, so the buffers are free again


captured = lru_cache(maxsize=GRAPHS)(Captured)


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
            record = torch.zeros(steps, device=data.device)
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
        record = torch.zeros(steps, device=data.device)
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
        then, move = torch.empty_like(moving), torch.zeros(1, device=data.device)
        shift_nearest(moving, moving if walk.blurring else data, ones, settings, move, then, walk.kernel.name, k)
        moving = then
        if float(move) <= limit:
            return Rest(moving, ones, None, step)
    return Rest(moving, ones, None, walk.max_iter)


class Merging:
    """One merging step over buffers of its own, replayed as a CUDA graph: points of a cell become one, and all move.

    Grids of any bandwidth and extent of up to `cells` cells share the buffers. How many points are left only the device
    knows; the host asks once a step. Of at most GRAPH_POINTS points every program holds all candidates.
    """

    def __init__(self, n: int, features: int, dtype: torch.dtype, device: torch.device, kernel: str, k: int | None, cells: int):
        from kernels.merge_triton import Merged

        self.moving = torch.zeros(n, features, dtype=dtype, device=device)
        self.mass = torch.ones(n, dtype=torch.int64, device=device)
        self.inverse, self.scratch = torch.zeros(2, n, dtype=torch.int64, device=device)
        self.count = torch.ones(1, dtype=torch.int32, device=device)
        self.bounds = torch.ones(3 + features, dtype=torch.float64, device=device)
        self.widths = torch.ones(features, dtype=torch.int32, device=device)
        self.settings = torch.ones(5, dtype=dtype, device=device)
        self.move, self.report = torch.zeros(1, device=device), torch.zeros(2, dtype=torch.float64, device=device)
        self.done = torch.zeros(n, dtype=torch.int8, device=device)
        self.room, self.kernel, self.k = Merged(self.moving, cells), kernel, k
        self.lock, self.free = threading.Lock(), None
        self.first, self.step = replayed(self._first, device), replayed(self._step, device)

    def _merge(self) -> None:
        from kernels.merge_triton import merge_cells

        merge_cells(self.moving, self.mass, self.bounds, self.widths, self.room, self.count)
        torch.index_select(self.room.inverse, 0, self.inverse, out=self.scratch)
        for kept, new in ((self.inverse, self.scratch), (self.mass, self.room.totals), (self.count, self.room.occupied[-1:])):
            kept.copy_(new)

    def _first(self) -> None:
        """Merge, and stay there."""
        self._merge()
        self.moving.copy_(self.room.means)

    def _step(self) -> None:
        """Merge and move; the report says how many points are left and how far the longest squared move went."""
        from kernels.shift_triton import shift_nearest_in_cells, shift_step

        self._merge()
        self.move.zero_()
        means, mass, settings, room = self.room.means, self.mass, self.settings, self.room
        if self.k is None:
            shift_step(means, means, mass, settings, self.move, 0, self.moving, self.kernel, count=self.count)
        else:
            self.done.zero_()
            grid = room, self.bounds, self.widths, self.done
            shift_nearest_in_cells(means, mass, settings, self.move, self.moving, self.kernel, self.k, *grid)
        self.report[:1].copy_(self.count)
        self.report[1:].copy_(self.move)

    def run(self, data: Tensor, bounds: Tensor, widths: Tensor, settings: Tensor, limit: float, most: int) -> Rest:
        """Where the points come to rest, in at most so many steps. bounds, widths: of the grid, as `Cells` has them."""
        with self.lock:
            if self.free is not None:
                torch.cuda.current_stream(data.device).wait_event(self.free)
            for kept, given in ((self.moving, data), (self.bounds, bounds), (self.widths, widths), (self.settings, settings)):
                kept.copy_(given)
            self.mass.fill_(1)
            self.count.fill_(len(data))
            torch.arange(len(data), out=self.inverse)
            self.first()
            for taken in range(1, most + 1):
                self.bounds[1] = (taken * GOLDEN) % 1.0
                self.step()
                count, longest = self.report.tolist()
                if longest <= limit:
                    break
            rest = in_order(self.moving[: int(count)], self.mass[: int(count)], self.inverse, taken)
            if data.is_cuda:
                self.free = torch.cuda.current_stream(data.device).record_event()
            return rest


merging = lru_cache(maxsize=GRAPHS)(Merging)


def replayed(call: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """A call over fixed buffers as it is to be made: as a CUDA graph, after one run that compiles; as it is elsewhere."""
    if device.type != "cuda":
        return call
    with torch.cuda.device(device):
        call()
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            graph.capture_begin()
            call()
            graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)
    return graph.replay


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
        then, move = torch.empty_like(moving), torch.zeros(1, device=data.device)
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


def in_order(points: Tensor, mass: Tensor, inverse: Tensor, n_iter: int) -> Rest:
    """Merged points in the order of the first old point of each, wherever the grid lay."""
    places = torch.arange(len(inverse), device=inverse.device)
    first = torch.full((len(points),), len(inverse), device=inverse.device).scatter_reduce_(0, inverse, places, "amin")
    order = first.argsort()
    rank = torch.empty_like(order).scatter_(0, order, places[: len(order)])
    return Rest(points[order], mass[order], rank[inverse], n_iter)


class Finding:
    """Modes and labels of at most `n` points at rest and n data, over buffers of its own, replayed as a CUDA graph."""

    def __init__(self, n: int, features: int, dtype: torch.dtype, device: torch.device):
        self.points, self.data = torch.zeros(2, n, features, dtype=dtype, device=device)
        self.mass = torch.ones(n, dtype=torch.float64, device=device)
        self.lengths = torch.ones(2, dtype=torch.float64, device=device)
        self.lock = threading.Lock()
        self.launch = replayed(self._launch, device)

    def _launch(self) -> None:
        self.modes, self.count, self.labels, self.used = modes_and_labels(self.points, self.mass, self.data, self.lengths)
        self.report = torch.stack([self.count[0], self.used.sum()])

    def run(self, data: Tensor, rest: Rest, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
        """The modes, the label of each of the data, which modes have points, and how many have."""
        with self.lock:
            count = len(rest.points)
            self.mass[count:] = 0  # what lies there from another fit rests nowhere
            for kept, new in ((self.points, rest.points), (self.mass, rest.mass)):
                kept[:count].copy_(new)
            self.data.copy_(data)
            self.lengths.copy_(lengths)
            self.launch()
            labels, modes, used = self.labels.clone(), self.modes.clone(), self.used.clone()
            found, n_used = self.report.tolist()  # waits, so the buffers are free again
            return modes[:found], labels, used[:found], n_used


finding = lru_cache(maxsize=GRAPHS)(Finding)


def modes_and_labels(points: Tensor, mass: Tensor, data: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Modes (M, D), of which the first `count` (1,) are any, labels (N,) of the data and which modes have points."""
    from kernels.modes_triton import greedy_modes, label_points, rest_masses

    means, totals = rest_masses(points, mass, lengths[:1])
    modes, count = greedy_modes(means, totals, lengths[1:])
    return modes, count, *label_points(data, modes, count)


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
    return torch.tensor([SAME_MODE * bandwidth, bandwidth], dtype=torch.float64).to(device)
