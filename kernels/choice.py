"""Which backend `matmul("auto")` takes, by measurement: a table for each compute capability.

In: two operands; out: a backend's name. A row says where a kernel of ours was measured to be faster than cuBLAS, and from
how many bytes on: below, launching it from Python takes longer than the product. Where nothing was measured, or a
gradient is wanted, it is torch. `python -m kernels.bench` measures it again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.arrays import dtype_name
from kernels.registry import unavailable_reason

FEW = 16  # columns of a narrow operand, or rows of a low one


@dataclass(frozen=True)
class Measured:
    """A class of products for which `backend` was measured beside torch on the same card, in the same run."""

    shape: str  # "tall": (M, K) times (K, N ≤ FEW); "wide": (M ≤ FEW, K) times (K, N)
    dtype: str
    backend: str
    microseconds: float  # of (50000×784)·(784×10), or of its transpose
    torch_microseconds: float
    least_bytes: int = 1 << 28  # of the large operand


# NVIDIA H200, 2026-11-26, torch 2.11.0+cu130, triton 3.6.0, numba-cuda 0.30.4: experiments/results/gpu-h200.json. Backend
# "triton" is faster still in float32 (58 and 52 us, and 1.4 times cuBLAS on squares), but not here: of an infinite operand
# its three TF32 products make NaN. Low float16 and bfloat16 operands: level with cuBLAS.
TABLE: dict[tuple[int, int], tuple[Measured, ...]] = {
    (9, 0): (
        Measured("tall", "float32", "numba-cuda", 70.1, 79.8, least_bytes=1 << 30),  # numba takes 0.3 ms to launch
        Measured("wide", "float32", "numba-cuda", 74.5, 95.6, least_bytes=1 << 30),
        Measured("tall", "bfloat16", "triton", 34.0, 54.8),
        Measured("tall", "float16", "triton", 33.9, 51.6),
    ),
}


def shape_of(a: Tensor, b: Tensor) -> str | None:
    """ "tall", "wide" or None."""
    if b.shape[1] <= FEW < a.shape[0]:
        return "tall"
    return "wide" if a.shape[0] <= FEW < b.shape[1] else None


def choose(a: Tensor, b: Tensor, capability: tuple[int, int] | None = None) -> str:
    """The fastest backend for a (M, K) and b (K, N). capability: of their device, looked up if not given."""
    shape = shape_of(a, b) if a.is_cuda or capability is not None else None
    if shape is None or (torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)):
        return "torch"
    large = a if shape == "tall" else b
    capability = torch.cuda.get_device_capability(a.device) if capability is None else capability
    for row in TABLE.get(capability, ()):
        fits = row.shape == shape and row.dtype == dtype_name(a) and large.numel() * large.element_size() >= row.least_bytes
        if fits and unavailable_reason(row.backend, a.device.type) is None:
            return row.backend
    return "torch"
