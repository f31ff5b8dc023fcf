"""Nearest centers on CUDA: the buffers and launches around `labels_triton`'s kernels.

In: points (N, D) of float16, bfloat16 or float32, centers (K, D); out: labels, and squared distances where asked for.
`Assignment` is what k-means keeps from one iteration to the next; `nearest_centers` makes one and throws it away.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from kernels import labels_triton, sums_triton, tiles
from kernels.arrays import centering
from kernels.registry import BACKENDS, emulated
from kernels.tiles import LabelTile, power_of_two

INTERPRETED = emulated(BACKENDS["triton"])


def capability(device: torch.device) -> tuple[int, int]:
    """The card's compute capability; Hopper's in Triton's interpreter."""
    return (9, 0) if INTERPRETED else torch.cuda.get_device_capability(device)


class Assignment:
    """Points (N, D), and K centers as the kernels' products want them.

    Attributes: high, low (padded K, padded D): the centers less `offset`, in the points' dtype or as two TF32 halves;
    halves (padded K,): half their squared norms. state: what the kernels look at before they start, see `sums_triton`.
    """

    def __init__(self, x: Tensor, k: int, offset: Tensor, state: Tensor | None = None, tile: LabelTile | None = None) -> None:
        self.x, self.k, self.offset = x, k, offset
        self.n, self.d = x.shape
        self.state = torch.zeros(4, dtype=torch.int32, device=x.device) if state is None else state
        self.direct = self.d <= tiles.FEW_FEATURES
        self.split = x.dtype == torch.float32
        self.high = self.low = self.halves = self.centers = offset  # of `direct_kernel` only the centers are looked at
        if not self.direct:
            self._make_operands(tile or tiles.label_tile(self.d, k, x.element_size(), capability(x.device)))

    def _make_operands(self, tile: LabelTile) -> None:
        self.tile, device = tile, self.x.device
        self.chunks = triton.cdiv(self.d, tile.depth)
        shape = triton.cdiv(self.k, tile.centers) * tile.centers, self.chunks * tile.depth
        self.high = torch.zeros(shape, dtype=self.x.dtype, device=device)
        self.low = torch.zeros_like(self.high) if self.split else self.high
        self.halves = torch.full(shape[:1], torch.inf, device=device)
        self.operands: list[Any] = [self.high, self.low]
        if tile.tensor:
            from triton.tools.tensor_descriptor import TensorDescriptor

            self.operands = [TensorDescriptor.from_tensor(rows, [tile.centers, tile.depth]) for rows in self.operands]

    def load(self, centers: Tensor) -> None:
        """Take these centers (K, D), contiguous, of float32; `direct_kernel` goes on reading them where they are."""
        self.centers = centers
        if not self.direct:
            sums_triton.prepare_kernel[(self.k,)](
                centers, self.offset, self.high, self.low, self.halves, self.d, self.high.shape[1],
                DEPTH=power_of_two(self.d), SPLIT=self.split, num_warps=4,
            )  # fmt: skip

    def label(self, labels: Tensor) -> None:
        """Fill labels (N,), of any integer type that holds K, with each point's nearest center; of equal ones the first."""
        if self.direct:
            points, centers = 128, min(16, power_of_two(self.k))
            labels_triton.direct_kernel[(triton.cdiv(self.n, points),)](
                self.x, self.centers, labels, self.state, self.n, self.k, *self.x.stride(), D=self.d, POINTS=points,
                CENTERS=centers, PAIRS=self.d == 2 and self.x.is_contiguous(), num_warps=4,
            )  # fmt: skip
            return
        tile = self.tile
        labels_triton.label_kernel[(triton.cdiv(self.n, tile.points),)](
            self.x, self.offset, *self.operands, self.halves, labels, self.state, self.n, len(self.halves), self.d,
            *self.x.stride(), POINTS=tile.points, CENTERS=tile.centers, DEPTH=tile.depth, CHUNKS=self.chunks, LANES=tile.lanes,
            SPLIT=self.split, WHOLE=self.d == self.high.shape[1], WIDEN=INTERPRETED, TENSOR=tile.tensor,
            LONG=self.high.numel() >= 1 << 31, num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip

    def distances(self, centers: Tensor, labels: Tensor) -> Tensor:
        """Squared distances (N,) of the points to the centers (K, D) of their labels, by the definition."""
        found = torch.empty(self.n, dtype=torch.float32, device=self.x.device)
        depth = min(128, power_of_two(self.d))
        labels_triton.distance_kernel[(triton.cdiv(self.n, 4096 // depth),)](
            self.x, centers, labels, found, self.n, self.d, *self.x.stride(), POINTS=4096 // depth, DEPTH=depth, num_warps=4,
        )  # fmt: skip
        return found


def nearest_centers(x: Tensor, centers: Tensor, tile: LabelTile | None = None) -> tuple[Tensor, Tensor]:
    """`kernels.nearest_centers` for non-empty float16, bfloat16 or float32 points on CUDA."""
    with torch.cuda.device_of(x):
        assignment = Assignment(x, len(centers), centering(x, centers), tile=tile)
        wide = centers.to(torch.float32).contiguous()
        assignment.load(wide)
        labels = torch.empty(len(x), dtype=torch.int64, device=x.device)
        assignment.label(labels)
        return labels, assignment.distances(wide, labels)
