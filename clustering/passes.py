"""Which pass of Lloyd's algorithm suits the points: one that remembers bounds, one that needs no host, or the plain one.

In: points (N, D), weights (N,) and the number of clusters; out: a `LloydPass`. Here the kinds of passes are known;
they do not know of each other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clustering.lloyd import WORTH_COMPILING, LloydPass, has_fused_kernels

BOUNDED_FEATURES = 12  # fewer cost less to score anew than their bounds cost to read
BOUNDED_CLUSTERS = 16


def make_pass(x: Tensor, weights: Tensor | None, k: int, spherical: bool = False) -> LloydPass:
    """A pass for many iterations over the same points: with bounds where remembering saves more than it costs.

    Two bounds and a label for each point take at most a quarter of the points' own memory. spherical: centers will be scaled
    to unit length.
    """
    if has_fused_kernels(x):
        from clustering.fused import FusedPass  # loads triton

        return FusedPass(x, weights, k, spherical)
    wide = x.shape[1] >= BOUNDED_FEATURES and x.dtype in (torch.float32, torch.float64)
    worth = k >= BOUNDED_CLUSTERS and x.numel() * k >= WORTH_COMPILING
    if x.device.type == "cpu" and x.is_contiguous() and wide and worth:
        from clustering.bounded import BoundedPass  # loads numba

        return BoundedPass(x, weights)
    return LloydPass(x, weights)
