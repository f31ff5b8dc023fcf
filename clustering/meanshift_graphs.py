"""Steps of mean shift over buffers of their own, replayed as CUDA graphs; elsewhere the same calls are made one by one.

In: points (N, D ≤ 8), where they rest, the numbers that the kernels read; out: where the points came to rest, and the modes
among them. `captured`, `merging` and `finding` keep what was captured for points of the same shape.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

GRAPHS = 8  # kept; of at most `meanshift_fused.GRAPH_POINTS` points each, so a few MB
GOLDEN = 0.618034  # steps of the merging grid's offset: never the same border twice


class Rest(NamedTuple):
    """Points that may stand for several: where they rest (M, D), how many each is (M,), and of which each old one, (N,)."""

    points: Tensor
    mass: Tensor
    inverse: Tensor | None  # None: each of itself
    n_iter: int


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


class Captured:
    """A row of steps over buffers of its own, replayed as one CUDA graph; where there is no CUDA, launched one by one."""

    def __init__(self, n: int, features: int, dtype: torch.dtype, device: torch.device, kernel: str, steps: int, blurring: bool):
        self.moving = [torch.zeros(n, features, dtype=dtype, device=device) for _ in range(2)]
        self.data = None if blurring else torch.zeros(n, features, dtype=dtype, device=device)
        self.mass = torch.ones(n, dtype=dtype, device=device)
        self.settings = torch.ones(5, dtype=dtype, device=device)
        self.moves = torch.zeros(steps, dtype=torch.float32, device=device)
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
        self.move, self.report = (
            torch.zeros(1, dtype=torch.float32, device=device),
            torch.zeros(2, dtype=torch.float64, device=device),
        )
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
