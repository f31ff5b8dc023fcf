"""Three loops: the definition of the product, and the floor that every other step stands on.

In: a (M, K), b (K, N); out: (M, N). Each multiplication is a Python bytecode loop of its own, some 50 ns for
an operation that the processor does in a fraction of one. Source: fast.ai, From Deep Learning Foundations, lesson on matmul.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.arrays import upcast_16bit


@upcast_16bit
def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a (M, K) times b (K, N), float32 or float64 on the CPU; sums are Python floats, so float64 inside."""
    rows, columns = a.tolist(), b.T.tolist()  # lists: indexing a tensor would cost microseconds for each number
    product = [[0.0] * len(columns) for _ in rows]
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            for k, value in enumerate(row):
                product[i][j] += value * column[k]
    return torch.tensor(product, dtype=a.dtype, device="cpu")
