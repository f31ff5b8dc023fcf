"""NumPy's matrix product, which is OpenBLAS in the wheels of PyPI.

In: a (M, K), b (K, N) on the CPU; out: (M, N). 16-bit numbers go through float32, because NumPy multiplies
float16 in plain loops without BLAS and does not know bfloat16.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.arrays import upcast_16bit


@upcast_16bit
def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a (M, K) times b (K, N), float32 or float64 on the CPU; transposed views are passed on without a copy."""
    return torch.from_numpy(a.detach().numpy() @ b.detach().numpy())
