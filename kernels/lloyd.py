"""Lloyd's iterations on the device that holds the points: nothing is allocated and no host is waited for between them.

In: points (N, D) of float16, bfloat16 or float32 on CUDA, centers (K, D) of float32; out: new centers, sums, or labels. An
iteration is a CUDA graph: labels, their sort, sums of equal shares, new centers, the stop test. The host looks at `state` every
few iterations; those queued past the end return at once. Same points, same centers, same card: the same bits. 16-bit
points meet centers that are rounded as they are; sums and centers stay wide. Source: Lloyd (1982); the order of work is
that of Yang et al., Flash-KMeans, 2026.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from kernels import sums_triton, tiles
from kernels.pairwise_triton import INTERPRETED, Assignment
from kernels.tiles import LabelTile, power_of_two

MOST_POINTS = 1 << 30  # of one pass: row numbers are 32 bits wide
MOST_FEATURES = 4096  # that a program of `collect_kernel` holds
LOOK = 8  # iterations between two looks at the state
SAMPLE = 1 << 16  # points whose mean is the offset
RUNNING, RESTED, EMPTY = 0, 1, 2  # state[0]


class Lloyd:
    """Points (N, D), weights (N,) or None, and the buffers for K clusters of them.

    normalize: centers are scaled to unit length. tile: of `label_kernel`, chosen by shape unless given.
    """

    def __init__(self, x: Tensor, weights: Tensor | None, k: int, normalize: bool = False, tile: LabelTile | None = None) -> None:
        if len(x) > MOST_POINTS or x.shape[1] > MOST_FEATURES:
            raise ValueError(f"a pass takes at most {MOST_POINTS} points of {MOST_FEATURES} features, not {tuple(x.shape)}")
        self.x, self.k, self.normalize = x.detach(), k, normalize
        self.n, self.d = x.shape
        self.weights, self.unit = _scaled(weights)
        self.multiprocessors = 2 if INTERPRETED else torch.cuda.get_device_properties(x.device).multi_processor_count
        self.centers = self._new(k, self.d)
        self.state = self._new(4, dtype=torch.int32).zero_()
        self.graph: Any = None
        self.graph_limit: float | None = None
        self.offset = self._offset()
        few = self.d <= tiles.FEW_FEATURES and power_of_two(k) * (self.d + 1) <= tiles.FEW_NUMBERS
        self.kind = "few" if few else "many"
        if self.kind == "many":
            self._make_many(tile)
        else:
            self._make_few()

    def _new(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(*shape, dtype=dtype, device=self.x.device)

    def _offset(self) -> Tensor:
        """(D,): what is taken from points and centers before |c|^2 / 2 - x.c, which loses digits where norms are large.

        The mean of some of the points; nothing for 16-bit numbers, whose products float32 holds exactly as they are.
        """
        if self.x.dtype != torch.float32:
            return self._new(self.d).zero_()
        return self.x[:: max(1, self.n // SAMPLE)].mean(0, dtype=torch.float64).float()

    def _make_few(self) -> None:
        self.kp, self.dp = power_of_two(self.k), power_of_two(self.d)
        self.set_few(*tiles.FEW)

    def set_few(self, block: int, warps: int, each: int) -> None:
        """Points a program reads at a time, its warps, and programs a multiprocessor."""
        self.block, self.warps = block, warps
        self.programs = max(1, min(self.multiprocessors * each, triton.cdiv(self.n, block)))
        self.partial, self.masses = self._new(self.programs, self.kp, self.dp), self._new(self.programs, self.kp)

    def _make_many(self, tile: LabelTile | None) -> None:
        self.assignment = Assignment(self.x, self.k, self.offset, self.state, tile)
        small = torch.int16 if self.k <= 1 << 15 else torch.int32
        self.labels, self.ordered = (self._new(self.n, dtype=small) for _ in range(2))
        self.order = self._new(self.n, dtype=torch.int64)
        self.starts = self._new(self.k + 1, dtype=torch.int32)
        self.moved, self.shifts = self._new(self.k, self.d), self._new(self.k)
        self.depth = min(128, power_of_two(self.d))  # features that a program of `gather_kernel` adds
        self.set_share(tiles.rows_each(self.n, self.multiprocessors), tiles.ROWS_AT_A_TIME, tiles.GATHER_WARPS)

    def set_share(self, share: int, rows: int, warps: int) -> None:
        """Most rows of a program of `gather_kernel`, rows it reads at a time, its warps."""
        self.share, self.rows, self.gather_warps = share, rows, warps
        self.slots = self.n // share + self.k
        self.partial = self._new(self.slots, self.d)
        self.masses = self._new(self.slots) if self.weights is not None else self.partial

    def accumulate(self, centers: Tensor) -> tuple[Tensor, Tensor]:
        """Sums (K, D) and counts (K,) of the points nearest to each center, weighted, in float64."""
        sums, counts = self._new(self.k, self.d, dtype=torch.float64), self._new(self.k, dtype=torch.float64)
        with torch.cuda.device_of(self.x):
            self.load(centers)
            self.step(0.0, sums, counts)
        return sums * self.unit, counts * self.unit

    def iterate(self, centers: Tensor, limit: float, most: int) -> tuple[Tensor, int, int]:
        """Iterate until the squared movement is at most `limit`, a cluster is empty, or `most` iterations are made.

        Returns centers (K, D), the iterations made, and the state: RUNNING, RESTED or EMPTY. With an empty cluster the
        centers are those before the iteration that emptied it, which is not counted.
        """
        made, state = 0, RUNNING
        with torch.cuda.device_of(self.x):
            self.load(centers)
            while made < most and state == RUNNING:
                for _ in range(min(LOOK, most - made)):
                    self._replay(limit)
                state, made = self.state.tolist()[:2]
        return self.centers.clone(), made, state

    def load(self, centers: Tensor) -> None:
        """Start from these centers (K, D), running."""
        self.centers.copy_(centers)
        self.state.zero_()
        if self.kind == "many":
            self.assignment.load(self.centers)

    def _replay(self, limit: float) -> None:
        """One iteration, as a graph from the second on: the first compiles what it launches."""
        if self.graph is not None and self.graph_limit == limit:
            self.graph.replay()
            return
        self.step(limit)
        if not INTERPRETED:
            self.graph, self.graph_limit = torch.cuda.CUDAGraph(), limit
            with torch.cuda.graph(self.graph):
                self.step(limit)

    def step(self, limit: float, sums: Tensor | None = None, counts: Tensor | None = None) -> None:
        """Queue one iteration; where `sums` and `counts` are given they are filled, and the centers stay."""
        if self.kind != "many":
            self.few_step(limit, sums, counts)
            return
        self.assignment.label(self.labels)
        torch.sort(self.labels, out=(self.ordered, self.order))
        self.gather()
        self.collect(sums, counts)
        if sums is None:
            sums_triton.commit_kernel[(triton.cdiv(self.k * self.d, 1024),)](
                self.moved, self.centers, self.shifts, self.state, self.k, self.k * self.d, limit, BLOCK=1024, num_warps=4,
            )  # fmt: skip

    def few_step(self, limit: float, sums: Tensor | None = None, counts: Tensor | None = None) -> None:
        """`step` for few clusters."""
        weights, weighted = (self.x, False) if self.weights is None else (self.weights, True)
        together = min(power_of_two(self.programs), max(1, 4096 // (self.kp * self.dp)))  # programs whose sums are added at once
        sums_triton.few_kernel[(self.programs,)](
            self.x, weights, self.centers, self.partial, self.masses, sums, counts, self.state, self.n, limit,
            *self.x.stride(), K=self.k, KP=self.kp, D=self.d, DP=self.dp, BLOCK=self.block, STEP=together, WEIGHTED=weighted,
            PAIRS=self.d == 2 and self.x.is_contiguous(), NORMALIZE=self.normalize, TOTALS=sums is not None,
            WIDEN=INTERPRETED, num_warps=self.warps,
        )  # fmt: skip

    def gather(self) -> None:
        """Sums of each share of the rows sorted by label."""
        sums_triton.starts_kernel[(triton.cdiv(self.k + 1, 128),)](
            self.ordered, self.starts, self.state, self.n, self.k, self.n.bit_length(), BLOCK=128, num_warps=4
        )
        weights = self.x if self.weights is None else self.weights
        sums_triton.gather_kernel[(self.slots, triton.cdiv(self.d, self.depth))](
            self.x, weights, self.order, self.starts, self.centers, self.partial, self.masses, self.state, self.k, self.d,
            self.k.bit_length(), *self.x.stride(), SHARE=self.share, ROWS=self.rows, DEPTH=self.depth,
            WEIGHTED=self.weights is not None, num_warps=self.gather_warps,
        )  # fmt: skip

    def collect(self, sums: Tensor | None = None, counts: Tensor | None = None) -> None:
        """New centers from the shares' sums, or the totals."""
        depth, made = power_of_two(self.d), self.assignment
        sums_triton.collect_kernel[(self.k,)](
            self.partial, self.masses, self.starts, self.centers, self.moved, sums, counts, self.shifts, self.offset, made.high,
            made.low, made.halves, self.state, self.k, self.d, made.high.shape[-1], SHARE=self.share,
            ROWS=max(1, min(16, 4096 // depth)), DEPTH=depth, WEIGHTED=self.weights is not None, NORMALIZE=self.normalize,
            TOTALS=sums is not None, PREPARE=not made.direct, SPLIT=made.split, num_warps=4,
        )  # fmt: skip


def _scaled(weights: Tensor | None) -> tuple[Tensor | None, float | Tensor]:
    """Weights (N,) in float32, divided by a power of two near the largest, so that none overflows; and that power."""
    if weights is None:
        return None, 1.0
    wide = weights.detach().double()
    unit = torch.ldexp(torch.ones_like(wide[0]), torch.frexp(wide.max()).exponent)
    return (wide / unit).float(), unit
