"""One loop left: row i of the result is b's rows, each scaled by one number of a's row i, and summed.

In: a (M, K), b (K, N); out: (M, N). Broadcasting moves two of the loops into compiled code, but writes a
(K, N) product for each row to memory and reads it back: bound by memory, not by arithmetic.
"""

from __future__ import annotations

from torch import Tensor

from kernels.arrays import upcast_16bit


@upcast_16bit  # the products are stored, and 16 bits would round each of them
def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a (M, K) times b (K, N), any float dtype, any device."""
    result = a.new_empty(a.shape[0], b.shape[1])  # rows kept one by one would scatter the heap: 4 GB at 1024³
    for i, row in enumerate(a):
        result[i] = (row[:, None] * b).sum(0)  # (K, 1) * (K, N) -> (N,)
    return result
