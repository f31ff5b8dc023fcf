"""No loop left: the product as Einstein wrote it, an index that repeats is summed.

In: a (M, K), b (K, N); out: (M, N). torch recognizes the pattern and calls its batched matrix product, so the
step costs what the library costs, plus some microseconds of parsing.
"""

from __future__ import annotations

import torch
from torch import Tensor


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a (M, K) times b (K, N), any float dtype, any device."""
    return torch.einsum("ik,kj->ij", a, b)
