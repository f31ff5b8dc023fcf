"""torch's own product: the vendor's library, oneDNN or MKL on the CPU and cuBLAS on CUDA.

In: a (M, K), b (K, N); out: (M, N). The rate that every kernel of ours is measured against.
"""

from __future__ import annotations

import torch
from torch import Tensor


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a (M, K) times b (K, N), any float dtype, any device; precision as set by torch.set_float32_matmul_precision."""
    return torch.mm(a, b)
