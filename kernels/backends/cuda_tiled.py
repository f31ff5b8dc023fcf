"""Tiles in shared memory: the threads of a block load together what all of them need, and read it from there.

In: a (M, K), b (K, N), any strides; out: (M, N). With a block of x by y threads, each number of a is loaded once
for x results and each number of b once for y, instead of once for every result; loads of neighboring threads
are neighbors in memory. The limit is now shared memory: two reads for one multiplication.
Source: CUDA C++ Programming Guide, "Shared memory"; fast.ai, Part 2 2022, lesson 11.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import cuda, from_dtype
from torch import Tensor

from kernels.arrays import dtype_name, upcast_16bit
from kernels.backends.cuda_launch import check_block, kernel_for, launch

BLOCK, NARROW = (32, 8), (16, 16)
SHARED_BYTES = 48 * 1024  # what a block may hold on every CUDA device


def choose_block(columns: int) -> tuple[int, int]:
    """Threads over columns and rows: as few over columns as a narrow result has, so that few stand idle."""
    return BLOCK if columns > NARROW[0] else NARROW


def depth_of(x: int, y: int, itemsize: int) -> int:
    """How many k a tile spans: 32 (a warp's width), or what fits beside it in shared memory for large blocks."""
    return min(32, SHARED_BYTES // ((x + y) * itemsize))


@cache
def kernel_of(x: int, y: int, dtype: str) -> Any:
    """The kernel for blocks of x by y threads: the sizes of shared arrays are constants of the machine code."""
    number = from_dtype(np.dtype(dtype))
    depth, threads = depth_of(x, y, np.dtype(dtype).itemsize), x * y
    zero = np.dtype(dtype).type(0)

    @kernel_for(threads)
    def product(a, b, c):  # type: ignore[no-untyped-def]  # numba infers the types of kernels
        a_tile = cuda.shared.array((y, depth), number)
        b_tile = cuda.shared.array((depth, x), number)
        across = (c.shape[1] + x - 1) // x  # tiles across the result; one grid dimension counts them all
        row0, column0 = cuda.blockIdx.x // across * y, cuda.blockIdx.x % across * x
        tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
        thread = ty * x + tx
        total = zero
        for k0 in range(0, a.shape[1], depth):
            for i in range(thread, y * depth, threads):  # neighbors in a thread's row of a, then of b
                row, k = row0 + i // depth, k0 + i % depth
                a_tile[i // depth, i % depth] = a[row, k] if row < a.shape[0] and k < a.shape[1] else zero
            for i in range(thread, depth * x, threads):
                k, column = k0 + i // x, column0 + i % x
                b_tile[i // x, i % x] = b[k, column] if k < b.shape[0] and column < b.shape[1] else zero
            cuda.syncthreads()
            for k in range(depth):
                total += a_tile[ty, k] * b_tile[k, tx]
            cuda.syncthreads()  # nobody may load the next tiles while somebody still reads these
        if row0 + ty < c.shape[0] and column0 + tx < c.shape[1]:
            c[row0 + ty, column0 + tx] = total

    return product


@upcast_16bit
def matmul(a: Tensor, b: Tensor, block: tuple[int, int] | None = None) -> Tensor:
    """a (M, K) times b (K, N), float32 or float64 on CUDA; block (x, y): x threads over columns, y over rows."""
    block = choose_block(b.shape[1]) if block is None else block
    check_block(block)
    x, y = block
    c = a.new_empty(a.shape[0], b.shape[1])
    blocks = -(-c.shape[0] // y) * -(-c.shape[1] // x)
    launch(kernel_of(x, y, dtype_name(c)), blocks, (x, y), a, b, c)
    return c
