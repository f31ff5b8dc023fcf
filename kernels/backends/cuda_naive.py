"""One CUDA thread for each number of the result: the lesson's first kernel, with any block shape.

In: a (M, K), b (K, N), any strides; out: (M, N). Each thread walks a row of a and a column of b through the
caches, two loads for one multiplication, so the loads are the limit. How many bytes a warp's load moves depends
on the block's shape alone: `experiments/matmul_blocks.py` counts them. Source: fast.ai, Part 2 2022, lesson 11.
"""

from __future__ import annotations

from numba import cuda
from torch import Tensor

from kernels.arrays import upcast_16bit
from kernels.backends.cuda_launch import MOST_BLOCKS_DOWN, check_block, launch

BLOCK = (16, 16)


@cuda.jit
def product(a, b, c):  # type: ignore[no-untyped-def]  # numba infers the types of kernels
    row, first = cuda.grid(2)  # x, the index that changes from thread to thread in a warp, runs over rows
    if row < c.shape[0]:
        for column in range(first, c.shape[1], cuda.gridsize(2)[1]):
            total = a[row, 0] * b[0, column]
            for k in range(1, a.shape[1]):
                total += a[row, k] * b[k, column]
            c[row, column] = total


@upcast_16bit
def matmul(a: Tensor, b: Tensor, block: tuple[int, int] = BLOCK) -> Tensor:
    """a (M, K) times b (K, N), float32 or float64 on CUDA; block (x, y): x threads over rows, y over columns."""
    check_block(block)
    c = a.new_empty(a.shape[0], b.shape[1])
    grid = (-(-c.shape[0] // block[0]), min(-(-c.shape[1] // block[1]), MOST_BLOCKS_DOWN))
    launch(product, grid, block, a, b, c)
    return c
