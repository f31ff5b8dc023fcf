"""A tall matrix times a narrow one, such as (50000 x 784)(784 x 10): a is read once, at the speed of memory.

In: a (M, K), rows contiguous, b (K, N) at most 64 bytes wide, that fits shared memory; out: (M, N). There is too
little arithmetic to hide the loads behind, so everything serves them: each warp streams ROWS rows of a in
16-byte loads, each lane sums its own k, b waits in shared memory, and the lanes' sums meet by shuffles.
Source: NVIDIA, "Faster Parallel Reductions on Kepler"; the roofline, Williams, Waterman and Patterson, 2009.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import cuda, from_dtype
from torch import Tensor

from kernels.arrays import dtype_name
from kernels.backends.cuda_launch import SIMULATED, flat, kernel_for, launch, multiprocessors
from kernels.backends.cuda_memory import BYTES, copy16

MOST_BYTES = 64  # of a row of b: 16 float32 or 8 float64, whose sums for ROWS rows fit the registers
SHARED_BYTES = 48 * 1024  # for b; what a block may hold on every CUDA device
ROWS = 4  # of a for each warp at once: b's numbers are read from shared memory once for all of them
WARP, WARPS, ALL_LANES = 32, 8, 0xFFFFFFFF
BLOCKS_EACH = 2  # blocks for each multiprocessor, all resident: each loads b once and then walks over the rows


def is_applicable(a: Tensor, b: Tensor) -> bool:
    """Whether a (M, K) is tall, b (K, N) narrow and small, and rows of a can be read in 16-byte pieces."""
    (rows, depths), columns = a.shape, b.shape[1]
    size = a.element_size()
    lanes = BYTES // size
    small = columns * size <= MOST_BYTES and depths * columns * size <= SHARED_BYTES and rows > columns
    aligned = a.stride(1) == 1 and depths % lanes == 0 and a.stride(0) % lanes == 0 and a.data_ptr() % BYTES == 0
    return small and aligned


def make_add_lanes(results: int, number: Any, threads: int) -> Any:
    """A device function: each lane adds to its sums those of the lane `distance` away, by shuffles between registers.

    The simulator has no shuffles; there the sums cross through shared memory.
    """
    slots = results * threads

    def simulated(sums, distance):  # type: ignore[no-untyped-def]
        exchange, thread = cuda.shared.array(slots, number), cuda.threadIdx.x
        exchange[thread * results : (thread + 1) * results] = sums
        cuda.syncthreads()
        other = thread ^ distance
        sums += exchange[other * results : (other + 1) * results]
        cuda.syncthreads()

    @cuda.jit(device=True)
    def add_lanes(sums, distance):  # type: ignore[no-untyped-def]
        for i in range(results):
            sums[i] += cuda.shfl_xor_sync(ALL_LANES, sums[i], distance)

    return simulated if SIMULATED else add_lanes


@cache
def kernel_of(dtype: str, depths: int, columns: int, warps: int = WARPS) -> Any:
    """The kernel for one shape of b: N sums in registers for each row, so N must be a constant of the machine code."""
    number, zero, lanes = from_dtype(np.dtype(dtype)), np.dtype(dtype).type(0), BYTES // np.dtype(dtype).itemsize

    size, part, results = depths * columns, ROWS * lanes, ROWS * columns
    threads = WARP * warps
    add_lanes = make_add_lanes(results, number, threads)

    @kernel_for(threads, BLOCKS_EACH)
    def product(a, a_row, b, b_k, b_column, c, rows):  # type: ignore[no-untyped-def]
        if SIMULATED:  # it knows no alignment
            b_shared = cuda.shared.array(size, number)
        else:
            b_shared = cuda.shared.array(size, number, alignment=BYTES)
        for i in range(cuda.threadIdx.x, size, threads):
            k, column = i // columns, i % columns
            b_shared[column * depths + k] = b[k * b_k + column * b_column]
        cuda.syncthreads()
        lane = cuda.threadIdx.x % WARP
        warp = cuda.blockIdx.x * warps + cuda.threadIdx.x // WARP
        a_part, b_part = cuda.local.array(part, number), cuda.local.array(lanes, number)
        sums = cuda.local.array(results, number)
        for row0 in range(warp * ROWS, rows, cuda.gridDim.x * warps * ROWS):
            for i in range(results):
                sums[i] = zero
            for k in range(lane * lanes, depths, WARP * lanes):
                for r in range(ROWS):
                    row = min(row0 + r, rows - 1)  # the last rows are read twice rather than tested for
                    copy16(a, row * a_row + k, a_part, r * lanes)
                for column in range(columns):
                    copy16(b_shared, column * depths + k, b_part, 0)
                    for r in range(ROWS):
                        for i in range(lanes):
                            sums[r * columns + column] += a_part[r * lanes + i] * b_part[i]
            distance = WARP // 2
            while distance:
                add_lanes(sums, distance)
                distance //= 2
            for i in range(results):
                if lane == i % WARP and row0 + i // columns < rows:
                    c[row0 * columns + i] = sums[i]

    return product


def skinny(a: Tensor, b: Tensor, warps: int) -> Tensor:
    """a (M, K) times b (K, N) in blocks of so many warps; only for operands that `is_applicable` approves."""
    (rows, depths), columns = a.shape, b.shape[1]
    c = a.new_empty(rows, columns)
    blocks = min(-(-rows // (ROWS * warps)), multiprocessors(a.device) * BLOCKS_EACH)
    kernel = kernel_of(dtype_name(a), depths, columns, warps)
    launch(kernel, blocks, WARP * warps, flat(a), a.stride(0), flat(b), *b.stride(), flat(c), rows)
    return c


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a (M, K) times b (K, N), float32 or float64 on CUDA; only for operands that `is_applicable` approves."""
    return skinny(a, b, WARPS)
