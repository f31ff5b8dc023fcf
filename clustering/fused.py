"""Lloyd passes by `kernels.lloyd`: on CUDA an iteration needs no host, and sums are taken about each cluster's center.

In: points (N, D) of float16, bfloat16 or float32 and, call after call, centers (K, D); out: totals as of any pass, or the
centers after as many iterations as it takes, with one look from the host every few of them.
"""

from __future__ import annotations

from torch import Tensor

from clustering.lloyd import LloydPass, Totals
from kernels.lloyd import EMPTY, Lloyd


class FusedPass(LloydPass):
    """A pass that keeps its buffers on the device."""

    def __init__(self, x: Tensor, weights: Tensor | None, k: int, spherical: bool = False) -> None:
        super().__init__(x, weights)
        self.lloyd = Lloyd(x, weights, k, normalize=spherical)

    def accumulate(self, centers: Tensor) -> Totals:
        return Totals(*self.lloyd.accumulate(centers))

    def iterate(self, centers: Tensor, limit: float, most: int) -> tuple[Tensor, int, bool]:
        """Iterate until the centers' squared movement is at most `limit`, a cluster is empty, or `most` iterations are made.

        Returns centers (K, D), the iterations made, and whether a cluster has become empty: the centers are then those
        before that, for the caller to mend.
        """
        moved, made, state = self.lloyd.iterate(centers, limit, most)
        return moved, made, state == EMPTY
